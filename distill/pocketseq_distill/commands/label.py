"""``pocketseq label``: a teacher's answers to rows."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from pocketseq.commands import Command
from pocketseq_distill.commands.data import add_data_arguments, read_data


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq label``."""
    parser.add_argument("teacher", metavar="TEACHER", help="a directory, the name of a shipped teacher, or a hub id")
    add_data_arguments(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, required=True, help="labels (.jsonl); an unfinished file goes on"
    )
    parser.add_argument("--rows", metavar="N", type=int, help="label the first N rows only")
    parser.add_argument("--beams", metavar="N", type=int, default=1, help="beams of the search (default: 1, greedy)")
    parser.add_argument("--batch-size", metavar="N", type=int, default=64, help="rows answered together (default: 64)")


def run(args: Namespace) -> int:
    """Label what is not labelled yet."""
    from pocketseq_distill.checkpoints import checkpoint_fingerprint
    from pocketseq_distill.generation import TeacherModel
    from pocketseq_distill.labels import LabelSettings, label_rows
    from pocketseq_distill.teaching import find_teacher

    path = find_teacher(args.teacher)
    teacher = TeacherModel.load(path)
    rows = read_data(args, teacher.card.template)
    settings = LabelSettings(rows=args.rows, beams=args.beams, batch_size=args.batch_size)
    count = label_rows(rows, teacher, args.output, settings, teacher_id=checkpoint_fingerprint(path))
    print(f"{args.output}: {count} rows labelled now, {len(rows[: args.rows])} in all")
    return 0


COMMAND = Command(name="label", summary="write down a teacher's answers, to train a student on", configure=configure, run=run)
