"""Export a checkpoint as a bundle of this SDK, int8 for ONNX Runtime; the bench itself never imports what writes bundles."""

from __future__ import annotations

import sys
from pathlib import Path

from pocketseq_export import export_checkpoint

checkpoint, bundle, name = sys.argv[1:]
export_checkpoint(Path(checkpoint), Path(bundle), precisions=["int8"], name=name)
