"""The cloud as a hybrid sees it: an endpoint, its health, and what it may be used for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from pocketseq.budget import Price
from pocketseq.endpoint import Completion, Endpoint, StreamingEndpoint
from pocketseq.errors import EndpointWithheldError
from pocketseq.hybrid.ask import Answer, Ask
from pocketseq.hybrid.breaker import Breaker
from pocketseq.hybrid.deadline import Deadline
from pocketseq.hybrid.ledger import Ledger, Reservation
from pocketseq.hybrid.retries import Backoff, RetryQuota
from pocketseq.policy import Policy
from pocketseq.privacy.outgoing import Outgoing

MOST_AT_ONCE: Final = 32
"""Questions under way at one time: an endpoint that never returns cannot take more threads than these."""

_BYTES_PER_TOKEN: Final = 3
"""For estimates: fewer than most tokenizers put into one, so that a budget rather ends early."""
_ANSWER_TOKENS: Final = 256
"""For estimates of an answer that nothing bounds."""


@dataclass(slots=True)
class Cloud:
    """One endpoint, shared by all questions and all threads."""

    endpoint: Endpoint
    retries: int
    """Requests after the first, for one question."""
    max_tokens: int | None
    """Bound on an answer's length."""
    price: Price | None
    ledger: Ledger | None
    """None where nothing is limited."""
    breaker: Breaker = field(default_factory=Breaker)
    quota: RetryQuota = field(default_factory=RetryQuota)
    backoff: Backoff = field(default_factory=Backoff)
    random: Random = field(default_factory=Random)
    streams: bool = True
    """False once it has refused a stream and answered the same question whole: it is not asked for another."""
    _places: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(MOST_AT_ONCE))

    @classmethod
    def under(
        cls, policy: Policy, endpoint: Endpoint, *, random: Random, clock: Callable[[], float], wall: Callable[[], float]
    ) -> Cloud:
        """The endpoint under a policy; the other arguments are those of a ``Hybrid``."""
        return cls(
            endpoint=endpoint,
            retries=policy.retries,
            max_tokens=policy.max_tokens,
            price=policy.price,
            ledger=None if policy.budget is None else Ledger(policy.budget, clock=clock, wall=wall),
            breaker=Breaker(clock=clock),
            random=random,
        )

    def ask(
        self,
        prepare: Callable[[], Outgoing],
        deadline: Deadline,
        *,
        streamed: bool = False,
        on_end: Callable[[Answer], None] | None = None,
    ) -> Ask:
        """Ask in a thread of its own, so that the caller can leave at the deadline whatever the endpoint does.

        Args:
            prepare: Makes what leaves; called in that thread too, for a detector may take its time.
            deadline: Until when.
            streamed: Whether pieces are wanted, or the question may be taken back; where the endpoint can do that.
            on_end: Called in that thread when it has ended.
        """
        streamed = streamed and self.streams and isinstance(self.endpoint, StreamingEndpoint)
        ask = Ask(self, prepare, deadline, streamed=streamed, on_end=on_end)
        if not self._places.acquire(blocking=False):
            ask.refuse(f"expected fewer than {MOST_AT_ONCE} questions under way, found as many; nothing was sent")
            return ask
        try:
            threading.Thread(target=self._run, args=(ask,), name="pocketseq-ask", daemon=True).start()
        except RuntimeError:  # a machine at its limits; the local answer is not lost to that
            self._places.release()
            ask.refuse("expected to start a thread, found that the system has none left; nothing was sent")
        return ask

    def reserve(self, prompt_bytes: int) -> Reservation:
        """Count a request against the budget before it is made.

        Raises:
            EndpointWithheldError: the budget has no room for it.
        """
        prompt, answer = prompt_bytes // _BYTES_PER_TOKEN + 1, self.max_tokens or _ANSWER_TOKENS
        expected = Reservation(tokens=prompt + answer, cost=self._cost(prompt, answer))
        reserved = expected if self.ledger is None else self.ledger.reserve(expected)
        if isinstance(reserved, str):
            raise EndpointWithheldError(f"the budget of {reserved} has no room for another request; nothing was sent")
        return reserved

    def settle(self, expected: Reservation, completion: Completion | None, *, sent: bool) -> float | None:
        """Put what a request used in place of what was expected, and give its cost; None without a price."""
        used = expected
        if not sent:
            used = Reservation(requests=0, tokens=0, cost=0.0)
        elif completion is not None and completion.prompt_tokens is not None and completion.completion_tokens is not None:
            prompt, answer = completion.prompt_tokens, completion.completion_tokens
            used = Reservation(tokens=prompt + answer, cost=self._cost(prompt, answer))
        if self.ledger is not None:
            self.ledger.settle(expected, used)
        return None if self.price is None else used.cost

    def _cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        return 0.0 if self.price is None else self.price.of(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)

    def _run(self, ask: Ask) -> None:
        try:
            ask.run()
        finally:
            self._places.release()
