"""How words come out wrong: fingers that slip, and names that are only half remembered."""

from __future__ import annotations

import re
from random import Random
from typing import Final

_ROWS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

_SWAPS: Final = {
    "message": "msg",
    "msg": "message",
    "index": "idx",
    "idx": "index",
    "length": "len",
    "size": "length",
    "count": "cnt",
    "number": "num",
    "num": "number",
    "value": "val",
    "val": "value",
    "values": "vals",
    "string": "str",
    "error": "err",
    "err": "error",
    "exc": "exception",
    "exception": "exc",
    "filename": "file_name",
    "func": "function",
    "function": "func",
    "arguments": "args",
    "args": "arguments",
    "kwargs": "kwds",
    "parameters": "params",
    "params": "parameters",
    "config": "conf",
    "directory": "dir",
    "result": "res",
    "res": "result",
    "temp": "tmp",
    "tmp": "temp",
    "text": "txt",
    "buffer": "buf",
    "buf": "buffer",
    "previous": "prev",
    "current": "cur",
    "get": "fetch",
    "set": "put",
    "add": "append",
    "remove": "delete",
    "read": "load",
    "write": "save",
    "start": "begin",
    "stop": "end",
    "end": "stop",
    "key": "keys",
    "item": "elem",
    "obj": "object",
    "cls": "klass",
    "ctx": "context",
    "context": "ctx",
    "src": "source",
    "dst": "dest",
    "dest": "dst",
    "fmt": "format",
    "addr": "address",
    "address": "addr",
    "request": "req",
    "response": "resp",
}
"""Words of names that people mix up."""

FOREIGN: Final = {
    "append": ("push", "add", "push_back"),
    "len": ("length", "size", "count"),
    "str": ("string", "String", "toString"),
    "None": ("null", "nil", "none", "NULL"),
    "True": ("true", "TRUE"),
    "False": ("false", "FALSE"),
    "self": ("this", "Self"),
    "isinstance": ("instanceof", "isinstanceof", "isInstance"),
    "print": ("printf", "println", "echo"),
    "lower": ("toLowerCase", "tolower", "lowercase"),
    "upper": ("toUpperCase", "toupper", "uppercase"),
    "strip": ("trim",),
    "startswith": ("startsWith", "starts_with", "beginswith"),
    "endswith": ("endsWith", "ends_with"),
    "items": ("iteritems", "entries"),
    "range": ("xrange", "Range"),
    "dict": ("map", "Dict"),
    "list": ("array", "List"),
    "int": ("integer", "Int"),
    "bool": ("boolean", "Boolean"),
    "join": ("implode", "Join"),
    "def": ("function", "func", "fn", "define"),
    "elif": ("else if", "elseif", "elsif"),
    "except": ("catch", "expect"),
    "raise": ("throw", "rise"),
    "import": ("include", "require"),
    "and": ("&&", "&"),
    "or": ("||", "|"),
    "not": ("!",),
    "lambda": ("function", "fn"),
    "pass": ("noop", "continue;"),
    "Exception": ("Error", "exception"),
    "setattr": ("set_attr", "setattribute"),
    "getattr": ("get_attr", "getattribute"),
    "hasattr": ("has_attr", "hasattribute"),
    "__init__": ("__int__", "_init_", "__init", "init"),
    "super": ("parent", "supper"),
    "assertEqual": ("assertEquals", "assert_equal"),
    "assertTrue": ("assert_true", "assertIsTrue"),
    "assertRaises": ("assertRaise", "assert_raises"),
    "encode": ("encoded", "toBytes"),
    "decode": ("decoded", "toString"),
}
"""Python's words as they come from other languages, older versions or a hasty memory."""


def mistype(word: str, rng: Random) -> str:
    """Make one slip of the fingers: letters swapped, dropped, doubled, or a neighbouring key."""
    letters = [index for index, letter in enumerate(word) if letter.isalpha()]
    if len(letters) < 2:
        return word
    way = rng.random()
    if way < 0.35:
        pairs = [i for i in range(len(word) - 1) if word[i] != word[i + 1] and word[i].isalpha() and word[i + 1].isalpha()]
        if pairs:
            at = rng.choice(pairs)
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    at = rng.choice(letters)
    if way < 0.6:
        return word[:at] + word[at + 1 :]
    if way < 0.72:
        return word[: at + 1] + word[at:]
    key = _neighbour(word[at], rng)
    if way < 0.9:
        return word[:at] + key + word[at + 1 :]
    return word[:at] + key + word[at:]


def half_remember(name: str, rng: Random) -> str:
    """Recall a name by its meaning: another number, another style, a word dropped, swapped or shortened."""
    ways = [_number, _style, _dropped_word, _swapped_word, _underscore, _shortened]
    rng.shuffle(ways)
    for way in ways:
        wrong = way(name, rng)
        if wrong != name and len(wrong) > 1:
            return wrong
    return name


def _neighbour(letter: str, rng: Random) -> str:
    low = letter.lower()
    for row in _ROWS:
        at = row.find(low)
        if at >= 0:
            key = rng.choice([row[i] for i in (at - 1, at + 1) if 0 <= i < len(row)])
            return key.upper() if letter.isupper() else key
    return letter


def _number(name: str, _rng: Random) -> str:
    if name.endswith("s") and not name.endswith("ss"):
        return name[:-1]
    return name + "s" if name[-1].isalpha() else name


def _style(name: str, rng: Random) -> str:
    words = name.strip("_").split("_")
    if len(words) > 1:
        if name.isupper():
            return name.lower()
        return words[0] + "".join(word.capitalize() for word in words[1:]) if rng.random() < 0.6 else "".join(words)
    return re.sub(r"(?<=[a-z])([A-Z])", lambda found: "_" + found.group(1).lower(), name)


def _dropped_word(name: str, rng: Random) -> str:
    words = [word for word in re.split(r"_|(?<=[a-z])(?=[A-Z])", name) if word]
    if len(words) < 2:
        return name
    separator = "_" if "_" in name.strip("_") else ""
    del words[rng.randrange(len(words))]
    return separator.join(words)


def _swapped_word(name: str, rng: Random) -> str:
    words = name.split("_")
    known = [index for index, word in enumerate(words) if word in _SWAPS]
    if not known:
        return name
    at = rng.choice(known)
    return "_".join([*words[:at], _SWAPS[words[at]], *words[at + 1 :]])


def _underscore(name: str, _rng: Random) -> str:
    if name.startswith("__"):
        return name
    return name[1:] if name.startswith("_") else "_" + name


def _shortened(name: str, rng: Random) -> str:
    return name[: len(name) - rng.randint(2, 3)] if len(name) > 6 else name
