"""Labelling: teachers of every kind behind one Protocol, choosing among their answers, and sharing the rows among workers."""
