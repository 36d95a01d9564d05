"""Imagined inputs: more to ask a teacher about than the rows that there are."""
