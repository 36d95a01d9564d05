"""Accounts: what tells one Python function from another, so that labels of two never share a file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

from pocketseq.errors import TeacherError
from pocketseq.files import digest

Called: TypeAlias = Callable[..., Any]


def name_of(function: Called) -> str:
    """A function's place as ``module:name``; where ``functools.partial`` binds arguments, that of the function within."""
    if isinstance(function, partial):
        return name_of(function.func)
    return f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', type(function).__qualname__)}"


def source_of(function: Called) -> str:
    """Its source; empty where there is none to read."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return ""


def fingerprint_of(function: Called) -> str:
    """Digest of a function's account.

    Raises:
        TeacherError: see ``account_of``; or a held value that no JSON can hold: one that holds itself, or is nested as deeply, or a
            text with half a character in it.
    """
    try:
        return digest(account_of(function))
    except (RecursionError, UnicodeEncodeError) as error:
        raise _untold(f"a value in {name_of(function)} that cannot be written down: {error}") from error


def account_of(function: Called, *, around: tuple[Called, ...] = ()) -> dict[str, Any]:
    """Name, source and held values of a function, as JSON values.

    Held are arguments that ``functools.partial`` binds, defaults, and what a function within a function takes from around it.

    Args:
        function: The function.
        around: Functions that hold it, whose accounts are under way.

    Raises:
        TeacherError: an object with a state of its own, or a held value that is none of: None, truth value, number, text; list,
            mapping or dataclass of such; function, class or module.
    """
    around = (*around, function)
    if isinstance(function, partial):
        bound = {"arguments": _told(function.args, around), "keywords": _told(function.keywords, around)}
        return {**account_of(function.func, around=around), **bound}
    holder = getattr(function, "__self__", None)
    if not inspect.isroutine(function) or not (holder is None or isinstance(holder, type | ModuleType)):
        raise _untold(f"{name_of(function)}, which belongs to an object with a state of its own")
    account: dict[str, Any] = {"function": name_of(function), "source": source_of(function)}
    if held := {name: _told(value, around) for name, value in _held(function)}:
        account["held"] = held
    return account


def _held(function: Called) -> Iterator[tuple[str, Any]]:
    """Values that a function has beside its source, by name."""
    if not isinstance(function, FunctionType):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # nothing has been put into it
            yield name, cell.cell_contents
    if function.__defaults__:
        yield "defaults", function.__defaults__
    if function.__kwdefaults__:
        yield "keyword defaults", function.__kwdefaults__


def _told(value: Any, around: tuple[Called, ...]) -> Any:
    """A value as JSON values that are others where it is another."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list() | tuple():
            return [_told(one, around) for one in value]
        case Mapping():
            return {str(name): _told(one, around) for name, one in value.items()}
        case type():
            return {"class": name_of(value)}
        case ModuleType():
            return {"module": value.__name__}
    if is_dataclass(value):
        return {
            "class": name_of(type(value)),
            "fields": {one.name: _told(getattr(value, one.name), around) for one in fields(value)},
        }
    if any(value is one for one in around):
        return {"function": name_of(value)}
    if callable(value):
        return account_of(value, around=around)
    raise _untold(f"a value of type {type(value).__qualname__} in {name_of(around[0])}")


def _untold(found: str) -> TeacherError:
    return TeacherError(
        f"expected a function that its source and plain values tell from others, found {found}; name it as "
        "'package.module:function', or give FunctionTeacher a fingerprint, and another one whenever its answers change"
    )
