"""An editor on a simulated clock: debounces, asks one thing at a time, drops answers that a key overtook, shows what is worth it.

Gaps between keys and network waits are counted, not slept; the model's own time is real, measured around each call, and counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from pocketseq import Hybrid, Suggestion
from pocketseq.metrics import edit_similarity
from pocketseq.testing import SimulatedClock
from pocketseq_bench.replay.session import Keystroke, Session

SHORTEST_MS, LONGEST_MS = 100.0, 1000.0
"""What the debounce stays within."""
PACE: Final = 10
"""Gaps that the debounce follows: a pause is what is twice as long as their median."""


@dataclass(frozen=True, slots=True)
class Request:
    """One suggestion that an editor asked for."""

    at_ms: float
    """When it was asked for, on the session's clock."""
    unit: int
    debounce_ms: float
    """Since the last key."""
    took_ms: float
    """Until the suggestion was there: local time as measured, network time as simulated."""
    source: str
    """``local``, ``cloud`` or ``cache``."""
    cancelled: bool
    """Whether a key came first; nobody saw the answer."""
    asked: bool
    """Whether the cloud was asked."""
    error: str | None
    """Class of the error for which the cloud was no help."""
    shown: bool
    """Whether it was worth showing: not blank, not what stands there already, no repetition of the line above or below."""
    right: bool
    """Whether it is what was meant, or what the line became later."""
    similarity: float
    """Edit similarity with what was meant."""
    saved_keys: int
    """Keys that the typist need not press when accepting it, the accepting key counted against it."""
    bytes_sent: int
    prompt_tokens: int
    completion_tokens: int


class Editor:
    """Plays a session's keys against a hybrid; a right answer that is shown is accepted, and its unit is done."""

    def __init__(
        self, hybrid: Hybrid, clock: SimulatedClock, *, primary: str, expect: Callable[[Keystroke, str], None] | None = None
    ) -> None:
        """Open an editor.

        Args:
            hybrid: What it asks.
            clock: The hybrid's network must wait on the same one.
            primary: Field that is written.
            expect: Told each keystroke before the hybrid is asked about it, and what was meant; for clouds that are simulated.
        """
        self._hybrid = hybrid
        self._clock = clock
        self._primary = primary
        self._expect = expect or (lambda _key, _meant: None)

    def play(self, session: Session) -> list[Request]:
        """Play all keys, and return what was asked in between."""
        keys, requests, done, gaps = session.keystrokes, [], -1, [LONGEST_MS / 2]
        for place, key in enumerate(keys):
            if place:
                gaps = [*gaps[-PACE + 1 :], key.at_ms - keys[place - 1].at_ms]
            debounce = 0.0 if key.manual else min(LONGEST_MS, max(SHORTEST_MS, 2 * median(gaps)))
            next_ms = keys[place + 1].at_ms if place + 1 < len(keys) else float("inf")
            if key.unit == done or key.at_ms + debounce >= next_ms or not key.fields[self._primary].strip():
                continue
            request = self._ask(key, keys[place + 1 :], debounce, next_ms)
            requests.append(request)
            if request.shown and request.right and not request.cancelled:
                done = key.unit
        return requests

    def _ask(self, key: Keystroke, later: Sequence[Keystroke], debounce: float, next_ms: float) -> Request:
        asked_ms = key.at_ms + debounce
        self._clock.now_s = asked_ms / 1000
        rest = [each for each in later if each.unit == key.unit]
        meant = key.intended if key.intended is not None else (rest[-1] if rest else key).fields[self._primary]
        self._expect(key, meant)
        started = time.perf_counter()
        suggestion = self._hybrid.suggest(dict(key.fields))
        took_ms = 1000 * (time.perf_counter() - started) + 1000 * self._clock.now_s - asked_ms
        receipt = suggestion.receipt
        # The cloud is asked after the local answer: a key that comes before that leaves nothing to send.
        local_ms = suggestion.local.timing.total_ms if suggestion.local else 0.0
        withdrawn = asked_ms + local_ms > next_ms
        asked = receipt.endpoint is not None and not withdrawn
        right, saved = self._worth(suggestion.text, meant, key, rest)
        return Request(
            at_ms=round(asked_ms, 1),
            unit=key.unit,
            debounce_ms=round(debounce, 1),
            took_ms=round(took_ms, 3),
            source=suggestion.source,
            cancelled=asked_ms + took_ms > next_ms,
            asked=asked,
            error=receipt.error if asked else None,
            shown=self._shows(suggestion, key),
            right=right,
            similarity=round(edit_similarity(suggestion.text, meant), 4),
            saved_keys=saved,
            bytes_sent=receipt.bytes_sent if asked else 0,
            prompt_tokens=(receipt.prompt_tokens or 0) if asked else 0,
            completion_tokens=(receipt.completion_tokens or 0) if asked else 0,
        )

    def _shows(self, suggestion: Suggestion, key: Keystroke) -> bool:
        text = suggestion.text
        above = key.fields.get("before", "").rstrip("\n").rpartition("\n")[2]
        below = key.fields.get("after", "").lstrip("\n").partition("\n")[0]
        repeats = text.strip() in {above.strip(), below.strip()}
        return bool(text.strip()) and text != key.fields[self._primary] and not repeats

    def _worth(self, text: str, meant: str, key: Keystroke, later: Sequence[Keystroke]) -> tuple[bool, int]:
        """Whether a suggestion is right, and how many keys it spares: all until the line is what it says, but the last."""
        if text == key.fields[self._primary]:
            return text == meant, 0
        for number, each in enumerate(later, start=1):
            if each.fields[self._primary] == text and each.intended in (None, text):
                return True, number - 1
        return text == meant, 0
