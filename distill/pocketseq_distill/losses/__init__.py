"""Losses: what a student is drawn to, batch by batch, and what each of them costs in memory."""
