"""What every test may rely on: one thread, no model hub."""

from __future__ import annotations

import os

# Before anything imports numpy or torch: tiny models are slower on many threads, and tests run beside other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
