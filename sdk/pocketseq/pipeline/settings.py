"""Tables of a recipe as frozen dataclasses: strict keys, strict types, messages that name the place."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pocketseq.errors import RecipeError

Settings = TypeVar("Settings")


def read_settings(kind: type[Settings], table: Mapping[str, Any], where: str) -> Settings:
    """Turn a table into a dataclass.

    Args:
        kind: A dataclass whose fields are strings, numbers, booleans, ``Literal``, ``tuple[X, ...]``, or one of these or None.
        table: The values as TOML gives them.
        where: Names the table in a message, such as ``recipe 'python-fix', table [train]``.

    Raises:
        RecipeError: an unknown or missing key, or a value of another type.
    """
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise RecipeError(f"{where}: expected keys among {sorted(known)}, found {key!r}")
    values = {}
    for name, field in known.items():
        if name in table:
            values[name] = _convert(table[name], hints[name], f"{where}, key {name!r}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise RecipeError(f"{where}: expected the key {name!r} ({_describe(hints[name])}), found none")
    return kind(**values)


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        for option in arguments:
            try:
                return _convert(value, option, where)
            except RecipeError:
                continue
    elif origin is Literal:
        if value in arguments:
            return value
    elif origin is tuple:
        if isinstance(value, list):
            return tuple(_convert(item, arguments[0], where) for item in value)
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise RecipeError(f"{where}: expected {_describe(hint)}, found {value!r}")


def _describe(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(option) for option in arguments if option is not type(None))
    if origin is Literal:
        return f"one of {list(arguments)}"
    if origin is tuple:
        return f"a list of {_describe(arguments[0])}"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
    return names.get(hint, str(hint))
