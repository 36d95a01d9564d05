"""Frozen dataclasses out of JSON values and back: strict keys, strict types, messages that name the place."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pocketseq.errors import PocketSeqError

Record = TypeVar("Record")
Raise = Callable[[str], PocketSeqError]
"""Makes the error of a message; the class of an error is one."""

_LARGEST: Final = sys.float_info.max
"""Largest float: JSON's whole numbers go beyond it."""


def read_record(kind: type[Record], value: object, *, where: str, error: Raise) -> Record:
    """Read a dataclass, and the dataclasses in its fields, out of JSON values.

    Args:
        kind: Its fields are strings, numbers, booleans, ``Literal``, ``Any``, dataclasses, or tuples, mappings, options of these.
        value: What ``json.loads`` gave.
        where: Names the place in a message, such as ``bundle/manifest.json``.
        error: What to raise.

    Raises:
        PocketSeqError: made by ``error``: not an object, a missing or unknown key, a value of another type.
    """
    if not isinstance(value, Mapping):
        raise error(f"{where}: expected an object, found {type(value).__name__}")
    hints = _hints(kind)  # type: ignore[arg-type]
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(str(key) for key in value if key not in known)
    if unknown:
        raise error(f"{where}: expected keys among {sorted(known)}, found also {unknown}")
    missing = [
        name for name, field in known.items() if name not in value and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise error(f"{where}: expected the keys {sorted(known)}, found none of the name {', '.join(map(repr, missing))}")
    return kind(**{name: _read(hints[name], item, f"{where}: {name}", error) for name, item in value.items()})


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Types of its fields; to work them out takes longer than to read a record, and a manifest has many of a kind."""
    return get_type_hints(kind)


def plain(value: Any) -> Any:
    """JSON values of a dataclass, or of mappings, sequences, arrays and numbers that may hold dataclasses."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value  # numpy's arrays and numbers, without importing it


def _read(hint: Any, value: Any, where: str, error: Raise) -> Any:
    # Numbers first: a manifest that carries a learned scorer is mostly these.
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST:
        return float(value)
    if hint is Any or (hint in (int, str, bool) and type(value) is hint):
        return value
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        return read_record(hint, value, where=where, error=error)
    if origin in (Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        return None if value is None and len(options) < len(arguments) else _read(options[0], value, where, error)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_read(arguments[0], item, f"{where}[{index}]", error) for index, item in enumerate(value))
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {key: _read(arguments[1], item, f"{where}.{key}", error) for key, item in value.items()}
    if origin is Literal and value in arguments:
        return value
    raise error(f"{where}: expected {_describe(hint)}, found {value!r:.80}")


def _describe(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {list(arguments)}"
    if origin is tuple:
        return "a list"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "an object"
    return {bool: "true or false", int: "a whole number", float: "a finite number", str: "a string"}.get(hint, str(hint))
