"""``pocketseq evaluate``: how good a checkpoint's answers to held-out rows are."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pocketseq.commands import Command, whole
from pocketseq_distill.commands.data import add_data_arguments, read_data

_ROWS = """\
DATA are rows that the checkpoint was not trained on. A run keeps some in data/test.jsonl; those of data/validation.jsonl chose
among its checkpoints, and those of data/train.jsonl were learnt.

examples:
  pocketseq evaluate run/student run/data/test.jsonl --latency-rows 100
  pocketseq evaluate python-fix pairs.csv --source-column wrong --target-column right
  pocketseq evaluate run/teacher run/data/test.jsonl --record      # figures and a model card into run/teacher
"""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq evaluate``."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = _ROWS
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a directory, the name of a shipped teacher, or a hub id")
    add_data_arguments(parser)
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write the evaluation with all answers as JSON")
    parser.add_argument("--rows", metavar="N", type=whole, help="evaluate on the first N rows only")
    parser.add_argument("--latency-rows", metavar="N", type=int, default=0, help="time N single answers on one thread (default: 0)")
    parser.add_argument("--record", action="store_true", help="write the figures and a model card into the checkpoint itself")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: Namespace) -> int:
    """Evaluate and print."""
    from pocketseq.checkpoint import CheckpointCard
    from pocketseq.files import write_json
    from pocketseq_distill.checkpoints import find_teacher

    path = find_teacher(args.checkpoint)
    rows = read_data(args, CheckpointCard.read(path).template)
    # What takes seconds to import only now, when the words are known to be right.
    from pocketseq_distill.evaluation import EvaluationSettings, evaluate_checkpoint
    from pocketseq_distill.model_card import record_evaluation

    settings = EvaluationSettings(rows=args.rows, latency_rows=args.latency_rows)
    evaluation = evaluate_checkpoint(path, rows, settings, name=path.name)
    if args.record:
        named = Path(args.data)
        # A card that is passed on tells of no folders of this machine.
        record_evaluation(path, evaluation, data=named.name if named.exists() else args.data)
    found = evaluation.to_json()
    if args.output:
        write_json(args.output, found)
    shown = {key: value for key, value in found.items() if key != "predictions"}
    print(json.dumps(shown, ensure_ascii=False, indent=2) if args.json else "\n".join(_lines(shown)))
    return 0


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{found['name']}: {found['parameters'] / 1e6:.1f} M parameters, {found['size_bytes'] / 1e6:.1f} MB, {found['n']} rows"
    for name in ("exact_match", "edit_similarity", "chrf", "parses", "repaired", "false_alarms"):
        if found[name] is not None:
            yield f"  {name.replace('_', ' '):<16} {100 * found[name]:5.1f}%"
    for kind, metrics in found["by_kind"].items():
        yield f"    {kind:<14} {100 * metrics['exact_match']:5.1f}% of {metrics['n']}"
    if found["latency_ms"] is not None:
        yield f"  latency          p50 {found['latency_ms']['p50']:.1f} ms, p95 {found['latency_ms']['p95']:.1f} ms, one thread"


COMMAND = Command(name="evaluate", summary="measure a checkpoint on held-out rows", configure=configure, run=run)
