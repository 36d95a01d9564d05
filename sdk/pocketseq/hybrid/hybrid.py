"""The hybrid itself: what applications call."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass, replace
from random import Random

from pocketseq.endpoint import Endpoint
from pocketseq.files import digest
from pocketseq.hybrid import answers
from pocketseq.hybrid.ask import Answer
from pocketseq.hybrid.auditor import Auditor
from pocketseq.hybrid.cache import Cache
from pocketseq.hybrid.call import Call, is_whole
from pocketseq.hybrid.cloud import Cloud
from pocketseq.hybrid.deadline import Deadline
from pocketseq.hybrid.drift import Drift
from pocketseq.hybrid.events import Draft, Event, Final
from pocketseq.hybrid.feedback import Acceptance, Feedback, Outcome
from pocketseq.hybrid.local import LocalModel
from pocketseq.policy import Mode, Policy
from pocketseq.privacy import BUILT_IN, Detector
from pocketseq.records import plain
from pocketseq.suggestion import Receipt, Source, Suggestion
from pocketseq.telemetry import Telemetry
from pocketseq.template import Input
from pocketseq.threads import in_thread, iterated


class Hybrid:
    """Answers on the device, and asks a cloud where the policy says so; safe to share between threads.

    The local answer stands whatever happens to the cloud (save in the mode ``only_cloud``, which makes none). Nothing leaves the
    device without an endpoint, and what leaves is redacted.
    """

    def __init__(
        self,
        model: LocalModel,
        endpoint: Endpoint | None = None,
        policy: Policy | None = None,
        *,
        detectors: Iterable[Detector] = BUILT_IN,
        telemetry: Telemetry | None = None,
        random: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Put a model, a cloud and a policy together; the caller closes what it opened.

        Args:
            model: Answers on the device.
            endpoint: The cloud; None keeps everything here.
            policy: When to ask it; the default policy if not given.
            detectors: What is looked for and redacted before text leaves; ``()`` redacts nothing.
            telemetry: Where spans and metrics go; OpenTelemetry's global providers if not given.
            random: Where chance comes from, for waits between retries and for audits.
            clock: Monotonic seconds, by which deadlines, rests of the breaker and windows of budgets go. Waits themselves are real:
                with a simulated clock, let the endpoint move it, as a ``NetworkEndpoint`` does.
            wall: Seconds since the epoch, by which a budget's file is read after a restart.

        Raises:
            PolicyError: the policy wants audits, and the model's calibration promises nothing that they could test.
        """
        self.model = model
        """Answers on the device."""
        self.endpoint = endpoint
        """The cloud, if any."""
        self.policy = policy or Policy()
        """When the cloud is asked."""
        self._detectors = tuple(detectors)
        self._telemetry = telemetry or Telemetry()
        random = random or Random()
        self._cloud = None if endpoint is None else Cloud.under(self.policy, endpoint, random=random, clock=clock, wall=wall)
        self._cache = Cache(model.template, size=self.policy.cache_size, continues=self.policy.continues)
        self._feedback = Feedback()
        self._clock = clock
        self._auditor = Auditor(model.calibration, share=self.policy.audit, hear=self._audited, random=random)
        self._calibration = digest(plain(model.calibration)) if is_dataclass(model.calibration) else None
        self._name = str(getattr(getattr(model, "manifest", None), "name", type(model).__name__))

    def suggest(self, source: Input, *, mode: Mode | None = None, deadline_ms: float | None = None) -> Suggestion:
        """Answer one input.

        Args:
            source: A text for the template's primary field, or a mapping of field names to texts.
            mode: For this call instead of the policy's.
            deadline_ms: For this call instead of the policy's.

        Raises:
            InputError: not what the template takes.
            PolicyError: an unknown mode, or a deadline that is not above 0.
            EndpointError: the cloud gave no usable answer, and the mode is ``only_cloud``; no other mode raises it.
        """
        return self._answer(self._call(source, mode, deadline_ms))

    async def asuggest(self, source: Input, *, mode: Mode | None = None, deadline_ms: float | None = None) -> Suggestion:
        """Answer one input without blocking the event loop; cancelling it takes a question to the cloud back. See ``suggest``."""
        call = self._call(source, mode, deadline_ms, streamed=True)  # only a stream can be taken back once it is asked
        return await in_thread(lambda: self._answer(call), abandon=call.abandon)

    def stream(self, source: Input, *, mode: Mode | None = None, deadline_ms: float | None = None) -> Generator[Event, None, None]:
        """Answer one input by events: drafts at once, a replacement where the cloud knows better, and the final suggestion.

        Args:
            source: See ``suggest``.
            mode: See ``suggest``.
            deadline_ms: See ``suggest``; it runs from this call, also while the consumer takes its time.

        Returns:
            A generator of ``Draft``, ``Replace`` and, as the last, ``Final``; closing it stops the model and takes a question to
            the cloud back.

        Raises:
            InputError: see ``suggest``; at the call, not at the first event.
            PolicyError: see ``suggest``; at the call.
            EndpointError: see ``suggest``; after drafts where the cloud broke off.
        """
        return self._events(self._call(source, mode, deadline_ms, streamed=True))

    def astream(self, source: Input, *, mode: Mode | None = None, deadline_ms: float | None = None) -> AsyncGenerator[Event, None]:
        """Answer one input by events without blocking the event loop; see ``stream``."""
        call = self._call(source, mode, deadline_ms, streamed=True)
        return iterated(self._events(call), abandon=call.abandon)

    def accepted(self, suggestion: Suggestion) -> None:
        """Tell that the user took a suggestion as it was."""
        self._tell(suggestion, "accepted")

    def edited(self, suggestion: Suggestion) -> None:
        """Tell that the user took a suggestion and changed it."""
        self._tell(suggestion, "edited")

    def dismissed(self, suggestion: Suggestion) -> None:
        """Tell that the user did not take a suggestion."""
        self._tell(suggestion, "dismissed")

    def acceptance(self, source: Source | None = None) -> Acceptance:
        """How suggestions fared, those of one source or all, as far as the application told."""
        return self._feedback.acceptance(source)

    @property
    def drift(self) -> Drift | None:
        """What audits say of the promised risk; None where the model's calibration promises none that they could test."""
        return self._auditor.drift

    def __repr__(self) -> str:
        return f"Hybrid({self._name!r}, {None if self.endpoint is None else self.endpoint.url!r}, mode={self.policy.mode!r})"

    def _call(self, source: Input, mode: Mode | None, deadline_ms: float | None, *, streamed: bool = False) -> Call:
        policy = self.policy
        if mode is not None:
            policy = replace(policy, mode=mode)
        if deadline_ms is not None:
            policy = replace(policy, deadline_ms=deadline_ms)
        return Call(
            model=self.model,
            cloud=self._cloud,
            policy=policy,
            detectors=self._detectors,
            calibration=self._calibration,
            source=source,
            fields=self.model.template.fields_of(source),
            deadline=Deadline.after(policy.deadline_ms, clock=self._clock),
            streamed=streamed,
        )

    def _answer(self, call: Call) -> Suggestion:
        with self._failures():
            suggestion = self._cached(call) or self._kept(call, answers.answer(call))
        return self._told(call, suggestion)

    def _events(self, call: Call) -> Generator[Event, None, None]:
        with self._failures():
            if (suggestion := self._cached(call)) is not None:
                if suggestion.text:
                    yield Draft(suggestion.text)
                yield Final(self._told(call, suggestion))
                return
            for event in answers.events(call):
                if isinstance(event, Final):
                    yield Final(self._told(call, self._kept(call, event.suggestion)))
                else:
                    yield event

    def _cached(self, call: Call) -> Suggestion | None:
        found = self._cache.get(call.fields, mode=call.policy.mode)
        if found is None:
            return None
        receipt = Receipt(
            decision="cache",
            score=found.receipt.score,
            threshold=found.receipt.threshold,
            calibration=found.receipt.calibration,
            total_ms=call.deadline.elapsed_ms(),
        )
        return replace(found, source="cache", reason=f"answered before: {found.reason}", receipt=receipt)

    def _kept(self, call: Call, suggestion: Suggestion) -> Suggestion:
        """Keep an answer that would be given again, and perhaps audit one that was trusted."""
        receipt, local = suggestion.receipt, suggestion.local
        whole = suggestion.source == "cloud" or (local is not None and is_whole(local))
        if receipt.error is None and whole:
            self._cache.put(call.fields, suggestion, mode=call.policy.mode)
        trusted = call.policy.mode == "prefer_local" and suggestion.source == "local" and self._promised(receipt.score)
        if trusted and receipt.error is None and not receipt.attempts:
            return self._auditor.perhaps(call, suggestion)
        return suggestion

    def _promised(self, score: float | None) -> bool:
        """Whether the calibration would serve an answer of this confidence; a policy may serve less sure ones."""
        calibration = self.model.calibration
        return calibration is not None and score is not None and score >= calibration.threshold

    def _told(self, call: Call, suggestion: Suggestion) -> Suggestion:
        cloud_model = getattr(self.endpoint, "model", None)
        self._telemetry.suggested(suggestion, model=self._name, cloud_model=cloud_model, fields=call.fields)
        return suggestion

    def _audited(self, drift: Drift, answer: Answer, differs: bool | None) -> None:
        if self.endpoint is not None:
            cloud_model = getattr(self.endpoint, "model", None)
            self._telemetry.audited(drift, answer, differs=differs, url=self.endpoint.url, cloud_model=cloud_model)

    def _tell(self, suggestion: Suggestion, outcome: Outcome) -> None:
        self._feedback.add(suggestion.source, outcome)
        self._telemetry.told(suggestion, outcome)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._telemetry.failed(error, model=self._name)
            raise
