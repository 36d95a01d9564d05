"""Answers given before: for the same input, and for a user who types along a suggestion."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

from pocketseq.suggestion import Suggestion
from pocketseq.template import Template

_Key: TypeAlias = tuple[str, ...]


class Cache:
    """The most recently used answers, in memory only; safe to share between threads.

    An answer that repeats the primary field (as an edit of it does) or continues it also answers the inputs that the user makes on
    the way to it: the input it was given for, and then more and more of what it suggests.
    """

    def __init__(self, template: Template, *, size: int, continues: bool = False) -> None:
        """Start empty.

        Args:
            template: How inputs are read.
            size: Most answers; 0 keeps none.
            continues: Whether answers continue the primary field instead of repeating it.
        """
        self._template = template
        self._size = size
        self._continues = continues
        self._repeats = template.edits == template.primary and not continues
        self._lock = threading.Lock()
        self._answers: OrderedDict[_Key, Suggestion] = OrderedDict()
        self._newest: OrderedDict[_Key, str] = OrderedDict()

    def get(self, fields: Mapping[str, str], *, mode: str) -> Suggestion | None:
        """Find an answer.

        Args:
            fields: The input by field, all of them.
            mode: The mode of the call: what one mode may answer, another may not.
        """
        if not self._size:
            return None
        around, typed = self._around(fields, mode), fields[self._template.primary]
        with self._lock:
            key = (*around, typed)
            found = self._answers.get(key)
            if found is not None:
                self._answers.move_to_end(key)
                return found
            asked = self._newest.get(around)
            found = None if asked is None else self._answers.get((*around, asked))
            return None if found is None or asked is None else self._along(found, asked, typed)

    def put(self, fields: Mapping[str, str], suggestion: Suggestion, *, mode: str) -> None:
        """Keep an answer; the one that was not used for longest goes where there is no room."""
        if not self._size:
            return
        around, typed = self._around(fields, mode), fields[self._template.primary]
        with self._lock:
            self._answers[(*around, typed)] = suggestion
            self._answers.move_to_end((*around, typed))
            self._newest[around] = typed
            self._newest.move_to_end(around)
            while len(self._answers) > self._size:
                self._answers.popitem(last=False)
            while len(self._newest) > self._size:
                self._newest.popitem(last=False)

    def _along(self, found: Suggestion, asked: str, typed: str) -> Suggestion | None:
        """The answer to what was asked, for a user who has typed on from there; None where it went another way."""
        if not typed.startswith(asked):
            return None
        if self._repeats:
            return found if found.text.startswith(typed) else None
        more = typed[len(asked) :]
        if self._continues and found.text.startswith(more):
            return replace(found, text=found.text[len(more) :])
        return None

    def _around(self, fields: Mapping[str, str], mode: str) -> _Key:
        return (mode, *(text for name, text in fields.items() if name != self._template.primary))
