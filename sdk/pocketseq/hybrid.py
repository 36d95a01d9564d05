"""Local first: a model on the device, a cloud to ask, and a policy between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from dataclasses import replace
from typing import Protocol

from pocketseq.endpoint import Completion, Endpoint
from pocketseq.errors import EndpointError, EndpointResponseError, EndpointTimeoutError, EndpointUnavailableError
from pocketseq.policy import Decision, Policy, decide
from pocketseq.results import Result
from pocketseq.suggestion import Receipt, Suggestion
from pocketseq.template import Input, Template


class Threshold(Protocol):
    """What a hybrid reads of a calibration; ``pocketseq.manifest.Calibration`` is one."""

    @property
    def threshold(self) -> float:
        """Confidence from which a local answer may be served; above 1 where none may."""
        ...


class LocalModel(Protocol):
    """What a hybrid asks of a model; ``PocketModel`` is one."""

    @property
    def template(self) -> Template:
        """How an input is read, and how it is written for the cloud."""
        ...

    @property
    def calibration(self) -> Threshold | None:
        """Threshold made on this very model; None where there is none."""
        ...

    def generate(self, source: Input, /) -> Result:
        """Answer one input."""
        ...

    def stream(self, source: Input, /) -> Generator[str, None, Result]:
        """Answer one input piece by piece."""
        ...


class Hybrid:
    """Answers on the device, and asks a cloud where the policy says so; safe to share between threads.

    The local answer is made first (save in the mode ``only_cloud``) and stands whatever happens to the cloud. Nothing leaves the
    device without an endpoint.
    """

    def __init__(self, model: LocalModel, endpoint: Endpoint | None = None, policy: Policy | None = None) -> None:
        """Put a model, a cloud and a policy together; the caller closes what it opened.

        Args:
            model: Answers on the device.
            endpoint: The cloud; None keeps everything here.
            policy: When to ask it; the default policy if not given.
        """
        self.model = model
        """Answers on the device."""
        self.endpoint = endpoint
        """The cloud, if any."""
        self.policy = policy or Policy()
        """When the cloud is asked."""

    def suggest(self, source: Input) -> Suggestion:
        """Answer one input.

        Args:
            source: A text for the template's primary field, or a mapping of field names to texts.

        Raises:
            InputError: not what the template takes.
            EndpointError: the cloud gave no usable answer, and the mode is ``only_cloud``; no other mode raises it.
        """
        started_s = time.monotonic()
        if self.policy.mode == "only_cloud":
            return self._only_cloud(source, started_s)
        return self._route(source, self.model.generate(source), started_s)

    async def asuggest(self, source: Input) -> Suggestion:
        """Answer one input without blocking the event loop; see ``suggest``."""
        return await asyncio.to_thread(self.suggest, source)

    def stream(self, source: Input) -> Generator[str, None, Suggestion]:
        """Answer one input in pieces that are never taken back.

        The local answer appears as it is decoded where nothing can replace it (``only_local``, or no endpoint). Where the cloud
        may be asked the choice is made first, and the chosen text comes whole.

        Args:
            source: See ``suggest``.

        Returns:
            A generator of pieces; its return value, for those who ask for it, is the suggestion.

        Raises:
            InputError: see ``suggest``; at the call, not at the first piece.
            EndpointError: see ``suggest``; at the first piece.
        """
        self.model.template.fields_of(source)
        return self._pieces(source)

    def _pieces(self, source: Input) -> Generator[str, None, Suggestion]:
        if self.policy.mode == "only_local" or (self.endpoint is None and self.policy.mode != "only_cloud"):
            result = yield from self.model.stream(source)
            return _served(result, self._decide(result).reason)
        suggestion = self.suggest(source)
        if suggestion.text:
            yield suggestion.text
        return suggestion

    def _decide(self, result: Result) -> Decision:
        calibration = self.model.calibration
        return decide(
            self.policy,
            confidence=result.confidence,
            calibrated=None if calibration is None else calibration.threshold,
            has_endpoint=self.endpoint is not None,
        )

    def _route(self, source: Input, result: Result, started_s: float) -> Suggestion:
        decision = self._decide(result)
        if not decision.ask or self.endpoint is None:
            return _served(result, decision.reason)
        answer, receipt = self._ask(self.endpoint, source, started_s)
        if isinstance(answer, EndpointError):
            return _served(result, f"{decision.reason}; the cloud was no help, so the local answer stands: {answer}", receipt)
        return Suggestion(answer.text, "cloud", result.confidence, decision.reason, receipt, local=result)

    def _only_cloud(self, source: Input, started_s: float) -> Suggestion:
        if self.endpoint is None:
            raise EndpointUnavailableError(
                "expected an endpoint for the mode only_cloud, found none configured; give the Hybrid one, or choose another mode"
            )
        answer, receipt = self._ask(self.endpoint, source, started_s)
        if isinstance(answer, EndpointError):
            raise answer
        return Suggestion(answer.text, "cloud", None, "the mode is only_cloud", receipt, local=None)

    def _ask(self, endpoint: Endpoint, source: Input, started_s: float) -> tuple[Completion | EndpointError, Receipt]:
        """Ask the cloud within what is left of the deadline; whatever goes wrong there comes back as an error, unraised."""
        template, policy = self.model.template, self.policy
        prompt = template.render_prompt(source)
        asked_s = time.monotonic()
        deadline_s = None if policy.deadline_ms is None else policy.deadline_ms / 1000 - (asked_s - started_s)
        if deadline_s is not None and deadline_s <= 0:
            spent = EndpointTimeoutError(
                f"the local answer took the whole deadline of {policy.deadline_ms:.0f} ms; nothing was sent"
            )
            return spent, Receipt(error=type(spent).__name__)
        failure: EndpointError
        try:
            completion = endpoint.complete(
                prompt, instruction=template.instruction, max_tokens=policy.max_tokens, deadline_s=deadline_s
            )
        except EndpointError as error:
            failure = error
        except Exception as error:  # an endpoint may be anybody's code, and the local answer is not lost to its slips
            failure = EndpointError(f"the endpoint raised {type(error).__name__}: {error}")
        else:
            return _checked(completion, endpoint.url)
        return failure, Receipt(
            endpoint=endpoint.url,
            attempts=1,
            bytes_sent=failure.request_bytes,
            bytes_received=failure.response_bytes,
            latency_ms=(time.monotonic() - asked_s) * 1000,
            error=type(failure).__name__,
        )


def _checked(completion: Completion, url: str) -> tuple[Completion | EndpointError, Receipt]:
    """A whole answer with its receipt; half an answer is none."""
    receipt = Receipt(
        endpoint=url,
        attempts=1,
        bytes_sent=completion.request_bytes,
        bytes_received=completion.response_bytes,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        latency_ms=completion.latency_ms,
    )
    if completion.finish_reason != "length":
        return completion, receipt
    cut = EndpointResponseError(f"{url}: expected a whole answer, found one cut at its token limit; raise the policy's max_tokens")
    return cut, replace(receipt, error=type(cut).__name__)


def _served(result: Result, reason: str, receipt: Receipt | None = None) -> Suggestion:
    return Suggestion(result.text, "local", result.confidence, reason, receipt or Receipt(), local=result)
