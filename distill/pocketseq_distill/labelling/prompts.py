"""Prompts: how a row becomes a text for a teacher that reads text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pocketseq.errors import RecipeError

_PLACE: Final = re.compile(r"\{(\w+)\}")


def write_prompt(prompt: str, fields: Mapping[str, str]) -> str:
    """Put an input's fields into the places ``{name}`` of a prompt; other braces stand for themselves.

    Raises:
        RecipeError: a place that names no field, or no place at all, so that every row would be asked the same.
    """
    names = _PLACE.findall(prompt)
    if not names or not set(names) <= set(fields):
        raise RecipeError(
            f"expected a prompt with places such as {{{next(iter(fields))}}} for the fields {list(fields)}, found {names}"
        )
    return _PLACE.sub(lambda place: fields[place[1]], prompt)
