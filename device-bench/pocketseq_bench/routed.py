"""Measuring device and cloud together: what a hybrid answers, from where, how right and how fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pocketseq import Hybrid, Suggestion
from pocketseq.calibration import auroc
from pocketseq.errors import DataError
from pocketseq.examples import Example
from pocketseq.metrics import chrf
from pocketseq_bench.latency import Latency, time_calls

FORMAT: Final = 1
SHOWN: Final = 10
"""Suggestions that people are shown."""
SHOWN_CLOUD: Final = 4
"""Of these, how many come from the cloud where it answered so many."""


@dataclass(frozen=True, slots=True)
class RoutedMeasurement:
    """A hybrid over labelled rows."""

    rows: Sequence[Example]
    """What was asked."""
    suggestions: Sequence[Suggestion]
    """What was answered, one for each row."""
    latency: Latency
    """From call to answer, one sample for each row."""

    @property
    def confidences(self) -> list[float]:
        """Of the local answers; one without any counts as unsure as can be."""
        return [suggestion.confidence or 0.0 for suggestion in self.suggestions]

    @property
    def local_correct(self) -> list[bool]:
        """Whether the device alone would have been right, by row."""
        return [
            suggestion.local is not None and suggestion.local.text == row.target
            for row, suggestion in zip(self.rows, self.suggestions, strict=True)
        ]

    @property
    def correct(self) -> list[bool]:
        """Whether the answer is right, by row."""
        return [suggestion.text == row.target for row, suggestion in zip(self.rows, self.suggestions, strict=True)]

    @property
    def local_likeness(self) -> list[float]:
        """The chrF of the local answer, by row; 0 where there was none."""
        return [
            chrf([suggestion.local.text], [row.target]) if suggestion.local is not None else 0.0
            for row, suggestion in zip(self.rows, self.suggestions, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """Shares, then every row."""
        count, targets, likeness = len(self.rows), [row.target for row in self.rows], self.local_likeness
        local = [suggestion.local.text if suggestion.local is not None else "" for suggestion in self.suggestions]
        kept = [suggestion.source == "local" and suggestion.receipt.error is None for suggestion in self.suggestions]
        return {
            "n": count,
            "coverage": sum(kept) / count,
            "cloud_fraction": sum(suggestion.source == "cloud" for suggestion in self.suggestions) / count,
            "cloud_failures": sum(suggestion.receipt.error is not None for suggestion in self.suggestions),
            "bytes_sent": sum(suggestion.receipt.bytes_sent for suggestion in self.suggestions),
            "exact_match": sum(self.correct) / count,
            "local_exact_match": sum(self.local_correct) / count,
            "chrf": chrf([suggestion.text for suggestion in self.suggestions], targets),
            "local_chrf": chrf(local, targets),
            "auroc": auroc(np.array(self.confidences), np.array(self.local_correct)),
            "latency_ms": self.latency.to_json(),
            "rows": [self._row(number) | {"local_chrf": round(likeness[number], 4)} for number in range(count)],
        }

    def shown(self, primary: str) -> list[dict[str, Any]]:
        """A few suggestions for people: the first rows of each source, in their order.

        Args:
            primary: The field that holds what stood in the editor.
        """
        cloud = [number for number, suggestion in enumerate(self.suggestions) if suggestion.source == "cloud"]
        local = [number for number, suggestion in enumerate(self.suggestions) if suggestion.source != "cloud"]
        of_cloud = min(len(cloud), max(SHOWN_CLOUD, SHOWN - len(local)))
        chosen = sorted(cloud[:of_cloud] + local[: SHOWN - of_cloud])
        return [
            {
                "line": self.rows[number].fields[primary],
                "answer": self.suggestions[number].text,
                "target": self.rows[number].target,
                "source": self.suggestions[number].source,
                "confidence": self.suggestions[number].confidence,
                "reason": self.suggestions[number].reason,
            }
            for number in chosen
        ]

    def _row(self, number: int) -> dict[str, Any]:
        row, suggestion = self.rows[number], self.suggestions[number]
        return {
            "id": row.id,
            "kind": row.kind,
            "source": suggestion.source,
            "confidence": self.confidences[number],
            "correct": self.correct[number],
            "local_correct": self.local_correct[number],
            "cloud_ms": round(suggestion.receipt.latency_ms, 3),
            "error": suggestion.receipt.error,
        }


def measure_hybrid(
    hybrid: Hybrid, rows: Sequence[Example], *, warmup: int = 3, progress: Callable[[int], None] | None = None
) -> RoutedMeasurement:
    """Ask a hybrid about labelled rows, one by one, as an editor would.

    Args:
        hybrid: Model, endpoint and policy.
        rows: Labelled rows, at least one.
        warmup: Suggestions before the first that counts.
        progress: Called with the number of rows answered.

    Raises:
        DataError: no rows.
    """
    if not rows:
        raise DataError("expected labelled rows to ask the hybrid about, found none")
    timed = time_calls(lambda row: hybrid.suggest(row.fields), rows, warmup=warmup, progress=progress)
    return RoutedMeasurement(rows=rows, suggestions=timed.answers, latency=timed.latency)
