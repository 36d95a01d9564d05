"""ONNX Runtime, imported so that it reports to nobody: nothing leaves the device that its user did not send."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Final

SILENCE: Final = "ORT_DISABLE_TELEMETRY"
"""Environment variable by which builds from 1.31 on never create an identifier, a store of events in the user's cache folder or a
thread that uploads them; read once, while the library is loaded."""


def silent_onnxruntime() -> ModuleType:
    """Import ``onnxruntime``, with what it would tell its maker turned off, unless the environment says otherwise."""
    os.environ.setdefault(SILENCE, "1")
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # where the application had imported it before, or on builds that read no variable
    return onnxruntime  # type: ignore[no-any-return]
