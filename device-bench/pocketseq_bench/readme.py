"""The measured block of the README, generated from a result file.

    python -m pocketseq_bench.readme                 # write README.md's block again
    python -m pocketseq_bench.readme RUN_DIRECTORY   # take over a run's results first

Run it in the root of the repository.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from pocketseq.errors import DataError
from pocketseq.files import write_json, writing
from pocketseq.pipeline import Recipe
from pocketseq.records import plain, read_record
from pocketseq_bench.report import Findings, read_findings
from pocketseq_bench.report.figures import decimal, megabytes, millions, milliseconds, share

README: Final = Path("README.md")
RESULTS: Final = Path("device-bench/results/python-fix.json")
BEGIN: Final = "<!-- results:begin -->"
END: Final = "<!-- results:end -->"
FORMAT: Final = 1


def write_results(path: Path, findings: Findings) -> None:
    """Keep what a run found."""
    write_json(path, {"format": FORMAT, **plain(findings)})


def read_results(path: Path) -> Findings:
    """Read what a run found.

    Raises:
        DataError: no result file, or of another format.
    """
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected a result file, found none: {error}") from None
    if value.pop("format", None) != FORMAT:
        raise DataError(f"{path}: expected format {FORMAT}; take the results over again from a run directory")
    return read_record(Findings, value, where=str(path), error=DataError)


def results_block(findings: Findings) -> str:
    """Markdown between the two marks: what the table shows, the table, and where it was measured."""
    hybrid, where = findings.hybrid, findings.environment
    lines = [
        "| | parameters | MB | exact match | slips repaired | false alarms | ms p50 | ms p95 |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for model in findings.models:
        cells = [millions(model.parameters), megabytes(model.size_bytes)]
        cells += [share(model.quality[name]) for name in ("exact_match", "repaired", "false_alarms")]
        cells += [milliseconds(model.p50_ms), milliseconds(model.p95_ms)]
        lines.append(f"| {model.name} ({model.runtime}, {model.precision}) | {' | '.join(cells)} |")
    times = f"{milliseconds(hybrid.p50_ms)} | {milliseconds(hybrid.p95_ms)}"
    lines.append(f"| hybrid, {share(hybrid.cloud_fraction)} from the cloud | | | {share(hybrid.exact_match)} | | | {times} |")
    machine = f"{where['processor'] or where['machine']} with {where['logical_cores']} logical cores, Python {where['python']}"
    note = (
        f"`{findings.task}`, {findings.models[-1].n:,} held-out rows, one thread of {machine}. "
        f"Confidence separates right from wrong with AUROC {decimal(hybrid.auroc)}. "
        f"Import, load and first suggestion in a fresh process: {milliseconds(sum(findings.startup_ms.values()))} ms."
    )
    return "\n".join([BEGIN, *lines, "", note, END])


def with_block(readme: str, block: str) -> str:
    """A README with its measured block replaced.

    Raises:
        DataError: the README has no such block.
    """
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise DataError(f"{README}: expected a block between {BEGIN} and {END}, found none")
    return head + block + tail


def main(arguments: list[str]) -> None:
    """Take over a run's results where one is named, then write the README's block."""
    for directory in map(Path, arguments):
        recipe = Recipe.read(directory / "recipe.toml")
        write_results(RESULTS, read_findings(directory, recipe=recipe.name, task=recipe.task))
    text = with_block(README.read_text(encoding="utf-8"), results_block(read_results(RESULTS)))
    with writing(README) as file:
        file.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
