"""Tables of results, as Markdown: the run's models, what others have published, how far training went, and what was reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pocketseq.errors import DataError
from pocketseq.report.figures import MISSING, megabytes, millions, milliseconds
from pocketseq_bench.report.courses import courses_of, headings

FORMAT: Final = 1

MEASURED: Final = "Intervals are bootstrapped over rows; answers were timed in turns on one thread."

_MEASURES: Final = {
    "wer": "word errors",
    "per": "phone errors",
    "bleu": "BLEU",
    "exact_match": "exact match",
    "exact_match_clean": "exact match, clean rows",
    "repaired": "slips repaired",
    "false_alarms": "false alarms",
    "edit_similarity": "edit similarity",
}


def check_table(value: Mapping[str, Any], where: str) -> None:
    """Refuse what is no table of this format.

    Raises:
        DataError: naming ``where``.
    """
    if value.get("format") != FORMAT or not {"recipe", "task", "models", "published", "claims"} <= set(value):
        raise DataError(
            f"{where}: expected a table of results of format {FORMAT}, found another document; run the stage 'table' again"
        )


def table_markdown(table: Mapping[str, Any]) -> str:
    """One recipe's table.

    Args:
        table: A result file, as the stage ``table`` writes it.
    """
    measures = [score["name"] for score in table["models"][0]["scores"]]
    lines = [
        f"**{table['recipe']}**, {table['test_rows']:,} test rows",
        "",
        f"| | parameters | MB | {' | '.join(_MEASURES[name] for name in measures)} | ms p50 |",
        f"|---|--:|--:|{'--:|' * len(measures)}--:|",
    ]
    for model in table["models"]:
        cells = [millions(model["parameters"]), megabytes(model["size_bytes"])]
        cells += [f"{score['value']:.2f} ({score['low']:.1f}–{score['high']:.1f})" for score in model["scores"]]
        cells.append(milliseconds(model["latency_ms"]["p50"] if model["latency_ms"] else None))
        lines.append(f"| {model['name']} ({model['runtime']}, {model['precision']}) | {' | '.join(cells)} |")
    for row in table["published"]:
        name = f"{row['system']} ({row['note']})" if row["note"] else row["system"]
        scores = [f"{row['scores'][measure]:.2f}" if measure in row["scores"] else "" for measure in measures]
        lines.append(f"| *{name}* | | | {' | '.join(scores)} | |")
    courses = courses_of(table)
    titles = headings(courses)
    lines += ["", f"| trained | {' | '.join(titles)} |", f"|---|{'--:|' * 3}---|---|"]
    lines += [f"| {course.name} | {' | '.join(course.cells)} |" for course in courses]
    lines += ["", *(f"{line}\n" for line in claims_text(table["claims"])), MEASURED]
    return "\n".join(lines)


def summary_markdown(tables: Sequence[Mapping[str, Any]]) -> str:
    """What ships beside the bar, its teacher and a plain student, by the measure that decides.

    Args:
        tables: Result files; those without published results have no row.
    """
    lines = [
        "| | by | to beat | student, int8 | teacher | plain student | MB | smaller | faster |",
        f"|---|---|{'--:|' * 7}",
    ]
    for table in tables:
        if not table["published"]:
            continue
        models = {model["name"]: model for model in table["models"]}
        scores = {name: f"{model['scores'][0]['value']:.2f}" for name, model in models.items()}
        shipped = models["student-int8"]
        measure = _MEASURES[shipped["scores"][0]["name"]]
        found = {claim["what"]: claim["found"] for claim in table["claims"]}
        cells = [
            table["recipe"],
            measure,
            next((claim["wanted"] for claim in table["claims"] if claim["what"].startswith(measure)), MISSING),
            f"**{scores['student-int8']}**",
            *(scores.get(name, MISSING) for name in ("teacher", "plain")),
            megabytes(shipped["size_bytes"]),
            *(found.get(what, MISSING) for what in ("smaller than the teacher", "faster than the teacher in PyTorch")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def score_titles(names: Sequence[str], *, better: Sequence[str]) -> list[str]:
    """What people call measures; the ones that are better when lower say so."""
    return [
        _MEASURES.get(name, name) + (" (lower is better)" if way == "lower" else "")
        for name, way in zip(names, better, strict=True)
    ]


def claims_text(claims: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was reached and what was not, a sentence each."""
    found = []
    for word, holds in (("Reached", True), ("Not reached", False)):
        parts = [f"{claim['what']} {claim['wanted']} (found {claim['found']})" for claim in claims if claim["holds"] is holds]
        if parts:
            found.append(f"{word}: {'; '.join(parts)}.")
    return found
