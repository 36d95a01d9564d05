"""A synthetic typist: writes lines that are given, with gaps, slips and corrections by a stated distribution.

The numbers are choices, not measurements: about 45 words a minute, every fiftieth key a slip, half of the slips noticed at once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pocketseq.errors import DataError
from pocketseq.examples import Example
from pocketseq.records import plain
from pocketseq_bench.replay.session import Keystroke, Session

_NEIGHBOURS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


@dataclass(frozen=True, slots=True)
class Typing:
    """How somebody types."""

    gap_ms: float = 170.0
    """Median time between two keys; log-normal."""
    gap_spread: float = 0.45
    """Standard deviation of its logarithm."""
    thought: float = 0.06
    """Share of words before which the typist stops to think."""
    thought_ms: float = 1400.0
    """Median length of such a pause; log-normal with a spread of 0.6."""
    line_ms: float = 1500.0
    """Median pause after a line, in which it is looked over; log-normal with a spread of 0.6."""
    slips: float = 0.02
    """Share of keys that go wrong: a neighbouring key, two letters swapped, one left out, one twice."""
    noticed: float = 0.5
    """Share of slips that are corrected after one to three more keys."""
    reread: float = 0.25
    """Share of slips that are corrected after the line is written; the others stay."""


@dataclass(frozen=True, slots=True)
class Line:
    """What somebody means to write."""

    text: str
    around: Mapping[str, str]
    """The template's other fields while it is written."""


def type_lines(lines: Sequence[Line], *, primary: str, name: str, typing: Typing | None = None, seed: int = 0) -> Session:
    """Write lines one after another.

    Args:
        lines: What is meant.
        primary: Field that is written; the others stay as they are.
        name: Of the session.
        typing: How.
        seed: Of gaps and slips.
    """
    typing = typing or Typing()
    chance = random.Random(seed)
    now, keys = 0.0, []
    for unit, line in enumerate(lines):
        indentation = line.text[: len(line.text) - len(line.text.lstrip())]  # editors write it
        for text, intended, pause in _states(line.text, indentation, typing, chance):
            now += pause
            keys.append(Keystroke(round(now, 1), unit, {**line.around, primary: text}, intended))
        now += _lognormal(chance, typing.line_ms, 0.6)
    return Session(name=name, origin="synthetic", keystrokes=tuple(keys), typing={**plain(typing), "seed": seed})


def lines_of_rows(rows: Sequence[Example], *, primary: str, count: int) -> list[Line]:
    """The true answers of rows, each written in its row's surroundings."""
    texts = [(row.target, row.fields) for row in rows if row.target.strip()]
    return [Line(target, {name: text for name, text in fields.items() if name != primary}) for target, fields in texts[:count]]


def lines_of_file(path: Path, *, count: int, before: int = 5, after: int = 2) -> list[Line]:
    """The lines of a text file that hold something, each written between the lines around it.

    Raises:
        DataError: no such file, or nothing in it.
    """
    try:
        rows = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        found = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: expected a text file in UTF-8, found: {found}") from None
    lines = []
    for number, row in enumerate(rows):
        if row.strip():
            around = {"before": "\n".join(rows[max(0, number - before) : number]), "after": "\n".join(rows[number + 1 :][:after])}
            lines.append(Line(row, around))
    if not lines:
        raise DataError(f"{path}: expected lines to write, found none")
    return lines[:count]


def _states(target: str, indentation: str, typing: Typing, chance: random.Random) -> Iterator[tuple[str, str, float]]:
    """What stands there after each key, what should, and the time before the key."""
    text, place, left = indentation, len(indentation), 0

    def gap() -> float:
        return _lognormal(chance, typing.gap_ms, typing.gap_spread)

    while place < len(target):
        if chance.random() >= typing.slips:
            text += target[place]
            place += 1
            yield text, target[:place], _pause(target, place - 1, typing, chance)
            continue
        base, (wrong, consumed) = text, _slip(target, place, chance)
        slipped = place + consumed
        for letter in wrong:
            text += letter
            yield text, target[:slipped], gap()
        fate = chance.random()
        if fate >= typing.noticed:
            left += fate < typing.noticed + typing.reread
            place = slipped
            continue
        noticed = min(len(target), slipped + chance.randint(1, 3))
        for letter in target[slipped:noticed]:
            text += letter
            yield text, target[:noticed], gap()
        while len(text) > len(base):
            text = text[:-1]
            yield text, target[:noticed], gap()
        for letter in target[place:noticed]:
            text += letter
            place += 1
            yield text, target[:place], gap()
    if left and text != target:
        # Back to the slips, some keys for each to get there and mend it: the line changes at the last.
        yield text, target, _lognormal(chance, typing.line_ms, 0.6)
        for _ in range(3 * left):
            yield text, target, gap()
        yield target, target, gap()


def _slip(target: str, place: int, chance: random.Random) -> tuple[str, int]:
    """What is typed instead, and how many of the target's characters it stands for."""
    letter, rest = target[place], target[place + 1 : place + 2]
    kind = chance.choice(("neighbour", "swap", "drop", "double"))
    if kind == "swap" and rest and rest != letter:
        return rest + letter, 2
    if kind == "drop" and rest:
        return rest, 2
    if kind == "double":
        return 2 * letter, 1
    row = next((row for row in _NEIGHBOURS if letter.lower() in row), "")
    near = [row[at] for at in (row.find(letter.lower()) - 1, row.find(letter.lower()) + 1) if 0 <= at < len(row)]
    return (chance.choice(near), 1) if near else (2 * letter, 1)


def _pause(target: str, place: int, typing: Typing, chance: random.Random) -> float:
    starts_word = place > 0 and target[place - 1] == " "
    if starts_word and chance.random() < typing.thought:
        return _lognormal(chance, typing.thought_ms, 0.6)
    return _lognormal(chance, typing.gap_ms, typing.gap_spread)


def _lognormal(chance: random.Random, middle: float, spread: float) -> float:
    return middle * float(2.718281828459045 ** chance.gauss(0.0, spread))
