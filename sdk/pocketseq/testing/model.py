"""A model that answers by a script."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

from pocketseq.results import Result, Timing
from pocketseq.template import Field, Input, Template


@dataclass(frozen=True, slots=True)
class FixedThreshold:
    """A calibration of which only threshold and promise are known."""

    threshold: float
    """Confidence from which a local answer may be served."""
    risk: float = 0.1
    """Largest share of wrong answers among those served."""
    delta: float = 0.05
    """Probability that the promise does not hold."""


class FakeModel:
    """A ``LocalModel`` without model files: it gives one answer with one confidence, and remembers what it was asked."""

    def __init__(
        self,
        text: str,
        *,
        confidence: float | None = 1.0,
        threshold: float | None = None,
        gate: float | None = None,
        delay_s: float = 0.0,
        template: Template | None = None,
    ) -> None:
        """Set the answer.

        Args:
            text: What it answers to every input.
            confidence: How sure it is.
            threshold: What calibration would have found; None for a model that was never calibrated.
            gate: Probability of being right that it tells before it decodes; None tells none.
            delay_s: How long it takes after that; the deadline cuts it short.
            template: How inputs are read; one field ``text`` if not given.
        """
        self.template = template or Template(fields=(Field("text", max_tokens=64),), primary="text")
        self.calibration = None if threshold is None else FixedThreshold(threshold)
        self._gate = gate
        self._delay_s = delay_s
        self.inputs: list[Input] = []
        """What it was asked, in order."""
        self._result = Result(
            text=text,
            confidence=confidence,
            tokens=(),
            token_logprobs=(),
            finish_reason="stop",
            truncated=(),
            timing=Timing(tokenize_ms=0.0, encode_ms=0.0, decode_ms=0.0, total_ms=0.0),
        )

    def generate(
        self, source: Input, /, *, deadline_s: float | None = None, on_gate: Callable[[float], None] | None = None
    ) -> Result:
        """Answer one input."""
        self.template.fields_of(source)
        self.inputs.append(source)
        if on_gate is not None and self._gate is not None:
            on_gate(self._gate)
        if self._delay_s:
            time.sleep(self._delay_s if deadline_s is None else max(0.0, min(self._delay_s, deadline_s)))
        return self._result

    def stream(
        self, source: Input, /, *, deadline_s: float | None = None, on_gate: Callable[[float], None] | None = None
    ) -> Generator[str, None, Result]:
        """Answer one input a character at a time."""
        self.template.fields_of(source)
        return self._pieces(source, deadline_s, on_gate)

    def _pieces(
        self, source: Input, deadline_s: float | None, on_gate: Callable[[float], None] | None
    ) -> Generator[str, None, Result]:
        result = self.generate(source, deadline_s=deadline_s, on_gate=on_gate)
        yield from result.text
        return result
