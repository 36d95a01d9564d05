"""Convert a checkpoint to CTranslate2's format, in int8 or float32."""

from __future__ import annotations

import sys

import ctranslate2

checkpoint, directory, kind = sys.argv[1:]
ctranslate2.converters.TransformersConverter(checkpoint).convert(directory, quantization=kind, force=True)
