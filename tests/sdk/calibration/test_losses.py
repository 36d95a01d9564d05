"""Losses: what counts as wrong, by name."""

from __future__ import annotations

import pytest

from pocketseq.calibration import Loss
from pocketseq.errors import CalibrationError


@pytest.mark.parametrize(
    ("name", "answer", "target", "expected"),
    [
        ("exact", "a b", "a b", 0),
        ("exact", "a b", "a  b", 1),
        ("teacher", "a", "b", 1),
        ("edit_similarity", "abcd", "abcx", 0.25),
        ("edit_similarity<0.75", "abcd", "abcx", 0),
        ("edit_similarity<0.76", "abcd", "abcx", 1),
        ("chrf", "same", "same", 0),
        ("chrf", "", "", 0),
        ("chrf", "", "a", 1),
        ("chrf<0.5", "abc", "xyz", 1),
    ],
)
def test_losses_by_hand(name: str, answer: str, target: str, expected: float) -> None:
    """0 for right, 1 for wrong, and between by degrees."""
    assert Loss(name)(answer, target) == pytest.approx(expected)


def test_a_loss_knows_whether_it_is_a_matter_of_degree() -> None:
    """Which decides how its risk can be bounded."""
    assert [Loss(name).binary for name in ("exact", "teacher", "chrf<0.5", "chrf")] == [True, True, True, False]


@pytest.mark.parametrize("name", ["bleu", "", "exact<0.5", "chrf<", "chrf<much", "chrf<0", "chrf<1.5", "chrf<nan"])
def test_an_unknown_loss_is_refused(name: str) -> None:
    """With those that there are."""
    with pytest.raises(CalibrationError, match=r"loss: expected exact, teacher, or one of \['chrf', 'edit_similarity'\], alone or"):
        Loss(name)
