"""How each task is scored, with bootstrap intervals: published ones as in their papers, and in percent, as these print it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from tokenize import TokenError, generate_tokens
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pocketseq.errors import DataError
from pocketseq.examples import Example
from pocketseq.metrics import edit_similarity
from pocketseq_distill.published.bleu import bleu, bleu_counts
from pocketseq_distill.published.corpus import CLEAN
from pocketseq_distill.published.tasks import PUBLISHED, ProtocolName

Counts: TypeAlias = NDArray[np.float64]
"""float64 [rows, k]: what a score is computed from, row by row."""

RESAMPLES: Final = 1000
LEVEL: Final = 0.95
_SEED: Final = 0
_DRAWN_ROWS: Final = 2_000_000
"""Rows drawn at once at most."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One score of a protocol."""

    name: str
    better: Literal["higher", "lower"]
    count: Callable[[Sequence[str], Sequence[str]], Counts]
    """(answers, targets) → counts by row."""
    score: Callable[[Counts], Counts]
    """Sums of counts, float64 [..., k] → percent, float64 [...]."""
    of: Callable[[Example], bool] = lambda _: True
    """Which rows are scored."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a model came to by one measure."""

    name: str
    value: float
    """Percent."""
    low: float
    """Lower end of the 95% interval, bootstrapped over rows (Efron 1979), percent."""
    high: float
    """Upper end of it, percent."""
    better: Literal["higher", "lower"]
    n: int
    """Rows that it was measured on."""


@dataclass(frozen=True, slots=True)
class Lead:
    """How far one model's answers are ahead of another's to the same rows, by the measure that decides."""

    value: float
    """Points of percent, positive where the first is better."""
    low: float
    """Lower end of the 95% interval. Both models are scored on each sample of rows: what makes a row hard for both is no difference
    between them, so that this tells far more than whether their own intervals overlap (Koehn 2004, "Statistical Significance
    Tests for Machine Translation Evaluation")."""
    high: float
    """Upper end of it."""


def exact_counts(answers: Sequence[str], targets: Sequence[str]) -> Counts:
    """float64 [rows, 2]: whether the answer is its target, white space around them aside; 1."""
    return _counted([answer.strip() == target.strip() for answer, target in zip(answers, targets, strict=True)])


def same_counts(answers: Sequence[str], targets: Sequence[str]) -> Counts:
    """float64 [rows, 2]: whether the answer is its target, indentation included; 1."""
    return _counted([answer == target for answer, target in zip(answers, targets, strict=True)])


def changed_counts(answers: Sequence[str], targets: Sequence[str]) -> Counts:
    """float64 [rows, 2]: whether the answer is another than its target; 1."""
    return _counted([answer != target for answer, target in zip(answers, targets, strict=True)])


def likeness_counts(answers: Sequence[str], targets: Sequence[str]) -> Counts:
    """float64 [rows, 2]: edit similarity of answer and target (see ``pocketseq.metrics``); 1."""
    return np.array([[edit_similarity(answer, target), 1] for answer, target in zip(answers, targets, strict=True)])


def token_counts(answers: Sequence[str], targets: Sequence[str]) -> Counts:
    """float64 [rows, 2]: whether the answer has the Python tokens of its target, whatever white space stands between them; 1."""
    return _counted([_python_tokens(answer) == _python_tokens(target) for answer, target in zip(answers, targets, strict=True)])


def error_counts(answers: Sequence[str], targets: Sequence[str]) -> Counts:
    """float64 [rows, 2]: whether a symbol of the answer is wrong; 1. Each line is a word of its own, as the task has it."""
    return _counted([answer.split() != target.split() for answer, target in zip(answers, targets, strict=True)])


def edit_counts(answers: Sequence[str], targets: Sequence[str]) -> Counts:
    """float64 [rows, 2]: fewest insertions, deletions and replacements of symbols that make the target; symbols of the target."""
    pairs = [(answer.split(), target.split()) for answer, target in zip(answers, targets, strict=True)]
    return np.array([[_distance(answer, target), len(target)] for answer, target in pairs], dtype=np.float64)


def share(sums: Counts) -> Counts:
    """First sum over second, in percent; float64 [..., 2] → float64 [...]."""
    return 100 * sums[..., 0] / sums[..., 1]


_WORD_ERRORS: Final = Measure("wer", "lower", error_counts, share)
_PHONE_ERRORS: Final = Measure("per", "lower", edit_counts, share)
_EXACT: Final = Measure("exact_match", "higher", exact_counts, share)
_TOKENS: Final = Measure("exact_match", "higher", token_counts, share)
_CLEAN_TOKENS: Final = Measure("exact_match_clean", "higher", token_counts, share, of=lambda row: row.kind == CLEAN)
_SAME: Final = Measure("exact_match", "higher", same_counts, share)
_REPAIRED: Final = Measure("repaired", "higher", same_counts, share, of=lambda row: row.kind != CLEAN)
_FALSE_ALARMS: Final = Measure("false_alarms", "lower", changed_counts, share, of=lambda row: row.kind == CLEAN)
_LIKENESS: Final = Measure("edit_similarity", "higher", likeness_counts, share)
_CODE_BLEU: Final = Measure("bleu", "higher", bleu_counts, lambda sums: bleu(sums, add_one=True))
_BLEU: Final = Measure("bleu", "higher", bleu_counts, bleu)

