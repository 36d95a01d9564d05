"""``python -m pocketseq`` is ``pocketseq``."""

import sys

from pocketseq.cli import main

sys.exit(main())
