"""A teacher's answers, as ``pocketseq label`` writes them: one JSON object a line with ``id``, ``source`` and ``text``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pocketseq.errors import DataError
from pocketseq.examples import Example
from pocketseq.files import digest


def read_answers(path: Path, examples: Sequence[Example]) -> dict[str, str]:
    """What a teacher answers to rows, by their ids.

    Args:
        path: The file; its ``source`` is a digest of the input that the answer is to, and is not needed.
        examples: The rows; those that the teacher was not asked about are left out.

    Raises:
        DataError: no such file, a bad line, an answer to another input than the row's, or not one answer to these rows.
    """
    try:
        with path.open(encoding="utf-8") as file:  # not splitlines: a text may hold what Unicode counts as a line end
            lines = [line.removesuffix("\n") for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a file of a teacher's answers, found none that can be read: {error}") from None
    sources = {row.id: digest(dict(row.fields)) for row in examples}
    answers: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
            name, text, source = value["id"], value["text"], value.get("source")
            known = name in sources
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise DataError(f"{path}:{number}: expected an object with 'id' and 'text', found {line!r:.80}") from None
        if not known:
            continue
        if source not in (None, sources[name]) or not isinstance(text, str):
            raise DataError(
                f"{path}:{number}: expected an answer to the row {name!r}, found one to another input; label the rows again"
            )
        answers[name] = text
    if not answers:
        raise DataError(f"{path}: expected answers to the rows given, found none to any of {len(examples)}; label these rows")
    return answers
