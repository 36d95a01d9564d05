"""Training: from rows and a plan to a finished checkpoint; killed at any moment, the same call goes on."""
