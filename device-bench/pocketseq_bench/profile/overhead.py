"""What the SDK itself takes: a runtime that gives again, at once, what it gave before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pocketseq.runtimes.protocol import Ids, Run, Step


@dataclass(slots=True)
class Replaying:
    """A greedy runtime that remembers what each call gave, in order, until it is told to give it again without running anything."""

    runtime: Any
    """The one that runs."""
    _given: list[Any] = field(default_factory=list)
    _again: Iterator[Any] | None = None

    def remember(self) -> None:
        """From here on run, and remember what is given; what was remembered before is forgotten."""
        self._given.clear()
        self._again = None

    def replay(self) -> None:
        """From here on answer from memory, from the first call on."""
        self._again = iter(self._given)

    def encode(self, input_ids: Ids, attention_mask: Ids) -> Any:
        """See ``Runtime.encode``."""
        return self._call("encode", input_ids, attention_mask)

    def start(self, batch: int) -> Any:
        """See ``Runtime.start``."""
        return self.runtime.start(batch)

    def step(self, token_ids: Ids, memory: Any, cache: Any) -> Step[Any]:
        """See ``Runtime.step``."""
        step: Step[Any] = self._call("step", token_ids, memory, cache)
        return step

    def greedy(self, token_ids: Ids, memory: Any, cache: Any, *, end_id: int, limit: int) -> Run[Any]:
        """See ``GreedyRuntime.greedy``."""
        run: Run[Any] = self._call("greedy", token_ids, memory, cache, end_id=end_id, limit=limit)
        return run

    def select(self, memory: Any, cache: Any, rows: Ids) -> tuple[Any, Any]:
        """See ``Runtime.select``."""
        memory, cache = self._call("select", memory, cache, rows)
        return memory, cache

    def keep(self, cache: Any, length: int) -> Any:
        """See ``Runtime.keep``."""
        return self._call("keep", cache, length)

    def _call(self, name: str, *arguments: Any, **named: Any) -> Any:
        if self._again is not None:
            return next(self._again)
        given = getattr(self.runtime, name)(*arguments, **named)
        self._given.append(given)
        return given
