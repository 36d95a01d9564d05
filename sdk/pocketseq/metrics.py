"""Metrics of answers against true answers; pure, and each a fraction in 0 to 1."""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pocketseq.errors import DataError
from pocketseq.examples import Example

_CHRF_ORDER: Final = 6
_CHRF_BETA: Final = 2.0

_START: Final = re.compile(r"@|\w+")
_BODY: Final = "\n pass"
_SURROUNDINGS: Final = {
    "elif": (("if 1: pass\n", ""), ("if 1: pass\n", _BODY)),
    "else": (("if 1: pass\n", ""), ("if 1: pass\n", _BODY)),
    "except": (("try: pass\n", ""), ("try: pass\n", _BODY)),
    "finally": (("try: pass\n", ""), ("try: pass\n", _BODY)),
    "try": (("", "\nfinally: pass"), ("", "\n pass\nfinally: pass")),
    "case": (("match 1:\n ", ""), ("match 1:\n ", "\n  pass")),
    "match": (("", "\n case _: pass"),),
    "@": (("", "\ndef f(): pass"),),
}
"""What may have to stand before and after a line that starts so."""


@dataclass(frozen=True, slots=True)
class KindMetrics:
    """Metrics of the rows of one kind."""

    n: int
    exact_match: float


@dataclass(frozen=True, slots=True)
class RowMetrics:
    """Metrics of a model over labelled rows."""

    n: int
    """Number of rows."""
    exact_match: float
    """Share of answers that are the target."""
    edit_similarity: float
    """Mean of ``edit_similarity``."""
    chrf: float
    """``chrf`` over all rows."""
    parses: float | None
    """Share of answers that parse as a line of Python, among the rows whose target does; None where none does."""
    repaired: float | None
    """Exact match among the rows whose primary field is not yet the target; None where there is none."""
    false_alarms: float | None
    """Share of answers that changed the primary field, among the rows where it was the target already; None where there is none."""
    by_kind: Mapping[str, KindMetrics]
    """By the rows' kind; empty where they have none."""


def evaluate_rows(examples: Sequence[Example], answers: Sequence[str], *, primary: str) -> RowMetrics:
    """Measure answers against labelled rows.

    Args:
        examples: The rows, at least one.
        answers: One for each row, in the same order.
        primary: Field of which a repair is an answer.

    Raises:
        DataError: no rows, or another number of answers.
    """
    if not examples or len(examples) != len(answers):
        raise DataError(f"expected one answer for each row and at least one row, found {len(answers)} for {len(examples)} rows")
    pairs = list(zip(examples, answers, strict=True))
    right = [answer == row.target for row, answer in pairs]
    already = [row.fields.get(primary) == row.target for row in examples]
    kinds = sorted({row.kind for row in examples} - {""})
    by_kind = {kind: [hit for row, hit in zip(examples, right, strict=True) if row.kind == kind] for kind in kinds}
    return RowMetrics(
        n=len(pairs),
        exact_match=sum(right) / len(pairs),
        edit_similarity=sum(edit_similarity(answer, row.target) for row, answer in pairs) / len(pairs),
        chrf=chrf(answers, [row.target for row in examples]),
        parses=_share(parses(answer) for row, answer in pairs if parses(row.target)),
        repaired=_share(hit for hit, done in zip(right, already, strict=True) if not done),
        false_alarms=_share(not hit for hit, done in zip(right, already, strict=True) if done),
        by_kind={kind: KindMetrics(n=len(hits), exact_match=sum(hits) / len(hits)) for kind, hits in by_kind.items()},
    )


def exact_match(answers: Sequence[str], targets: Sequence[str]) -> float:
    """Share of answers that are their target."""
    return sum(answer == target for answer, target in zip(answers, targets, strict=True)) / len(targets)


def edit_similarity(answer: str, target: str) -> float:
    """1 − Levenshtein distance in characters over the longer length; 1 for two empty texts."""
    longest = max(len(answer), len(target))
    return 1 - _levenshtein(answer, target) / longest if longest else 1.0


def chrf(answers: Sequence[str], targets: Sequence[str]) -> float:
    """Compute chrF over a corpus: F2 of character n-grams of 1 to 6, white space left out.

    Counts are summed over the corpus before precision and recall are taken; orders longer than every text are left out. Popović
    2015, "chrF: character n-gram F-score for automatic MT evaluation".
    """
    precisions, recalls = [], []
    for order in range(1, _CHRF_ORDER + 1):
        given = wanted = shared = 0
        for answer, target in zip(answers, targets, strict=True):
            ours, theirs = _ngrams(answer, order), _ngrams(target, order)
            # Answers to a target that is too short for this order do not count against it.
            given += ours.total() if theirs else 0
            wanted += theirs.total()
            shared += (ours & theirs).total()
        if given and wanted:
            precisions.append(shared / given)
            recalls.append(shared / wanted)
    if not sum(precisions):
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return (1 + _CHRF_BETA**2) * precision * recall / (_CHRF_BETA**2 * precision + recall)


def parses(line: str) -> bool:
    """Whether one line could stand in a Python file: what it needs before and after, such as a body or a ``try``, is put there."""
    line = line.strip()
    start = _START.match(line)
    tries = (("", ""), ("", _BODY), *_SURROUNDINGS.get(start.group() if start else "", ()))
    return any(_is_python(before + line + after) for before, after in tries)


def _is_python(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as an invalid escape, which is no error
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return False
    return True


def _share(hits: Iterable[bool]) -> float | None:
    counted = list(hits)
    return sum(counted) / len(counted) if counted else None


def _ngrams(text: str, order: int) -> Counter[str]:
    packed = "".join(text.split())
    return Counter(packed[start : start + order] for start in range(len(packed) - order + 1))


def _levenshtein(one: str, other: str) -> int:
    # What both start or end with costs nothing, and a repair shares most of its line.
    shortest = min(len(one), len(other))
    same = next((place for place in range(shortest) if one[place] != other[place]), shortest)
    one, other = one[same:], other[same:]
    shortest -= same
    same = next((place for place in range(shortest) if one[-1 - place] != other[-1 - place]), shortest)
    one, other = one[: len(one) - same], other[: len(other) - same]
    row = list(range(len(other) + 1))
    for number, character in enumerate(one, start=1):
        diagonal, row[0] = row[0], number
        for column, candidate in enumerate(other, start=1):
            diagonal, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, diagonal + (character != candidate))
    return row[-1]
