"""Convert a checkpoint to CTranslate2's format, int8."""

from __future__ import annotations

import sys

import ctranslate2

checkpoint, directory = sys.argv[1:]
ctranslate2.converters.TransformersConverter(checkpoint).convert(directory, quantization="int8", force=True)
