"""Recipes that ship in the package: ``pocketseq run <name>``."""
