"""``replay.json``: what a replay found, as records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pocketseq.errors import DataError
from pocketseq.records import read_record
from pocketseq_bench.document import BundleCard, DeviceCard
from pocketseq_bench.replay.editor import Request

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class ThresholdRow:
    """One replay of the whole session."""

    threshold: float | None
    """Confidence from which the local answer is served; None for the one that the bundle's calibration found."""
    requests: int
    """Suggestions that the editor asked for."""
    cancelled: float
    """Share of them that a key overtook."""
    local: float
    """Share of the others that the device answered."""
    cloud: float
    """Share of them that the cloud answered."""
    cache: float
    """Share of them that an earlier answer served."""
    failures: int
    """Requests to the cloud that were no help: lost, late, refused, or in an outage."""
    shown: float
    """Share of the answers that were worth showing."""
    shown_right: float | None
    """Share of those shown that are what was meant; None where none was."""
    exact_match: float
    """Share of all answers, shown or not, that are what was meant."""
    edit_similarity: float
    """Mean over all answers."""
    p50_ms: float
    """Median time to suggestion, from the request."""
    p95_ms: float
    """The time that 95 of 100 stayed within."""
    wait_p50_ms: float
    """Median time from the last key to the suggestion, the debounce included."""
    accepted: int
    """Suggestions shown that are right: each is taken and ends its unit."""
    saved_keys: int
    """Keys that need not be pressed."""
    saved_share: float
    """The same as a share of all keys of the session."""
    asked: int
    """Requests that reached for the cloud."""
    bytes_sent: int
    """In request bodies."""
    cost: float | None
    """In the currency of the prices; None without prices."""
    samples: tuple[Request, ...]
    """Every request."""


@dataclass(frozen=True, slots=True)
class SessionCard:
    """What was replayed."""

    name: str
    origin: str
    """``recorded`` or ``synthetic``."""
    keystrokes: int
    minutes: float
    typing: Mapping[str, Any]
    """Settings of the typist of a synthetic session."""


@dataclass(frozen=True, slots=True)
class ReplayDocument:
    """One session through one bundle, at several thresholds."""

    made_at: str
    """UTC, ISO 8601."""
    bundle: BundleCard
    variant: str
    """Label of the local model."""
    device: DeviceCard
    session: SessionCard
    cloud: str
    """What answered for the cloud."""
    network: Mapping[str, Any]
    """How the way to it behaved."""
    deadline_ms: float | None
    prices: Mapping[str, float]
    """Of a million tokens, ``prompt`` and ``completion``; empty where none were given."""
    simulated: str
    """What was not real, in a sentence."""
    rows: tuple[ThresholdRow, ...]
    format: int = FORMAT


def read_replay(path: Path) -> ReplayDocument:
    """Read a document.

    Raises:
        DataError: not there, no replay, or of another format.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected the JSON of a replay, found none: {error}") from None
    found = value.get("format") if isinstance(value, dict) and "session" in value else None
    if found != FORMAT:
        raise DataError(f"{path}: expected a replay of format {FORMAT}, found {found!r}; replay again with this pocketseq")
    return read_record(ReplayDocument, value, where=str(path), error=DataError)