PROTOCOLS: Final[Mapping[ProtocolName, tuple[Measure, ...]]] = {
    "word-errors": (_WORD_ERRORS, _PHONE_ERRORS),
    "code-bleu": (_CODE_BLEU, _EXACT),
    "caption-bleu": (_BLEU,),
    "code-match": (_TOKENS, _CLEAN_TOKENS),
    "line-repair": (_SAME, _REPAIRED, _FALSE_ALARMS),
    "whole-answers": (_SAME, _LIKENESS),
}
"""Measures by protocol, the one that decides first.

``word-errors``: SIGMORPHON 2021, share of words whose symbols are not all right, and edits for each symbol of the truth.
``code-bleu``: CodeXGLUE's BLEU-4, add-one smoothed over white-space tokens, and exact match.
``caption-bleu``: BLEU-4 of lowercased, Moses-normalised tokens against the tokenised reference, as the table for Multi30k has it.
``code-match``: exact match of Python's tokens, as TranX and those after it score Django, over all rows and over those that share
neither side with a row of the train split. They also write the reference anew from its syntax tree, which this does not.
``line-repair``: whole lines that are right, among all, among those with a slip, and wrong ones among those without.
``whole-answers``: whole answers that are right, and edit similarity, which is how completions of lines are scored.
"""


def protocol_of(task: str) -> ProtocolName:
    """How a task is scored: as its published table is, or by what means something where there is none."""
    if task in PUBLISHED:
        return PUBLISHED[task].protocol
    return "line-repair" if task == "python-fix" else "whole-answers"


def scores(
    protocol: ProtocolName, examples: Sequence[Example], answers: Sequence[str], *, resamples: int = RESAMPLES
) -> tuple[Score, ...]:
    """Score answers as the published table of their task does.

    Args:
        protocol: How.
        examples: The rows of the test split, in any order.
        answers: One for each row, in the same order.
        resamples: Samples of rows that an interval is made of.

    Raises:
        DataError: no rows, or another number of answers.
    """
    _require_answers(examples, answers)
    return tuple(found for measure in PROTOCOLS[protocol] if (found := _score(measure, examples, answers, resamples)) is not None)


def lead(
    protocol: ProtocolName,
    examples: Sequence[Example],
    answers: Sequence[str],
    others: Sequence[str],
    *,
    resamples: int = RESAMPLES,
) -> Lead:
    """Compare two models' answers to the same rows.

    Args:
        protocol: How they are scored.
        examples: See ``scores``.
        answers: One for each row, of the model that may be ahead.
        others: One for each row, of the other.
        resamples: See ``scores``.

    Raises:
        DataError: no rows, or another number of answers.
    """
    for each in (answers, others):
        _require_answers(examples, each)
    measure, targets = PROTOCOLS[protocol][0], [row.target for row in examples]  # which scores all rows
    counts, theirs = measure.count(answers, targets), measure.count(others, targets)
    sign = 1 if measure.better == "higher" else -1
    # The same rows are drawn for both.
    drawn = sign * (measure.score(_resampled(counts, resamples)) - measure.score(_resampled(theirs, resamples)))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = sign * (measure.score(counts.sum(axis=0)) - measure.score(theirs.sum(axis=0)))
    return Lead(round(float(value), 2), round(float(low), 2), round(float(high), 2))


def _require_answers(examples: Sequence[Example], answers: Sequence[str]) -> None:
    if not examples or len(examples) != len(answers):
        raise DataError(f"expected one answer for each row and at least one row, found {len(answers)} for {len(examples)} rows")


def _score(measure: Measure, examples: Sequence[Example], answers: Sequence[str], resamples: int) -> Score | None:
    """None where there is no row of those that are scored."""
    pairs = [(answer, row.target) for row, answer in zip(examples, answers, strict=True) if measure.of(row)]
    if not pairs:
        return None
    counts = measure.count([answer for answer, _ in pairs], [target for _, target in pairs])
    low, high = np.quantile(measure.score(_resampled(counts, resamples)), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = measure.score(counts.sum(axis=0))
    return Score(measure.name, round(float(value), 2), round(float(low), 2), round(float(high), 2), measure.better, len(pairs))


def _resampled(counts: Counts, resamples: int) -> Counts:
    """Sums of counts over samples of as many rows, drawn with replacement; float64 [resamples, k]."""
    random = np.random.default_rng(_SEED)
    at_once = max(1, _DRAWN_ROWS // len(counts))
    parts = []
    for begin in range(0, resamples, at_once):
        drawn = random.integers(len(counts), size=(min(at_once, resamples - begin), len(counts)))
        times = np.stack([np.bincount(rows, minlength=len(counts)) for rows in drawn])
        parts.append(times @ counts)
    return np.concatenate(parts)


def _counted(hits: Sequence[bool]) -> Counts:
    return np.stack([np.array(hits, dtype=np.float64), np.ones(len(hits))], axis=1)


def _python_tokens(line: str) -> list[str]:
    """Tokens of a line of Python; of what is none, what white space sets apart."""
    try:
        return [token.string for token in generate_tokens(StringIO(line.strip()).readline) if token.string.strip()]
    except (SyntaxError, TokenError):
        return line.split()


def _distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Levenshtein distance of two sequences of symbols."""
    row = list(range(len(other) + 1))
    for number, symbol in enumerate(one, start=1):
        diagonal, row[0] = row[0], number
        for column, candidate in enumerate(other, start=1):
            diagonal, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, diagonal + (symbol != candidate))
    return row[-1]
