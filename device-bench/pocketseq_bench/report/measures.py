"""What the answers of a task are judged by: the measures of its published table, or those that mean something where it has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pocketseq.report.figures import MISSING, share
from pocketseq_bench.report.findings import Findings, HybridFindings, ModelFindings

CODE: Final = frozenset({"python-fix", "python-line", "django"})
"""Tasks whose answers are lines of Python; of any other, that an answer parses says nothing."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One way to judge answers."""

    name: str
    """As the files call it."""
    title: str
    """As people call it."""
    better: Literal["higher", "lower"] = "higher"
    is_share: bool = True
    """Whether it is a share of something, shown as per cent; BLEU and chrF are points of a hundred."""

    def shown(self, value: float | None) -> str:
        """A value, in 0…1, as people read it."""
        return share(value) if self.is_share or value is None else f"{100 * value:.1f}"

    def kept(self, student: float, teacher: float) -> float | None:
        """How much of the teacher's quality a student keeps; of errors, the share of what is right; None where there is none."""
        right, whole = (student, teacher) if self.better == "higher" else (1 - student, 1 - teacher)
        return right / whole if whole > 0 else None

    @property
    def kept_title(self) -> str:
        """What is kept, in words."""
        return {"wer": "right words", "per": "right phones"}.get(self.name, self.title)


_MEASURES: Final = {
    measure.name: measure
    for measure in (
        Measure("exact_match", "exact match"),
        Measure("exact_match_clean", "exact match, clean rows"),
        Measure("bleu", "BLEU", is_share=False),
        Measure("chrf", "chrF", is_share=False),
        Measure("wer", "word errors", better="lower"),
        Measure("per", "phone errors", better="lower"),
        Measure("edit_similarity", "edit similarity"),
        Measure("parses", "parses"),
        Measure("repaired", "slips repaired"),
        Measure("false_alarms", "false alarms", better="lower"),
    )
}


def measures_of(findings: Findings) -> tuple[Measure, ...]:
    """What the run's models are judged by, the measure that decides first."""
    names = [*_protocol(findings)] or [findings.judged_by, "exact_match"]
    if findings.judged_by == "chrf":
        names.append("chrf")
    names.append("edit_similarity")
    if findings.task in CODE:
        names.append("parses")
    if not findings.table and any(model.quality["false_alarms"] is not None for model in findings.models):
        names += ["repaired", "false_alarms"]
    return tuple(_MEASURES.get(name, Measure(name, name.replace("_", " "))) for name in dict.fromkeys(names))


def value_of(findings: Findings, model: ModelFindings, measure: Measure) -> float | None:
    """A model's value in 0…1; None where it was not measured.

    What the published table scores is taken from there alone: its protocol and its rows are others than the benchmark's.
    """
    if measure.name not in _protocol(findings):
        return model.quality.get(measure.name)
    scores = (_in_table(findings, model) or {}).get("scores", ())
    return next((float(score["value"]) / 100 for score in scores if score["name"] == measure.name), None)


def of_hybrid(hybrid: HybridFindings, measure: Measure, *, local: bool = False) -> float | None:
    """The hybrid's value, or that of its local model alone on the same rows; None by measures that it was not taken by."""
    right = hybrid.local_exact_match if local else hybrid.exact_match
    known = {
        "exact_match": right,
        "wer": 1 - right,  # a row is a word
        "chrf": hybrid.local_chrf if local else hybrid.chrf,
    }
    return known.get(measure.name)


def hybrid_measure(findings: Findings) -> Measure:
    """The first of the task's measures that the hybrid has a value by; exact match where it has none."""
    found = [measure for measure in measures_of(findings) if of_hybrid(findings.hybrid, measure) is not None]
    return found[0] if found else _MEASURES["exact_match"]


def headline(findings: Findings) -> str:
    """What came out, in a sentence: quality kept by the measure that decides, size, and time."""
    teacher, shipped, measure = findings.models[0], findings.models[-1], measures_of(findings)[0]
    student, whole = (value_of(findings, model, measure) for model in (shipped, teacher))
    claims = []
    # A share of what was measured on other rows is none.
    if student is not None and whole is not None and (measure.name in _protocol(findings) or shipped.n == teacher.n):
        kept = measure.kept(student, whole)
        if kept is not None:
            figures = f"{measure.shown(student)}{'' if measure.is_share else ' points'} for {measure.shown(whole)}"
            lower = f", {measure.title} {figures}" if measure.better == "lower" else f" ({figures})"
            claims.append(f"keeps {share(kept)} of its teacher's {measure.kept_title}{lower}")
    instead = "" if teacher.size_bytes is None else f" instead of {teacher.size_bytes / 1e6:.1f}"
    claims.append(f"takes {shipped.size_bytes / 1e6:.1f} MB{instead}" if shipped.size_bytes is not None else f"takes {MISSING} MB")
    taken, wanted = _median_ms(findings, shipped), _median_ms(findings, teacher)
    if taken and wanted:
        claims.append(f"answers {wanted / taken:.1f} times as fast")
    listed = " and ".join([", ".join(claims[:-1]), claims[-1]] if len(claims) > 1 else claims)
    return f"The {shipped.precision} student {listed}."


def is_by_degree(findings: Findings) -> bool:
    """Whether an answer is more or less good, as a translation is, rather than right or wrong."""
    return not measures_of(findings)[0].is_share


def _median_ms(findings: Findings, model: ModelFindings) -> float | None:
    """Of the table where it has the model, as there all of them were timed in turns."""
    latency = (_in_table(findings, model) or {}).get("latency_ms")
    return float(latency["p50"]) if latency else model.p50_ms


def _in_table(findings: Findings, model: ModelFindings) -> Mapping[str, Any] | None:
    wanted = (model.name, model.runtime, model.precision)
    rows = findings.table["models"] if findings.table else ()
    return next((row for row in rows if (row["name"], row["runtime"], row["precision"]) == wanted), None)


def _protocol(findings: Findings) -> tuple[str, ...]:
    table: Mapping[str, Any] | None = findings.table
    return tuple(score["name"] for score in table["models"][0]["scores"]) if table else ()
