"""Stop strings: an answer ends before the first of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pocketseq.decoding.settings import FinishReason


class StopStrings:
    """Watches the answers of a batch."""

    def __init__(self, stops: Sequence[str], decode: Callable[[Sequence[int]], str]) -> None:
        """Set what to look for.

        Args:
            stops: None of them empty.
            decode: From an answer's tokens to its text, as the answer will have it.
        """
        self._stops = stops
        self._decode = decode
        self._ids: dict[int, list[int]] = {}

    def ended(self, row: int, token: int) -> FinishReason | None:
        """Take a row's new token; see ``steps.Ended``."""
        ids = self._ids.setdefault(row, [])
        ids.append(token)
        return self.found(ids)

    def found(self, ids: Sequence[int]) -> FinishReason | None:
        """Whether the text of these tokens holds a stop string."""
        # Bytes that are no whole character yet are not what they look like.
        text = self._decode(ids).rstrip("\N{REPLACEMENT CHARACTER}")
        return None if first_stop(text, self._stops) is None else "stop_string"


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the first stop string in a text begins, or None."""
    return min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)


def certain(text: str, stops: Sequence[str]) -> int:
    """How many of a text's characters cannot be the beginning of a stop string that is still to come."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    for place in range(max(0, len(text) - longest), len(text)):
        if any(stop.startswith(text[place:]) for stop in stops):
            return place
    return len(text)
