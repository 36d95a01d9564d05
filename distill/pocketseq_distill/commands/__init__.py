"""Sub-commands of ``pocketseq`` that this room brings; nothing heavy is imported before one runs."""
