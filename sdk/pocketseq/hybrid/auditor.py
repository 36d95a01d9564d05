"""Audits: a small share of the answers that are served for their confidence is compared with the cloud's, after the fact."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Protocol, runtime_checkable

from pocketseq.endpoint import Completion
from pocketseq.errors import EndpointError, PolicyError
from pocketseq.hybrid.ask import Answer
from pocketseq.hybrid.call import Call
from pocketseq.hybrid.deadline import Deadline
from pocketseq.hybrid.drift import Drift
from pocketseq.suggestion import Suggestion

_log = logging.getLogger(__name__)


@runtime_checkable
class Promise(Protocol):
    """A calibration that promises something; ``pocketseq.manifest.Calibration`` is one."""

    @property
    def risk(self) -> float:
        """Largest share of wrong answers among those served."""
        ...

    @property
    def delta(self) -> float:
        """Probability that the promise does not hold."""
        ...


class Auditor:
    """Draws answers by chance and tests the promise on them; safe to share between threads."""

    def __init__(
        self, promise: object, *, share: float, hear: Callable[[Drift, Answer, bool | None], None], random: Random
    ) -> None:
        """Begin a test.

        Args:
            promise: The model's calibration.
            share: Of the answers served for their confidence, 0 to 1.
            hear: Called after each audit with the state of the test, how the question ended, and whether the answers differ; None
                where the cloud gave none.
            random: Where chance comes from.

        Raises:
            PolicyError: answers are to be audited, and the model's calibration promises nothing.
        """
        if share and not isinstance(promise, Promise):
            raise PolicyError(
                "audit: expected a model whose calibration promises a risk, found none; calibrate it, or audit nothing"
            )
        self._share = share
        self._hear = hear
        self._random = random
        self._lock = threading.Lock()
        self._drift = Drift(risk=promise.risk, delta=promise.delta) if isinstance(promise, Promise) else None

    @property
    def drift(self) -> Drift | None:
        """State of the test; None where nothing is promised."""
        return self._drift

    def perhaps(self, call: Call, suggestion: Suggestion) -> Suggestion:
        """Audit an answer that is about to be served, or not, by chance; its receipt says so."""
        if not self._share or call.cloud is None or call.abandoned or self._random.random() >= self._share:
            return suggestion
        try:
            outgoing = call.prepare()
        except EndpointError:
            return suggestion
        local = suggestion.text

        def compare(answer: Answer) -> None:
            differs = None
            if isinstance(answer.outcome, Completion):
                differs = answer.outcome.text.strip() != local.strip()
            self._hear(self._counted(differs), answer, differs)

        call.cloud.ask(lambda: outgoing, Deadline.after(None, clock=call.deadline.clock), on_end=compare)
        marked = replace(
            suggestion.receipt,
            audited=True,
            endpoint=call.cloud.endpoint.url,
            sent=outgoing.prompt,
            redacted=outgoing.redaction.redacted,
        )
        return replace(suggestion, receipt=marked)

    def _counted(self, differs: bool | None) -> Drift:
        """The state after one more audit; as before where it found nothing."""
        with self._lock:
            before = self._drift
            assert before is not None  # without a promise nothing is audited
            self._drift = after = before if differs is None else before.after(differs=differs)
        if after.alarmed and not before.alarmed:
            _log.warning(
                "expected at most %.1f%% of the answers served locally to differ from the cloud's, found %d of %d audited: "
                "the promised risk looks broken; calibrate again on the inputs of today",
                100 * after.risk,
                after.differing,
                after.audits,
            )
        return after
