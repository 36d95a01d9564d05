"""What a hybrid asks of the model on the device."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol

from pocketseq.results import Result
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

    def generate(
        self, source: Input, /, *, deadline_s: float | None = None, on_gate: Callable[[float], None] | None = None
    ) -> Result:
        """Answer one input.

        Args:
            source: The input.
            deadline_s: Seconds from the call after which the answer so far stands, with the finish reason ``deadline``.
            on_gate: Called once before the first token with the probability that the answer will be right, by a model that knows.
        """
        ...

    def stream(
        self, source: Input, /, *, deadline_s: float | None = None, on_gate: Callable[[float], None] | None = None
    ) -> Generator[str, None, Result]:
        """Answer one input piece by piece; see ``generate``."""
        ...
