"""The data arguments that the commands share: example rows as a run writes them, or ordinary pairs."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from pocketseq.examples import Example, read_examples

if TYPE_CHECKING:
    from pocketseq.template import Template


def add_data_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments that ``read_data`` reads."""
    parser.add_argument(
        "data",
        metavar="DATA",
        help="example rows (.jsonl), a .jsonl, .csv, .tsv or .parquet table, a text file, or datasets:NAME[:CONFIGURATION]",
    )
    parser.add_argument("--targets", metavar="FILE", help="text file with the answers to the lines of DATA")
    parser.add_argument("--source-column", metavar="NAME", default="source", help="column of the input (default: source)")
    parser.add_argument("--target-column", metavar="NAME", default="target", help="column of the answer (default: target)")


def read_data(args: Namespace, template: Template) -> list[Example]:
    """Read the rows that the arguments name; a table's input column fills the template's primary field.

    Raises:
        DataError: a bad row, with file and line.
    """
    return read_file(args.data if args.targets is None else (args.data, args.targets), args, template)


def read_file(name: str | tuple[str, str], args: Namespace, template: Template) -> list[Example]:
    """Read rows that are written as those of DATA are, their columns called alike.

    Args:
        name: As DATA names them, or inputs and answers as two text files.
        args: Tell the columns.
        template: See ``read_data``.

    Raises:
        DataError: a bad row, with file and line.
    """
    from pocketseq_distill.pairs import Columns, read_pairs

    if isinstance(name, str) and _holds_examples(Path(name)):
        return list(read_examples(Path(name)))
    columns = Columns(fields={template.primary: args.source_column}, target=args.target_column)
    return list(read_pairs(name, columns=columns))


def _holds_examples(path: Path) -> bool:
    if path.suffix.lower() != ".jsonl" or not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline()
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and {"id", "fields", "target"} <= set(row)
