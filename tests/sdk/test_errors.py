"""The errors themselves: what a process raises, another can hear of."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from pocketseq import errors
from pocketseq.calibration import Judged, Promise, calibrate_answers
from pocketseq.confidence import Evidence

ARGUMENTS = {"MissingExtraError": ("cloud", "openai")}
"""What some are made of in place of a message."""
ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PocketSeqError)]


def pickled(error: Exception) -> Exception:
    again: Exception = pickle.loads(pickle.dumps(error))
    return again


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if kind is not errors.InfeasibleRiskError])
def test_every_error_crosses_processes(kind: type[errors.PocketSeqError]) -> None:
    """With its type, its words and all that it knows."""
    error = kind(*ARGUMENTS.get(kind.__name__, ("expected this, found that",)))
    error.add_note("seen on the way")
    again = pickled(error)
    assert type(again) is kind
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


def test_the_line_that_mends_it_arrives() -> None:
    """What another process lacks is told in full."""
    assert str(pickled(errors.MissingExtraError("cloud", "openai"))).endswith('pip install "pocketseq[cloud]"')


def test_what_was_sent_arrives() -> None:
    """And what the error knows better than its class."""
    again = pickled(errors.EndpointServerError("busy", status=503, request_bytes=9, retryable=False))
    assert isinstance(again, errors.EndpointServerError)
    assert (again.status, again.request_bytes, again.retryable) == (503, 9, False)


def test_a_refused_calibration_arrives() -> None:
    """The error and the calibration that it carries; of the scorers that were compared their numbers, for they are functions."""
    answers = [Judged(str(number), 1.0, Evidence((-0.1,))) for number in range(20)]
    found = calibrate_answers(answers, Promise(), variant="v", data="d")
    error = errors.InfeasibleRiskError("no threshold keeps it", found)
    again = pickled(error)
    assert isinstance(again, errors.InfeasibleRiskError)
    assert str(again) == "no threshold keeps it"
    assert again.calibrated == replace(found, scorers={})
    assert error.calibrated is found
