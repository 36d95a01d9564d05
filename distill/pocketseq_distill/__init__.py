"""Teacher to student: corpus, labels, filters, training, evaluation and serving."""
