"""``deferral.json``: what every measured run found, by the run's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pocketseq.errors import DataError

FORMAT: Final = 2


def read_runs(path: Path) -> dict[str, Any]:
    """What a result file holds, by the runs' names.

    Raises:
        DataError: not there, no result file of this study, or one of another format.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected the JSON of a deferral study, found none: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get("runs"), dict):
        raise DataError(f"{path}: expected the JSON of a deferral study, found another document")
    if value.get("format") != FORMAT:
        raise DataError(
            f"{path}: expected a deferral study of format {FORMAT}, found {value.get('format')!r}; measure its runs again into "
            "another file"
        )
    return dict(value["runs"])
