"""A network that is slow, loses requests and is down for a while, in front of any endpoint; on a real or a simulated clock."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pocketseq.endpoint import Completion, Endpoint
from pocketseq.errors import EndpointTimeoutError, EndpointUnavailableError


@dataclass(frozen=True, slots=True)
class Outage:
    """A span in which nothing gets through."""

    start_s: float
    """On the network's clock."""
    stop_s: float
    """On the network's clock."""


@dataclass(frozen=True, slots=True)
class Network:
    """How a network behaves."""

    latency_ms: float = 0.0
    """Median time that it adds to an answer, there and back together."""
    spread: float = 0.3
    """Standard deviation of the logarithm of that time: 0.3 makes one in twenty half as long again or more."""
    loss: float = 0.0
    """Share of requests that are never answered."""
    outages: tuple[Outage, ...] = ()
    """When it is down: connections are refused."""


class SimulatedClock:
    """Seconds that pass only when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0
        """Seconds so far."""

    def __call__(self) -> float:
        """Read the clock."""
        return self.now_s

    def wait(self, seconds: float) -> None:
        """Let time pass without taking any."""
        self.now_s += max(0.0, seconds)


class NetworkEndpoint:
    """An ``Endpoint`` behind a bad network; safe to call from many threads."""

    def __init__(
        self,
        endpoint: Endpoint,
        network: Network,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
        patience_s: float = 30.0,
        seed: int = 0,
    ) -> None:
        """Put a network before an endpoint.

        Args:
            endpoint: What answers.
            network: How the way to it behaves.
            clock: Seconds, for the outages.
            wait: Lets seconds pass; with a ``SimulatedClock``, its ``wait``.
            patience_s: How long a lost request is waited for by callers without a deadline.
            seed: Of latencies and losses.
        """
        self._endpoint = endpoint
        self._network = network
        self._clock = clock
        self._wait = wait
        self._patience_s = patience_s
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """That of the endpoint behind."""
        return self._endpoint.url

    def complete(
        self, prompt: str, *, instruction: str = "", max_tokens: int | None = None, deadline_s: float | None = None
    ) -> Completion:
        """Ask over the network; see ``Endpoint.complete``."""
        network, now_s = self._network, self._clock()
        with self._lock:
            latency_s = network.latency_ms / 1000 * math.exp(self._random.gauss(0.0, network.spread))
            lost = self._random.random() < network.loss
        sent = len(prompt.encode("utf-8")) + len(instruction.encode("utf-8"))
        if any(outage.start_s <= now_s < outage.stop_s for outage in network.outages):
            raise EndpointUnavailableError(f"{self.url}: expected a connection, found the network down")
        patience_s = self._patience_s if deadline_s is None else deadline_s
        if lost or latency_s > patience_s:
            self._wait(patience_s)
            raise EndpointTimeoutError(
                f"{self.url}: expected an answer within {1000 * patience_s:.0f} ms, found none", request_bytes=sent
            )
        left_s = None if deadline_s is None else deadline_s - latency_s
        completion = self._endpoint.complete(prompt, instruction=instruction, max_tokens=max_tokens, deadline_s=left_s)
        self._wait(latency_s)
        return replace(completion, latency_ms=completion.latency_ms + 1000 * latency_s)
