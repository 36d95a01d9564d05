"""The command line ``pocketseq``."""

from pocketseq.cli.entry import main

__all__ = ["main"]
