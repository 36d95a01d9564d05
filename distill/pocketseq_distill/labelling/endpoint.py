"""Black-box teachers behind an OpenAI-compatible API, asked within a budget."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from pocketseq.budget import Price
from pocketseq.cloud import CloudEndpoint
from pocketseq.endpoint import Completion
from pocketseq.errors import (
    DataError,
    EndpointAuthError,
    EndpointError,
    EndpointRefusalError,
    EndpointResponseError,
    EndpointTimeoutError,
    EndpointUnavailableError,
    RecipeError,
    TeacherError,
)
from pocketseq.examples import Example
from pocketseq.files import digest
from pocketseq.hybrid.retries import Backoff, RetryQuota
from pocketseq.template import Template
from pocketseq_distill.labelling.prompts import write_prompt
from pocketseq_distill.labelling.spending import Estimate, LabelBudget, Spending, estimate, rough_tokens
from pocketseq_distill.labelling.teacher import Asking, Candidate, Failure, Question, Reply

_FAILURES: Final = 20
"""Questions in a row without an answer after which an endpoint is left alone."""
_ANSWER_TOKENS: Final = 256
"""For estimates of an answer that nothing bounds."""
_LONGEST_WAIT_S: Final = 300.0
"""An endpoint that asks for a longer wait before a retry has failed: its row is asked again by the next call, not hours later."""


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Which endpoint, how it is asked, and what it may cost."""

    url: str
    """Root of the API, such as ``https://host/v1``."""
    model: str
    """Name of the model there."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key."""
    prompt: str | None = None
    """The user's message, with places such as ``{text}`` for the fields of a row; None sends what the template writes: the primary
    field alone, or all fields as JSON."""
    instruction: str | None = None
    """The system's message; None takes the template's instruction."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Further fields of each request's body, such as ``logprobs = true``; ``max_tokens`` where no newer name for it is known."""
    max_tokens: int | None = None
    """Longest answer in the endpoint's tokens, unless ``[label]`` says otherwise; its own bound if not given."""
    concurrency: int = 8
    """Requests under way at a time."""
    retries: int = 2
    """Requests after the first for one answer, where its failure may pass; waits grow, and the endpoint may ask for up to 300 s."""
    timeout_s: float = 60.0
    """Bound on one request."""
    price: Price | None = None
    """What tokens cost, in whatever currency you think in."""
    budget: LabelBudget = field(default_factory=LabelBudget)
    """Where to stop."""
    tokenizer: str | None = None
    """A ``tokenizer.json`` by which an estimate counts; a third of a text's bytes if not given, which is rather too many."""

    def __post_init__(self) -> None:
        for name, least in (("concurrency", 1), ("retries", 0), ("timeout_s", 0.001)):
            if getattr(self, name) < least:
                raise RecipeError(f"[teacher.endpoint]: expected {name} of {least} or more, found {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class _Opened:
    """What is held open until ``close``."""

    endpoints: dict[float, CloudEndpoint] = field(default_factory=dict)
    """By temperature."""
    closed: threading.Event = field(default_factory=threading.Event)
    """Set by ``close``, or an ``ask`` that failed: a thread that was asking asks no more, and does not wait for a retry."""


class EndpointTeacher:
    """A model behind an OpenAI-compatible API. Each answer is a request of its own; budget, retries and failures are counted."""

    def __init__(self, settings: EndpointSettings, template: Template, *, spent: Path | None = None) -> None:
        """Name an endpoint; nothing is sent before the first question.

        Args:
            settings: Which, how and for how much.
            template: Writes the prompt where the settings do not.
            spent: File that keeps what was spent, so that the budget holds over interrupted calls.

        Raises:
            EndpointError: a URL over which text or a key could leak.
            MissingExtraError: the ``openai`` package is not installed.
            RecipeError: a limit on money without a price.
        """
        self.settings = settings
        self.spending = Spending(settings.budget, settings.price, spent)
        """What was spent, and the limits."""
        self._template = template
        self._instruction = template.instruction if settings.instruction is None else settings.instruction
        self._opened = _Opened()
        self._quota, self._backoff, self._random = RetryQuota(), Backoff(), Random()
        self._lock = threading.Lock()
        self._failed_in_a_row = 0
        self._endpoint(0.0, self._opened)

    @property
    def id(self) -> str:
        """Fingerprint of what is sent and to whom; what answers behind the URL may change unseen."""
        settings = self.settings
        return digest(
            {
                "endpoint": [settings.url, settings.model, settings.parameters, settings.max_tokens],
                "prompt": [settings.prompt, self._instruction, self._template.to_json() if settings.prompt is None else None],
            }
        )

    @property
    def concurrency(self) -> int:
        """Requests under way at a time; each answer is written as it comes, for it was paid for."""
        return self.settings.concurrency

    def ask(self, questions: Sequence[Question], how: Asking) -> list[Reply]:
        """Ask, one request for each answer; see ``Teacher.ask``.

        After an error other threads that are asking end as well: with the request that is under way, which may be paid for.

        Raises:
            TeacherError: beams, or several answers without a temperature.
            EndpointError: the key is refused, or too many questions in a row found no answer.
        """
        if how.beams > 1 or (how.candidates > 1 and how.temperature == 0):
            raise TeacherError(
                f"expected one answer, or several at a temperature, of an endpoint, found {how.candidates} answers, "
                f"{how.beams} beams and temperature {how.temperature}"
            )
        opened = self._opened
        try:
            return [self._reply(question, how, opened) for question in questions]
        except BaseException:
            with self._lock:
                if self._opened is opened:  # what answers requests under way stays open, and who asks from now on is let
                    self._opened = _Opened(opened.endpoints)
                opened.closed.set()
            raise

    def estimate(self, examples: Sequence[Example], how: Asking) -> Estimate:
        """What asking about some rows is likely to cost; nothing is sent.

        Raises:
            DataError: a tokenizer that cannot be read.
        """
        count = None
        if self.settings.tokenizer is not None:
            from pocketseq.tokenizer import TextTokenizer

            try:
                tokenizer = TextTokenizer.from_file(Path(self.settings.tokenizer))
            except Exception as error:  # tokenizers raises nothing narrower
                raise DataError(
                    f"[teacher.endpoint]: expected a tokenizer.json at {self.settings.tokenizer}, found: {error}; "
                    "mend tokenizer, or leave it out for a rougher estimate"
                ) from error

            def count(text: str) -> int:
                return len(tokenizer.text_ids(text))

        return estimate(
            [self._instruction + self._prompt(example.fields) for example in examples],
            [example.target for example in examples],
            candidates=how.candidates,
            max_tokens=how.max_new_tokens or self.settings.max_tokens,
            price=self.settings.price,
            count=count,
        )

    def close(self) -> None:
        """End requests under way and close the connections; whoever is asking sends no more."""
        with self._lock:
            opened, self._opened = self._opened, _Opened()
            opened.closed.set()
        for endpoint in opened.endpoints.values():
            endpoint.close()

    def _prompt(self, fields: Mapping[str, str]) -> str:
        if self.settings.prompt is None:
            return self._template.render_prompt(fields)
        return write_prompt(self.settings.prompt, fields)

    def _endpoint(self, temperature: float, opened: _Opened) -> CloudEndpoint:
        settings = self.settings
        with self._lock:
            if opened.closed.is_set():
                raise EndpointUnavailableError(f"{settings.url}: expected an open teacher, found one that was closed")
            if temperature not in opened.endpoints:
                opened.endpoints[temperature] = CloudEndpoint(
                    settings.url,
                    model=settings.model,
                    api_key_env=settings.api_key_env,
                    timeout_s=settings.timeout_s,
                    parameters={"temperature": temperature, **settings.parameters},
                )
            return opened.endpoints[temperature]

    def _reply(self, question: Question, how: Asking, opened: _Opened) -> Reply:
        candidates: list[Candidate] = []
        failed: Reply | None = None
        for _ in range(how.candidates):
            found = self._candidate(question, how, opened)
            if isinstance(found, Candidate):
                candidates.append(found)
            else:
                failed = found
                if found.failure in ("budget", "refused") or opened.closed.is_set():
                    break
        # A few answers are as good as many, but where money ran out, or somebody stopped it, they would stand for good.
        if failed is not None and (not candidates or failed.failure == "budget" or opened.closed.is_set()):
            return failed
        return Reply(tuple(candidates), why="" if failed is None else f"{failed.failure}: {failed.why}")

    def _candidate(self, question: Question, how: Asking, opened: _Opened) -> Candidate | Reply:
        """One answer: requests until there is one, or no more use in asking."""
        for retry in range(self.settings.retries + 1):
            found = self._request(question, how, opened)
            if isinstance(found, Reply):
                return found
            if isinstance(found, Completion):
                self._quota.succeeded(retry=retry > 0)
                self._failed_in_a_row = 0
                return _answer(found)
            if isinstance(found, EndpointAuthError):
                raise found
            error = found
            wait_s = self._backoff.wait_s(retry, retry_after_s=found.retry_after_s, random=self._random)
            may_pass = (found.retryable or isinstance(found, EndpointTimeoutError)) and wait_s <= _LONGEST_WAIT_S
            if not may_pass or retry == self.settings.retries or not self._quota.take() or opened.closed.wait(wait_s):
                break
        if opened.closed.is_set():  # no failure of the endpoint's
            return Reply(failure="unavailable", why=str(error))
        return self._failed(error)

    def _request(self, question: Question, how: Asking, opened: _Opened) -> Completion | EndpointError | Reply:
        """One request, counted; a reply where there is no money for it."""
        prompt, limit = self._prompt(question.fields), how.max_new_tokens or self.settings.max_tokens
        expected = self.spending.expected(
            prompt_tokens=rough_tokens(self._instruction + prompt), completion_tokens=limit or _ANSWER_TOKENS
        )
        if (full := self.spending.reserve(expected)) is not None:
            return Reply(failure="budget", why=f"no room for another request in {full}; so far {self.spending.spent}")
        used = expected
        try:
            completion = self._endpoint(how.temperature, opened).complete(prompt, instruction=self._instruction, max_tokens=limit)
            if completion.prompt_tokens is not None and completion.completion_tokens is not None:
                used = self.spending.used(prompt_tokens=completion.prompt_tokens, completion_tokens=completion.completion_tokens)
        except EndpointError as error:
            if not error.request_bytes and error.status is None:  # nothing left this machine
                used = type(expected)()
            return error
        else:
            return completion
        finally:
            self.spending.settle(expected, used)

    def _failed(self, error: EndpointError) -> Reply:
        if isinstance(error, EndpointRefusalError):
            return Reply(failure="refused", why=str(error))
        with self._lock:
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= _FAILURES:
                raise type(error)(
                    f"{error} ({_FAILURES} answers in a row could not be had; what was labelled is kept, and the same call goes on)"
                )
        failure: Failure = "unavailable"
        if isinstance(error, EndpointTimeoutError):
            failure = "timeout"
        elif isinstance(error, EndpointResponseError):
            failure = "malformed"
        return Reply(failure=failure, why=str(error))


def _answer(completion: Completion) -> Candidate | Reply:
    if completion.finish_reason == "content_filter":
        return Reply(failure="refused", why="the endpoint's filter cut the answer off")
    return Candidate(
        text=completion.text,
        logprob=completion.logprob,
        mean_logprob=completion.mean_logprob,
        finish_reason="length" if completion.finish_reason == "length" else "stop",
    )
