"""One call of a hybrid: what is known of it so far, the question to the cloud, and the suggestion that comes of it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pocketseq.endpoint import Completion
from pocketseq.errors import EndpointTimeoutError, EndpointUnavailableError, EndpointWithheldError
from pocketseq.hybrid.ask import Answer, Ask
from pocketseq.hybrid.cloud import Cloud
from pocketseq.hybrid.deadline import Deadline
from pocketseq.hybrid.local import LocalModel
from pocketseq.policy import Decision, Policy, decide, hedges
from pocketseq.privacy import Detector, Outgoing, prepare
from pocketseq.results import Result
from pocketseq.suggestion import Choice, Receipt, Suggestion
from pocketseq.template import Input

GRACE_S: Final = 0.01
"""For an endpoint that ends at the deadline to tell how, so that the receipt is exact."""

_CUT: Final[Mapping[str, str]] = {
    "deadline": "the deadline came first, and cut the local answer short",
    "cancelled": "the local model was stopped, which cut the local answer short",
}
"""Words for the finish reasons of an answer that is only the beginning of one."""


@dataclass(slots=True)
class Call:
    """One input on its way; used by one thread, save ``abandon``."""

    model: LocalModel
    cloud: Cloud | None
    policy: Policy
    """With what the call itself said."""
    detectors: Iterable[Detector]
    calibration: str | None
    """Fingerprint of the model's calibration."""
    source: Input
    fields: Mapping[str, str]
    """The input by field."""
    deadline: Deadline
    streamed: bool = False
    """Whether pieces of a cloud answer are wanted, or the question may be taken back."""
    choice: Choice = "serve"
    gate: float | None = None
    ask: Ask | None = None
    _abandoned: threading.Event = field(default_factory=threading.Event)

    def hear_gate(self, gate: float) -> None:
        """Take what the model's gate says, and ask the cloud at once where it says that the answer will be wrong."""
        self.gate = gate
        threshold = None if self.model.calibration is None else self.model.calibration.threshold
        if self.cloud is not None and hedges(self.policy, gate=gate, calibrated=threshold):
            self.begin("hedge")

    def begin(self, choice: Choice) -> None:
        """Ask the cloud, unless that has been done, or nobody waits for the call any more."""
        if self.ask is not None or self.cloud is None or self._abandoned.is_set():
            return
        self.choice = choice
        # What may yet be taken back is asked in a way that can be.
        self.ask = self.cloud.ask(self.prepare, self.deadline, streamed=self.streamed or choice == "hedge")
        if self._abandoned.is_set():  # meanwhile
            self.ask.take_back()

    def prepare(self) -> Outgoing:
        """Make what would leave.

        Raises:
            EndpointWithheldError: the policy lets nothing of it leave, or nobody waits for the call any more.
        """
        try:
            outgoing = prepare(self.model.template, self.fields, detectors=self.detectors, max_context=self.policy.max_context)
        except EndpointWithheldError:
            raise
        except Exception as error:  # a detector is anybody's code: where it fails, nothing leaves
            words = f"expected every detector to read the input, found {type(error).__name__} in one"
        else:
            if not self.abandoned:
                return outgoing
            words = "expected somebody to wait for the call, found it cancelled"  # also an audit's, which nothing takes back
        raise EndpointWithheldError(f"{words}; nothing was sent")

    def decide(self, result: Result) -> Decision:
        """Decide whether the cloud is asked, now that the local answer is there."""
        calibration = self.model.calibration
        decision = decide(
            self.policy,
            confidence=_confidence(result),
            calibrated=None if calibration is None else calibration.threshold,
            has_endpoint=self.cloud is not None,
        )
        return decision if is_whole(result) else replace(decision, reason=f"{decision.reason}; {_CUT[result.finish_reason]}")

    def next(self) -> str | Answer:
        """The next piece of a streamed answer, or how the question ended; at the deadline at the latest."""
        if self.ask is None:
            return Answer(EndpointWithheldError("no endpoint was asked"))
        left_s = self.deadline.left_s
        news = self.ask.next(None if left_s is None else left_s + GRACE_S)
        return self.ask.give_up() if news is None else news

    def wait(self) -> Answer:
        """How the question ended; at the deadline at the latest."""
        while True:
            if not isinstance(news := self.next(), str):
                return news

    def begin_in_time(self, choice: Choice) -> Answer | None:
        """Ask the cloud, unless that has been done or no time is left for it, which comes back as an answer."""
        if self.ask is None and self.deadline.passed:
            self.choice = choice
            return Answer(
                EndpointTimeoutError(
                    f"the local answer took the whole deadline of {self.policy.deadline_ms:.0f} ms; nothing was sent"
                )
            )
        self.begin(choice)
        return None

    def drop(self) -> Answer | None:
        """Take the question back, if there is one, for the local answer is served."""
        return None if self.ask is None else self.ask.take_back()

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for the call any more; nothing leaves for it then."""
        return self._abandoned.is_set()

    def abandon(self) -> None:
        """Take the question back because nobody waits for the call any more; from any thread."""
        self._abandoned.set()
        if self.ask is not None:
            self.ask.take_back()

    def local(self, result: Result, reason: str, answer: Answer | None) -> Suggestion:
        """The local answer as a suggestion, where it was to be served; a question that had been asked early was needless."""
        return Suggestion(result.text, "local", _confidence(result), reason, self.receipt(result, answer), local=result)

    def fallback(self, result: Result, reason: str, answer: Answer) -> Suggestion:
        """The local answer as a suggestion, where the cloud was to answer and did not."""
        reason = f"{reason}; the cloud was no help, so the local answer stands: {answer.outcome}"
        receipt = replace(self.receipt(result, answer), error=type(answer.outcome).__name__)
        return Suggestion(result.text, "local", _confidence(result), reason, receipt, local=result)

    def remote(self, completion: Completion, reason: str, answer: Answer, result: Result | None) -> Suggestion:
        """The cloud's answer as a suggestion."""
        return Suggestion(completion.text, "cloud", _confidence(result), reason, self.receipt(result, answer), local=result)

    def receipt(self, result: Result | None, answer: Answer | None) -> Receipt:
        """What is known of the call now that it ends."""
        completion = None if answer is None else answer.completion
        attempts = () if answer is None else answer.attempts
        left = self.ask.outgoing if self.ask is not None and any(attempt.bytes_sent for attempt in attempts) else None
        calibration = self.model.calibration
        calibrated = None if calibration is None else calibration.threshold
        return Receipt(
            decision=self.choice,
            score=_confidence(result),
            threshold=calibrated if self.policy.threshold is None else self.policy.threshold,
            gate=self.gate,
            calibration=self.calibration,
            endpoint=None if self.cloud is None or not attempts else self.cloud.endpoint.url,
            model=None if completion is None else completion.model,
            sent=None if left is None else left.prompt,
            redacted=() if left is None else left.redaction.redacted,
            attempts=attempts,
            bytes_sent=sum(attempt.bytes_sent for attempt in attempts),
            bytes_received=sum(attempt.bytes_received for attempt in attempts),
            prompt_tokens=None if completion is None else completion.prompt_tokens,
            completion_tokens=None if completion is None else completion.completion_tokens,
            cost=None if answer is None else answer.cost,
            latency_ms=attempts[-1].started_ms + attempts[-1].latency_ms - attempts[0].started_ms if attempts else 0.0,
            total_ms=self.deadline.elapsed_ms(),
        )


def is_whole(result: Result) -> bool:
    """Whether a local answer came to its end, rather than to the caller's."""
    return result.finish_reason not in _CUT


def _confidence(result: Result | None) -> float | None:
    """The local answer's confidence; a beginning has none, for it is likelier than any whole that it may become."""
    return result.confidence if result is not None and is_whole(result) else None


def endpoint_needed() -> EndpointUnavailableError:
    """The error of the mode ``only_cloud`` without a cloud."""
    return EndpointUnavailableError(
        "expected an endpoint for the mode only_cloud, found none configured; give the Hybrid one, or choose another mode"
    )
