"""A model that answers by a script."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from pocketseq.results import Result, Timing
from pocketseq.template import Field, Input, Template


@dataclass(frozen=True, slots=True)
class FixedThreshold:
    """A calibration of which only the threshold is known."""

    threshold: float
    """Confidence from which a local answer may be served."""


class FakeModel:
    """A ``LocalModel`` without model files: it gives one answer with one confidence, and remembers what it was asked."""

    def __init__(
        self,
        text: str,
        *,
        confidence: float | None = 1.0,
        threshold: float | None = None,
        template: Template | None = None,
    ) -> None:
        """Set the answer.

        Args:
            text: What it answers to every input.
            confidence: How sure it is.
            threshold: What calibration would have found; None for a model that was never calibrated.
            template: How inputs are read; one field ``text`` if not given.
        """
        self.template = template or Template(fields=(Field("text", max_tokens=64),), primary="text")
        self.calibration = None if threshold is None else FixedThreshold(threshold)
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

    def generate(self, source: Input, /) -> Result:
        """Answer one input."""
        self.template.fields_of(source)
        self.inputs.append(source)
        return self._result

    def stream(self, source: Input, /) -> Generator[str, None, Result]:
        """Answer one input a character at a time."""
        result = self.generate(source)
        return self._pieces(result)

    def _pieces(self, result: Result) -> Generator[str, None, Result]:
        yield from result.text
        return result
