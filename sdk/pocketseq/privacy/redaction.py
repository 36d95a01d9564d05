"""Redaction: secrets become placeholders on the way out, and placeholders become secrets again on the way back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pocketseq.privacy.finding import Detector, Finding

_PLACEHOLDER: Final = re.compile(r"<[A-Z][A-Z0-9_]{0,40}_\d{1,6}>")
_BEGUN: Final = re.compile(r"<(?:[A-Z][A-Z0-9_]{0,47})?$")
"""The end of a text that may be the beginning of a placeholder."""
_LEAST_REPEAT: Final = 6
"""Fewest characters of an original that is looked for elsewhere. Shorter ones are most often words that a program is full of: a
password ``test`` would take every ``pytest`` apart, and hide from the cloud what it is asked about."""


@dataclass(frozen=True, slots=True)
class Redacted:
    """How often something of one kind was kept back; never what it was."""

    kind: str
    """As the detector calls it."""
    count: int
    """Places in which it stood."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """Texts that may leave, and the way back."""

    texts: Mapping[str, str]
    """By the names of the given texts."""
    redacted: tuple[Redacted, ...]
    """What was kept back, by kind."""
    originals: Mapping[str, str] = field(repr=False)
    """What each placeholder stands for."""

    def restore(self, text: str) -> str:
        """Put the originals back in place of their placeholders."""
        if not self.originals:
            return text
        return _PLACEHOLDER.sub(lambda match: self.originals.get(match.group(), match.group()), text)


def redact(texts: Mapping[str, str], detectors: Iterable[Detector]) -> Redaction:
    """Replace what the detectors find by placeholders such as ``<EMAIL_1>``; one original has one placeholder in all texts.

    A detector often knows a secret by what stands around it, as in ``password = "…"``. What was found once is therefore replaced
    wherever else it stands, in any of the texts, if it has six characters or more.

    Args:
        texts: By name.
        detectors: What looks for secrets and personal data; each sees the texts as they were given.
    """
    detectors = tuple(detectors)
    found = {
        name: [finding for detector in detectors for finding in detector(text) if finding.start < finding.stop]
        for name, text in texts.items()
    }
    kinds: dict[str, str] = {}
    for name, findings in found.items():
        for finding in findings:
            kinds.setdefault(texts[name][finding.start : finding.stop], finding.kind)
    spans = {name: _merged([*found[name], *_repeats(text, kinds)]) for name, text in texts.items()}
    taken = {match.group() for text in texts.values() for match in _PLACEHOLDER.finditer(text)}
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    cleaned = {}
    for name, text in texts.items():
        pieces, place = [], 0
        for finding in spans[name]:
            original = text[finding.start : finding.stop]
            if original not in names:
                names[original] = _new_name(finding.kind, taken)
            counts[finding.kind] += 1
            pieces += [text[place : finding.start], names[original]]
            place = finding.stop
        cleaned[name] = "".join(pieces) + text[place:]
    return Redaction(
        texts=cleaned,
        redacted=tuple(Redacted(kind, count) for kind, count in sorted(counts.items())),
        originals={placeholder: original for original, placeholder in names.items()},
    )


class StreamRestorer:
    """Restores a text that comes in pieces, and holds back what may be the beginning of a placeholder."""

    def __init__(self, redaction: Redaction) -> None:
        """Start with nothing held back."""
        self._redaction = redaction
        self._held = ""

    def push(self, piece: str) -> str:
        """Take a piece, and give what is certain."""
        if not self._redaction.originals:
            return piece
        text = self._held + piece
        begun = _BEGUN.search(text)
        stop = len(text) if begun is None else begun.start()
        self._held = text[stop:]
        return self._redaction.restore(text[:stop])

    def finish(self) -> str:
        """Give what was held back."""
        held, self._held = self._held, ""
        return held


def _repeats(text: str, kinds: Mapping[str, str]) -> Iterator[Finding]:
    """Every place of a text in which a known original stands, the longest where several begin there.

    One pass for all originals together: a file may hold thousands of addresses.

    Args:
        text: Where to look.
        kinds: Kind of each original.
    """
    lengths: dict[str, list[int]] = {}  # of the originals that begin alike
    for length, beginning in sorted({(len(original), original[:_LEAST_REPEAT]) for original in kinds}, reverse=True):
        if length >= _LEAST_REPEAT:
            lengths.setdefault(beginning, []).append(length)
    if not lengths:
        return
    for start in range(len(text) - _LEAST_REPEAT + 1):
        for length in lengths.get(text[start : start + _LEAST_REPEAT], ()):
            kind = kinds.get(text[start : start + length])
            if kind is not None:
                yield Finding(kind, start, start + length)
                break


def _merged(findings: Sequence[Finding]) -> list[Finding]:
    """Findings that do not overlap and cover all that the given ones cover; the one that starts first names the kind."""
    merged: list[Finding] = []
    for finding in sorted(findings, key=lambda found: (found.start, -found.stop)):
        if merged and finding.start < merged[-1].stop:
            merged[-1] = Finding(merged[-1].kind, merged[-1].start, max(merged[-1].stop, finding.stop))
        else:
            merged.append(finding)
    return merged


def _new_name(kind: str, taken: set[str]) -> str:
    """A placeholder that stands nowhere in the texts yet, and is known as one on the way back whatever its kind is called."""
    stem = re.sub(r"[^A-Z0-9_]", "_", kind.upper()).strip("_")
    stem = (stem if stem[:1].isalpha() else f"SECRET_{stem}".strip("_"))[:41]
    number = 1
    while (name := f"<{stem}_{number}>") in taken:
        number += 1
    taken.add(name)
    return name
