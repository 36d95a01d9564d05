"""BLEU-4 of texts whose tokens stand apart by white space, as counts by row that can be summed over any sample of rows.

Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation"; one reference a row. Without smoothing it is
what multi-bleu.perl prints. With ``add_one`` every order counts one n-gram and one match more (after Lin and Och 2004, "ORANGE"),
which is how CodeXGLUE scores code translation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

ORDERS: Final = 4


def bleu_counts(answers: Sequence[str], targets: Sequence[str]) -> NDArray[np.float64]:
    """Count what BLEU is made of.

    Args:
        answers: One for each row.
        targets: Its reference.

    Returns:
        float64 [rows, 10]: n-grams of the answer that its reference has too, by order 1 to 4; n-grams of the answer, likewise;
        tokens of the answer; tokens of the reference.
    """
    return np.array(
        [_row(answer.split(), target.split()) for answer, target in zip(answers, targets, strict=True)], dtype=np.float64
    )


def bleu(sums: NDArray[np.float64], *, add_one: bool = False) -> NDArray[np.float64]:
    """BLEU-4 in percent of counts that are summed over rows.

    Args:
        sums: float64 [..., 10]: sums of ``bleu_counts``.
        add_one: Count one n-gram and one match more at every order.

    Returns:
        float64 [...].
    """
    extra = 1.0 if add_one else 0.0
    shared, given = sums[..., :ORDERS] + extra, sums[..., ORDERS : 2 * ORDERS] + extra
    length, wanted = sums[..., -2], sums[..., -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(given > 0, shared / given, 0.0)
        mean = np.exp(np.log(precision).mean(axis=-1))
        brevity = np.where(length > 0, np.exp(np.minimum(0.0, 1 - wanted / length)), 0.0)
    found: NDArray[np.float64] = 100 * mean * brevity
    return found


def _row(answer: list[str], target: list[str]) -> list[int]:
    shared, given = [], []
    for order in range(1, ORDERS + 1):
        ours, theirs = _ngrams(answer, order), _ngrams(target, order)
        shared.append((ours & theirs).total())
        given.append(ours.total())
    return [*shared, *given, len(answer), len(target)]


def _ngrams(tokens: list[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[start : start + order]) for start in range(len(tokens) - order + 1))
