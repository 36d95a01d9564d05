"""The measured blocks of the READMEs, generated from result files.

    python -m pocketseq_bench.readme                  # write the blocks again
    python -m pocketseq_bench.readme PATH [...]       # take over first: a run, a bench, a replay, rivals, a profile, grammars

Run it in the root of the repository.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pocketseq.errors import DataError
from pocketseq.files import write_json, writing
from pocketseq.pipeline import Recipe
from pocketseq.records import plain, read_record
from pocketseq.report.figures import decimal, megabytes, millions, milliseconds, share
from pocketseq_bench.deferral import deferral_markdown, read_runs
from pocketseq_bench.document import BenchDocument, read_document, write_document
from pocketseq_bench.grammars import grammars_markdown
from pocketseq_bench.profile import profile_markdown
from pocketseq_bench.replay.document import ReplayDocument, read_replay
from pocketseq_bench.report import Findings, read_findings
from pocketseq_bench.report.bench_table import HEADINGS, caution_lines, cells, markdown_table
from pocketseq_bench.report.files import write_bench_reports
from pocketseq_bench.report.findings import ModelFindings
from pocketseq_bench.report.replay_report import replay_markdown, write_replay_reports
from pocketseq_bench.report.rivals import rivals_markdown
from pocketseq_bench.report.tables import check_table, summary_markdown, table_markdown
from pocketseq_bench.stages import judged_by

README: Final = Path("README.md")
ROOM: Final = Path("device-bench/README.md")
DISTILL: Final = Path("distill/README.md")
SDK: Final = Path("sdk/README.md")
TABLES: Final = Path("device-bench/results/tables")
RESULTS: Final = Path("device-bench/results/python-fix.json")
BENCH: Final = Path("device-bench/results/bench")
REPLAY: Final = Path("device-bench/results/replay")
RIVALS: Final = {"rivals": Path("device-bench/results/rivals.json"), "rivals-avx2": Path("device-bench/results/rivals-avx2.json")}
"""By the name of their block: on a processor that is made for int8, and on x86 without VNNI, where sums would overflow."""
PROFILE: Final = Path("device-bench/results/profile.json")
GRAMMARS: Final = Path("device-bench/results/grammars.json")
DEFERRAL: Final = Path("device-bench/results/deferral.json")
FORMAT: Final = 1
SHIPPED: Final = ("onnx", "int8")
"""Runtime and precision of the bundle in the package."""
_HEAD: Final = (
    "| | parameters | MB | exact match | slips repaired | false alarms | ms p50 | ms p95 |",
    "|---|--:|--:|--:|--:|--:|--:|--:|",
)


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


def results_block(findings: Findings, profile: Mapping[str, Any]) -> str:
    """What ships in the package, in one row, and where it was measured.

    Args:
        findings: Of its run.
        profile: Of the bundle, which tells how long a start takes; it may have been measured elsewhere.

    Raises:
        DataError: no int8 student for ONNX Runtime was measured.
    """
    shipped = [model for model in findings.models if (model.runtime, model.precision) == SHIPPED]
    if not shipped:
        raise DataError(
            f"expected a model for {SHIPPED[0]} in {SHIPPED[1]} among the results, found none; run the recipe's stage 'bench'"
        )
    where = findings.environment
    machine = f"{where['processor'] or where['machine']} with {where['logical_cores']} logical cores, Python {where['python']}"
    there, kinds = profile["environment"], ("processor", "extensions")
    alike = all(there[kind] == where[kind] for kind in kinds)
    start = "on the same kind of processor" if alike else f"on {there['processor']} ({', '.join(there['extensions'])})"
    note = (
        f"`{findings.task}`, {shipped[0].n:,} held-out rows, one thread of {machine}. "
        f"Confidence separates right from wrong with AUROC {decimal(findings.hybrid.auroc)} ({findings.hybrid.n:,} of them). "
        f"From nothing to the first answer in a fresh process, {start}: {milliseconds(profile['floor_ms']['pocketseq'])} ms "
        f"([`{PROFILE.name}`]({PROFILE})). "
        "Beside it its teacher, full precision, other runtimes and the hybrid: [`device-bench/`](device-bench/README.md)."
    )
    return _marked("results", [*_HEAD, *map(_row, shipped), "", note])


def models_block(findings: Findings) -> str:
    """Every model of a run, and the hybrid of device and teacher."""
    hybrid = findings.hybrid
    times = f"{milliseconds(hybrid.p50_ms)} | {milliseconds(hybrid.p95_ms)}"
    alone = f"on {hybrid.n:,} of the rows, where the device alone has {share(hybrid.local_exact_match)}"
    together = f"| hybrid, {share(hybrid.cloud_fraction)} from the cloud, {alone} | | | {share(hybrid.exact_match)} | | | {times} |"
    return _marked("models", [*_HEAD, *map(_row, findings.models), together])


def _row(model: ModelFindings) -> str:
    cells = [millions(model.parameters), megabytes(model.size_bytes)]
    cells += [share(model.quality[name]) for name in ("exact_match", "repaired", "false_alarms")]
    cells += [milliseconds(model.p50_ms), milliseconds(model.p95_ms)]
    return f"| {model.name} ({model.runtime}, {model.precision}) | {' | '.join(cells)} |"


def bench_block(document: BenchDocument) -> str:
    """The table of a benchmark, and how the machine behaved."""
    table = markdown_table(HEADINGS, [cells(row) for row in document.rows if row.stages_ms])
    inputs = f"{document.inputs.n} inputs of `{document.bundle.task}` on {document.device.label}"
    note = f"{inputs}, Python {document.device.python}. {document.conduct.verdict[0].upper()}{document.conduct.verdict[1:]}."
    cautions = [f"- {line}" for line in caution_lines(document)]
    return _marked("bench", [table, "", *(["\n".join(cautions), ""] if cautions else []), note])


def replay_block(document: ReplayDocument) -> str:
    """The table of a replay, and what was simulated."""
    return _marked("replay", [replay_markdown(document).partition("\n\n")[2].strip()])


def rivals_block(name: str, rivals: Mapping[str, Any]) -> str:
    """The table of other libraries beside this one, and where they were measured."""
    where = rivals["environment"]
    machine = f"{where['processor'] or where['machine']} with {where['logical_cores']} logical cores"
    machine += f" ({', '.join(where['extensions'])}), Python {where['python']}"
    starts = "; ".join(f"{contender} {found['median']:.2f} s" for contender, found in rivals["start_s"].items())
    note = (
        f"`{rivals['bundle']}`, {rivals['threads']} thread, medians of {rivals['rounds']} runs in turns on {machine}; in brackets "
        "the share of answers that are those of transformers in float32; ratios are medians over the runs, ± the farther end of "
        f"their 95% interval. A fresh process to its first answer: {starts}."
    )
    return _marked(name, [rivals_markdown(rivals).partition("\n\n")[2].strip(), "", note])


def tables_block(tables: Sequence[Mapping[str, Any]]) -> str:
    """The tables of results on published data."""
    return _marked("tables", ["\n\n".join(table_markdown(table) for table in tables)])


def summary_block(tables: Sequence[Mapping[str, Any]]) -> str:
    """What ships beside what others have published, in one row for each data set."""
    return _marked("published", [summary_markdown(tables)])


def profile_block(found: Mapping[str, Any]) -> str:
    """Where the time of a suggestion goes."""
    return _marked("profile", [profile_markdown(found)])


def grammars_block(found: Mapping[str, Any]) -> str:
    """What libraries of grammars cost."""
    return _marked("grammars", [grammars_markdown(found)])


def deferral_block(runs: Mapping[str, Any]) -> str:
    """What scorers gain by deferring, and serve."""
    return _marked("deferral", [deferral_markdown(runs)])


def with_block(readme: str, block: str) -> str:
    """A README with one of its measured blocks replaced.

    Raises:
        DataError: the README has no such block.
    """
    first, last = block.splitlines()[0], block.splitlines()[-1]
    head, begin, rest = readme.partition(first)
    _, end, tail = rest.partition(last)
    if not (begin and end):
        raise DataError(f"expected a block between {first} and {last} in the README, found none")
    return head + block + tail


def blocks() -> dict[Path, list[str]]:
    """Every block by its README, from the result files."""
    bench, replay = read_document(BENCH / "bench.json"), read_replay(REPLAY / "replay.json")
    rivals = [rivals_block(name, json.loads(path.read_text(encoding="utf-8"))) for name, path in RIVALS.items()]
    found = json.loads(PROFILE.read_text(encoding="utf-8"))
    results = read_results(RESULTS)
    room = [models_block(results), bench_block(bench), *rivals, profile_block(found), replay_block(replay)]
    room.append(deferral_block(read_runs(DEFERRAL)))
    forms = grammars_block(json.loads(GRAMMARS.read_text(encoding="utf-8")))
    tables = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(TABLES.glob("*.json"), key=lambda path: path.stem)]
    front = [results_block(results, found), summary_block(tables)]
    return {README: front, SDK: [forms], ROOM: room, DISTILL: [tables_block(tables)]}


def main(arguments: list[str] | None = None) -> None:
    """Take over results where paths are named, then write the blocks."""
    parser = ArgumentParser(prog="python -m pocketseq_bench.readme", description=main.__doc__)
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULT", help="a run directory, or a file that a command wrote")
    for path in parser.parse_args(arguments).results:
        _take_over(path)
    for path, parts in blocks().items():
        text = path.read_text(encoding="utf-8")
        for block in parts:
            text = with_block(text, block)
        with writing(path) as file:
            file.write(text)


def place_of_rivals(rivals: Mapping[str, Any]) -> Path:
    """Which file a comparison belongs into, by the processor that it was made on."""
    where = rivals["environment"]
    x86 = where["machine"].lower() in ("x86_64", "amd64")
    overflows = x86 and not any("vnni" in name for name in where["extensions"])
    return RIVALS["rivals-avx2" if overflows else "rivals"]


def _place(value: Any, path: Path) -> Path:
    """Which file a document belongs into. Its blocks are made first: what none can be made of overwrites nothing."""
    try:
        if "operators" in value:
            profile_block(value)
            results_block(read_results(RESULTS), value)
            return PROFILE
        if "libraries" in value:
            grammars_block(value)
            return GRAMMARS
        if "tasks" in value and "start_s" in value:
            rivals_block("rivals", value)
            return place_of_rivals(value)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path}: expected a result that a block can be made of, found {error!r}; measure it again") from None
    raise DataError(f"{path}: expected a profile, grammars or a comparison with other libraries, found another document")


def _take_over(path: Path) -> None:
    if path.is_file():
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path}: expected JSON, found none: {error}") from None
        write_json(_place(value, path), value)
    elif (path / "recipe.toml").exists():
        _take_over_run(path)
    elif (path / "replay.json").exists():
        write_replay_reports(REPLAY, read_replay(path / "replay.json"))
    else:
        document = read_document(path / "bench.json")
        write_document(BENCH / "bench.json", document)
        write_bench_reports(BENCH, [document])


def _take_over_run(path: Path) -> None:
    """The table of a run where it has one, and all that was found of the one whose bundle ships."""
    recipe, tabled = Recipe.read(path / "recipe.toml"), (path / "table.json").exists()
    if tabled:
        table = json.loads((path / "table.json").read_text(encoding="utf-8"))
        check_table(table, str(path / "table.json"))
        write_json(TABLES / f"{table['recipe']}.json", table)
    if not tabled or recipe.name == RESULTS.stem:
        write_results(RESULTS, read_findings(path, recipe=recipe.name, task=recipe.task, judged_by=judged_by(recipe)))


def _marked(name: str, lines: Sequence[str]) -> str:
    return "\n".join([f"<!-- {name}:begin -->", *lines, f"<!-- {name}:end -->"])


if __name__ == "__main__":
    main()
