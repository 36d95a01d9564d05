"""Students: models smaller than their teacher, cut out of it or built anew."""
