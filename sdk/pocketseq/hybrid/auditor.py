"""Audits: a small share of the answers that are served for their confidence is compared with the cloud's, after the fact."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Protocol, runtime_checkable

from pocketseq.endpoint import Completion
from pocketseq.errors import PolicyError
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
        """Largest mean loss of the answers served."""
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
            promise: The model's calibration; where it names no loss it is held to the very text, as ``exact`` is.
            share: Of the answers served for their confidence, 0 to 1.
            hear: Called after each audit with the state of the test, how the question ended, and whether the local answer loses
                anything against the cloud's; None where the cloud gave none. Not called where nothing was sent: there was no audit,
                whether the detectors, the budget or a resting endpoint kept it.
            random: Where chance comes from.

        Raises:
            PolicyError: answers are to be audited, and the model's calibration promises nothing of them.
        """
        self._drift: Drift | None = None
        found = "none"
        if getattr(promise, "guarantee", None) == "conformal":  # holds on average over calibrations: this one may go beyond it
            found = "a conformal one, which promises nothing of these alone"
        elif isinstance(promise, Promise):
            self._drift = Drift(risk=promise.risk, delta=promise.delta)
        if share and self._drift is None:
            raise PolicyError(
                "audit: expected a model whose calibration promises a risk of the answers that it serves, "
                f"found {found}; calibrate it, or audit nothing"
            )
        self._share = share
        self._hear = hear
        self._random = random
        self._lock = threading.Lock()
        self._loss: Callable[[str, str], float] | None = None
        if share:
            from pocketseq.calibration.losses import Loss  # with all of calibration, which nobody else waits for

            self._loss = Loss(getattr(promise, "loss", "exact"))

    @property
    def drift(self) -> Drift | None:
        """State of the test; None where nothing is promised that it could test."""
        return self._drift

    def perhaps(self, call: Call, suggestion: Suggestion) -> Suggestion:
        """Audit an answer that is about to be served, or not, by chance; its receipt says so."""
        loss_of = self._loss
        if loss_of is None or call.cloud is None or call.abandoned or self._random.random() >= self._share:
            return suggestion
        local = suggestion.text

        def compare(answer: Answer) -> None:
            if not answer.attempts:
                return
            loss = None
            if isinstance(answer.outcome, Completion):
                loss = loss_of(local.strip(), answer.outcome.text.strip())
            self._hear(self._counted(loss), answer, None if loss is None else loss > 0)

        ask = call.cloud.ask(call.prepare, Deadline.after(None, clock=call.deadline.clock), on_end=compare)
        outgoing = ask.prepared(call.deadline.left_s)
        receipt = replace(suggestion.receipt, total_ms=call.deadline.elapsed_ms())
        if outgoing is not None:
            receipt = replace(
                receipt,
                audited=True,
                endpoint=call.cloud.endpoint.url,
                sent=outgoing.prompt,
                redacted=outgoing.redaction.redacted,
            )
        return replace(suggestion, receipt=receipt)

    def _counted(self, loss: float | None) -> Drift:
        """The state after one more audit; as before where it found nothing."""
        with self._lock:
            before = self._drift
            assert before is not None  # without a promise nothing is audited
            self._drift = after = before if loss is None else before.after(loss=loss)
        if after.alarmed and not before.alarmed:
            _log.warning(
                "expected a mean loss of at most %.1f%% of the answers served locally against the cloud's, found %.1f%% of %d "
                "audited, of which %d differ: the promised risk looks broken; calibrate again on the inputs of today",
                100 * after.risk,
                100 * after.lost / after.audits,
                after.audits,
                after.differing,
            )
        return after
