"""Python callables as teachers: anything that takes rows and gives texts."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TypeAlias

from pocketseq.errors import PocketSeqError, TeacherError
from pocketseq.files import digest
from pocketseq_distill.labelling.accounts import fingerprint_of, name_of, source_of
from pocketseq_distill.labelling.teacher import Asking, Candidate, Question, Reply

Given: TypeAlias = str | Candidate | Sequence[str | Candidate] | None
"""What a function gives to one row: its answer, several answers, or None where it declines."""
Function: TypeAlias = Callable[[Sequence[Mapping[str, str]]], Sequence[Given]]
"""Takes the fields of some rows, gives something for each, in their order."""


class FunctionTeacher:
    """A Python function of the user's. It runs with all that this process may do, and only because the user names it."""

    concurrency = 0

    def __init__(self, function: Function | str, *, fingerprint: str | None = None) -> None:
        """Name a function.

        Args:
            function: The function, or ``"package.module:function"``, which is imported.
            fingerprint: What tells its answers from those of any other function, for one that cannot be told by its source.

        Raises:
            TeacherError: nothing of that name, or something that cannot be called.
        """
        self.function = function if callable(function) else _import(function)
        self._given = function
        self._name = function if isinstance(function, str) else name_of(function)
        self._fingerprint = fingerprint

    def __reduce__(self) -> tuple[Callable[[Function | str], FunctionTeacher], tuple[Function | str]]:
        return partial(type(self), fingerprint=self._fingerprint), (self._given,)

    @cached_property
    def id(self) -> str:
        """Fingerprint of its name, of its source where that can be read, and unless its name was given of the values that it holds.

        What it calls may change unseen.

        Raises:
            TeacherError: nothing tells it from others: an object with a state of its own, or one among the values.
        """
        if self._fingerprint is not None:
            return digest({"fingerprint": self._fingerprint})
        if isinstance(self._given, str):
            return digest({"function": self._name, "source": source_of(self.function)})
        return fingerprint_of(self.function)

    def ask(self, questions: Sequence[Question], how: Asking) -> list[Reply]:
        """Call the function, ``batch_size`` rows at a time; see ``Teacher.ask``.

        Raises:
            TeacherError: beams, or it raised, or gave another number or kind of things.
        """
        if how.beams > 1:
            raise TeacherError(
                f"{self._name}: expected one beam of a function, which searches as it likes, found {how.beams}; leave beams out; "
                "where there are to be candidates, have the function give several answers to a row"
            )
        found: list[Reply] = []
        for begin in range(0, len(questions), how.batch_size):
            rows = [dict(question.fields) for question in questions[begin : begin + how.batch_size]]
            try:
                given = self.function(rows)
            except PocketSeqError:
                raise
            except Exception as error:
                raise TeacherError(
                    f"{self._name}: expected answers to {len(rows)} rows, found {type(error).__name__}: {error}"
                ) from error
            found += check_given(given, len(rows), name=self._name)
        return found

    def close(self) -> None:
        """Nothing is held open."""


def check_given(given: object, count: int, *, name: str = "the function") -> list[Reply]:
    """Check what a function gave for some rows.

    Args:
        given: What it returned.
        count: Rows that it was given.
        name: Names it in a message.

    Returns:
        One reply for each row; a row that was declined counts as refused.

    Raises:
        TeacherError: no list, another number of things, or a thing that is no answer, by its place.
    """
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Sequence):
        raise TeacherError(
            f"{name}: expected a list of {count} answers, one for each row, found {type(given).__name__}: {given!r:.80}"
        )
    if len(given) != count:
        raise TeacherError(f"{name}: expected {count} answers, one for each row, found {len(given)}; give None where there is none")
    return [_reply(one, f"{name}: answer {place}") for place, one in enumerate(given)]


def _reply(given: object, where: str) -> Reply:
    if given is None:
        return Reply(failure="refused")
    several = [given] if isinstance(given, str | Candidate) else given
    if not isinstance(several, list | tuple) or not several or not all(isinstance(one, str | Candidate) for one in several):
        raise TeacherError(f"{where}: expected a string, a list of strings, or None, found {type(given).__name__}: {given!r:.80}")
    candidates = tuple(one if isinstance(one, Candidate) else Candidate(text=one) for one in several)
    if wrong := [one.text for one in candidates if not isinstance(one.text, str)]:
        raise TeacherError(
            f"{where}: expected a string as the text of a Candidate, found {type(wrong[0]).__name__}: {wrong[0]!r:.80}"
        )
    return Reply(candidates)


def _import(name: str) -> Function:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise TeacherError(f"expected a function as 'package.module:function', found {name!r}")
    try:
        found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise TeacherError(f"expected a function at {name!r}, found none: {error}; is its folder on PYTHONPATH?") from error
    if not callable(found):
        raise TeacherError(f"expected a function at {name!r}, found {type(found).__name__}")
    function: Function = found
    return function
