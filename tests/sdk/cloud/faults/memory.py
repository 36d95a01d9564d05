"""An endpoint in memory that goes wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from random import Random

from tests.sdk.cloud.faults.tally import CLOUD, KEY, SECRET, Tally

from pocketseq import errors
from pocketseq.endpoint import Completion
from pocketseq.errors import EndpointError


class Broken:
    """An endpoint in memory that goes wrong in every way that a Protocol cannot forbid."""

    url = "https://fault.invalid/v1"

    def __init__(self, random: Random, tally: Tally) -> None:
        self._random = random
        self._tally = tally

    def complete(
        self, prompt: str, *, instruction: str = "", max_tokens: int | None = None, deadline_s: float | None = None
    ) -> Completion:
        fault = self._draw(prompt, ("good", "typed", "untyped", "late", "deaf", "nonsense", "cut"))
        if fault in {"late", "deaf"}:
            time.sleep((deadline_s or 0.01) * (1.0 if fault == "late" else 2.0 + self._random.random()))
        elif fault == "typed":
            raise self._error()
        elif fault == "untyped":
            raise self._random.choice((OSError, ValueError, KeyError, RuntimeError, MemoryError))(f"{KEY} {SECRET}")
        elif fault == "nonsense":
            return self._random.choice((None, "text", 5, object()))  # type: ignore[return-value]
        return self._completion(prompt, "length" if fault == "cut" else "stop")

    def stream(
        self, prompt: str, *, instruction: str = "", max_tokens: int | None = None, deadline_s: float | None = None
    ) -> BrokenStream:
        if self._random.random() < 0.1:
            raise self._error()
        fault = self._draw(prompt, ("good", "half", "untyped half", "drip", "nonsense", "unfinished"))
        return BrokenStream(fault, self._completion(prompt, "stop"), self._error(), deadline_s or 0.01)

    def _draw(self, prompt: str, faults: tuple[str, ...]) -> str:
        if SECRET in prompt:
            self._tally.wrong.append("a secret left")
        fault = self._random.choice(faults)
        self._tally.faults[fault] += 1
        return fault

    def _completion(self, prompt: str, reason: str) -> Completion:
        tokens = self._random.choice((None, 7))
        return Completion(CLOUD, reason, tokens, tokens, None, 1.0, len(prompt), len(CLOUD))

    def _error(self) -> EndpointError:
        kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EndpointError)]
        return self._random.choice(kinds)(
            "drawn",
            request_bytes=self._random.choice((0, 50)),
            status=self._random.choice((None, 429, 500)),
            retryable=self._random.choice((None, True, False)),
            retry_after_s=self._random.choice((None, 0.0, 0.001, 5.0)),
        )


class BrokenStream:
    """A stream of one."""

    def __init__(self, fault: str, completion: Completion, error: EndpointError, deadline_s: float) -> None:
        self._fault = fault
        self._completion = completion
        self._error = error
        self._deadline_s = deadline_s
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[str]:
        for place in range(0, len(CLOUD), 7):
            if place > 14 and self._fault == "half":
                raise self._error
            if place > 14 and self._fault == "untyped half":
                raise BrokenPipeError(f"{KEY} {SECRET}")
            if self._fault == "drip" and self._closed.wait(self._deadline_s / 3):
                raise self._error
            yield 5 if self._fault == "nonsense" and place > 7 else CLOUD[place : place + 7]  # type: ignore[misc]

    @property
    def completion(self) -> Completion:
        return None if self._fault == "unfinished" else self._completion  # type: ignore[return-value]

    def close(self) -> None:
        self._closed.set()
