"""What applications hand to a hybrid so that OpenTelemetry hears of its suggestions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from pocketseq.errors import PolicyError
from pocketseq.privacy import BUILT_IN, Detector, redact
from pocketseq.suggestion import Suggestion
from pocketseq.telemetry.instruments import global_instruments, instruments_of
from pocketseq.telemetry.names import ERROR_TYPE, INPUT_TEXT, OUTPUT_TEXT, REQUEST_MODEL, ROUTE, Attributes, cloud_attributes
from pocketseq.telemetry.spans import Spans

if TYPE_CHECKING:
    from pocketseq.hybrid.ask import Answer
    from pocketseq.hybrid.drift import Drift
    from pocketseq.hybrid.feedback import Outcome


@dataclass(frozen=True, slots=True)
class TextRecording:
    """Permission to write the text of some suggestions into their spans."""

    share: float = 0.01
    """Share of the suggestions, 0 to 1."""
    detectors: Iterable[Detector] = BUILT_IN
    """What is redacted beforehand; placeholders stay."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise PolicyError(f"share: expected a number from 0 to 1, found {self.share!r}")
        object.__setattr__(self, "detectors", tuple(self.detectors))  # they look at every text, which an iterator would not


class Telemetry:
    """Tells OpenTelemetry about suggestions; safe to share between threads."""

    def __init__(
        self,
        *,
        text: TextRecording | None = None,
        tracer_provider: Any = None,
        meter_provider: Any = None,
        random: Random | None = None,
    ) -> None:
        """Find OpenTelemetry's API, if it is installed.

        Args:
            text: Permission to record text; None records none.
            tracer_provider: Where spans go; the global one if not given.
            meter_provider: Where metrics go; the global one if not given.
            random: Where the choice of the samples comes from.
        """
        self._text = text
        self._random = random or Random()
        is_global = tracer_provider is None and meter_provider is None
        self._instruments = global_instruments() if is_global else instruments_of(tracer_provider, meter_provider)

    def suggested(self, suggestion: Suggestion, *, model: str, cloud_model: str | None, fields: Mapping[str, str]) -> None:
        """Tell about one suggestion that has just been answered.

        Args:
            suggestion: The answer.
            model: Name of the local model.
            cloud_model: Name of the model behind the endpoint, where it has one.
            fields: The input; recorded only where that is allowed.
        """
        instruments = self._instruments
        if instruments is None:
            return
        receipt = suggestion.receipt
        instruments.count_suggestion(suggestion, model)
        for attempt in receipt.attempts:
            instruments.count_attempt(attempt, cloud_attributes(receipt.endpoint, cloud_model))
        if receipt.prompt_tokens is not None and receipt.completion_tokens is not None:
            instruments.count_tokens(
                receipt.prompt_tokens, receipt.completion_tokens, cloud_attributes(receipt.endpoint, cloud_model)
            )
        end_ns = time.time_ns()
        spans = Spans(instruments, start_ns=end_ns - int(receipt.total_ms * 1e6), end_ns=end_ns)
        spans.write(suggestion, model=model, cloud_model=cloud_model, text=self._sample(suggestion, fields))

    def failed(self, error: Exception, *, model: str) -> None:
        """Tell that a call ended in an error."""
        if self._instruments is not None:
            self._instruments.suggestions.add(1, {REQUEST_MODEL: model, ERROR_TYPE: type(error).__name__})

    def told(self, suggestion: Suggestion, outcome: Outcome) -> None:
        """Tell what a user made of a suggestion."""
        if self._instruments is not None:
            self._instruments.feedback.add(1, {f"{ROUTE}.source": suggestion.source, "pocketseq.feedback": outcome})

    def audited(self, drift: Drift, answer: Answer, *, differs: bool | None, url: str, cloud_model: str | None) -> None:
        """Tell how an audit ended, and what left for it.

        Args:
            drift: State of the test.
            answer: How the question to the cloud ended.
            differs: Whether the local answer loses anything against the cloud's, by the calibration's loss; None where the cloud
                gave no answer.
            url: The endpoint's.
            cloud_model: Name of the model behind it, where it has one.
        """
        if self._instruments is None:
            return
        for attempt in answer.attempts:
            self._instruments.count_attempt(attempt, cloud_attributes(url, cloud_model))
        if answer.cost:
            self._instruments.cost.add(answer.cost)
        outcome = "failed" if differs is None else "differs" if differs else "agrees"
        self._instruments.audits.add(1, {"pocketseq.audit": outcome, "pocketseq.audit.alarmed": drift.alarmed})

    def _sample(self, suggestion: Suggestion, fields: Mapping[str, str]) -> Attributes:
        """Text that may be recorded; most often none."""
        if self._text is None or self._random.random() >= self._text.share:
            return {}
        texts = {f"{INPUT_TEXT}.{name}": text for name, text in fields.items()} | {OUTPUT_TEXT: suggestion.text}
        try:
            return dict(redact(texts, self._text.detectors).texts)
        except Exception as error:  # a detector is anybody's code: the answer is not lost to it, and its text is not recorded
            return {"pocketseq.text.withheld": type(error).__name__}
