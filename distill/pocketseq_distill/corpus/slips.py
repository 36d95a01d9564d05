"""Slips that people make in a line of Python, each made only where a reader could see what was meant.

A slip takes a line, its tokens and a random source and returns the line with the slip, or None where the line offers no place
for it. Names are spoiled only where the lines around, the line itself or the language reveal the right one.
"""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, TypeAlias

from pocketseq_distill.corpus.lines import CodeLine, Token
from pocketseq_distill.corpus.typos import FOREIGN, half_remember, mistype

Slip: TypeAlias = Callable[[CodeLine, Random], str | None]
"""(line, random source) → the line with the slip."""

_BUILTINS: Final = frozenset(name for name in dir(builtins) if not name.startswith("_")) | {"self", "cls"}
_OPEN, _CLOSE = "([{", ")]}"
_COMPARING: Final = frozenset({"if", "elif", "while", "assert", "return", "and", "or", "not"})
_WRONG_OPERATORS: Final = {
    "+=": ("=+", "+ ="),
    "-=": ("=-", "- ="),
    "*=": ("=*",),
    "|=": ("=|",),
    "==": ("===", "= ="),
    "!=": ("<>", "=!", "!==", "! ="),
    "<=": ("=<", "< ="),
    ">=": ("=>", "> ="),
    "->": ("=>", "-", "-->"),
    "**": ("^",),
    "//": ("///",),
    ":=": ("=:",),
    "+": ("++",),
    "-": ("--",),
    "<": ("<<",),
    ">": (">>",),
    "%": ("%%",),
    ".": ("..", ",", "->", " "),
}


def _replace(line: CodeLine, token: Token, text: str) -> str:
    return line.text[: token.start] + text + line.text[token.stop :]


def _pick(tokens: Sequence[Token], rng: Random) -> Token | None:
    return rng.choice(tokens) if tokens else None


def mistyped_keyword(line: CodeLine, rng: Random) -> str | None:
    """``retrun x``; also a keyword as another language has it."""
    token = _pick([t for t in line.tokens if keyword.iskeyword(t.text)], rng)
    if token is None:
        return None
    if token.text in FOREIGN and rng.random() < 0.3:
        return _replace(line, token, rng.choice(FOREIGN[token.text]))
    return _replace(line, token, mistype(token.text, rng))


def mistyped_name(line: CodeLine, rng: Random) -> str | None:
    """``lenght = 3`` where the lines around say ``length``."""
    token = _pick([t for t in _revealed(line) if len(t.text) > 2], rng)
    return None if token is None else _replace(line, token, mistype(token.text, rng))


def half_remembered_name(line: CodeLine, rng: Random) -> str | None:
    """``self.handler`` where the class has ``self.handlers``; ``items.push(x)``."""
    names = _revealed(line)
    foreign = [t for t in names if t.text in FOREIGN]
    if foreign and rng.random() < 0.5:
        chosen = rng.choice(foreign)
        return _replace(line, chosen, rng.choice(FOREIGN[chosen.text]))
    shown = line.context_names
    token = _pick([t for t in names if len(t.text) > 3 and t.text in shown and t.text != "self"], rng)
    if token is None:
        return None
    wrong = half_remember(token.text, rng)
    return None if wrong in shown or keyword.iskeyword(wrong) or wrong in _BUILTINS else _replace(line, token, wrong)


def bracket(line: CodeLine, rng: Random) -> str | None:
    """A bracket missing, doubled or of the wrong kind."""
    if not line.whole:
        return None
    token = _pick([t for t in line.tokens if t.text in _OPEN or t.text in _CLOSE], rng)
    if token is None:
        return None
    way = rng.random()
    if way < 0.6:
        return _replace(line, token, "")
    if way < 0.8:
        return _replace(line, token, token.text * 2)
    kinds = _OPEN if token.text in _OPEN else _CLOSE
    return _replace(line, token, rng.choice([kind for kind in kinds if kind != token.text]))


def quote(line: CodeLine, rng: Random) -> str | None:
    """A quote missing, doubled or of the wrong kind at one end of a string."""
    token = _pick([t for t in line.tokens if t.text[-1] in "'\"" and not t.text.endswith(('"""', "'''"))], rng)
    if token is None:
        return None
    mark = token.text[-1]
    ends = (line.text.index(mark, token.start), token.stop - 1)
    at = ends[rng.random() < 0.6]
    way = rng.random()
    if way < 0.7:
        wrong = ""
    elif way < 0.85:
        wrong = mark * 2
    else:
        wrong = "'" if mark == '"' else '"'
    return line.text[:at] + wrong + line.text[at + 1 :]


def colon(line: CodeLine, rng: Random) -> str | None:
    """The colon of a header, an annotation or a dictionary missing, doubled or mistyped."""
    colons = [t for t in line.tokens if t.text == ":"]
    if not colons:
        return None
    last = line.tokens[-1]
    token = last if last.text == ":" and rng.random() < 0.85 else rng.choice(colons)
    if token is not last and (token.start + 1 >= len(line.text) or line.text[token.start + 1] != " "):
        return None
    return _replace(line, token, rng.choices(("", ";", "::", "=", "."), (70, 14, 8, 4, 4))[0])


def comma(line: CodeLine, rng: Random) -> str | None:
    """A comma between two things missing, doubled or mistyped."""
    token = _pick([t for t in line.tokens if t.text == "," and t.stop < len(line.text)], rng)
    if token is None:
        return None
    return _replace(line, token, rng.choices(("", ",,", ".", ";"), (65, 15, 12, 8))[0])


def operator(line: CodeLine, rng: Random) -> str | None:
    """An operator as another language has it, doubled, turned round, or missing."""
    places = [t for t in line.tokens if t.text in _WRONG_OPERATORS]
    assigned = [t for t in line.tokens if t.text == "=" and line.text[t.start - 1 : t.start] == " "]
    if assigned and (not places or rng.random() < 0.25):
        return _replace(line, assigned[0], rng.choice(("", ":", "==", ":=")))
    dots = [t for t in places if t.text == "."]
    others = [t for t in places if t.text != "."]
    token = _pick(others if others and (not dots or rng.random() < 0.8) else dots, rng)
    return None if token is None else _replace(line, token, rng.choice(_WRONG_OPERATORS[token.text]))


def self_missing(line: CodeLine, rng: Random) -> str | None:
    """``self`` missing, doubled or wrong: ``def get(name):``, ``_items.append(x)``, ``slef.x``."""
    selves = [index for index, t in enumerate(line.tokens) if t.text == "self"]
    if not selves:
        return None
    at = rng.choice(selves)
    token = line.tokens[at]
    following = line.tokens[at + 1] if at + 1 < len(line.tokens) else None
    way = rng.random()
    if following and following.text == "." and way < 0.5:
        attribute = line.tokens[at + 2].text if at + 2 < len(line.tokens) else ""
        private = attribute.startswith("_") or "self." + attribute in line.before + line.after
        return line.text[: token.start] + line.text[following.stop :] if private else None
    if following and following.text == "." and way < 0.6:
        return line.text[: following.start] + line.text[following.stop :]
    if following and following.text == "," and way < 0.6:
        return line.text[: token.start] + line.text[following.stop :].lstrip()
    if line.tokens[0].text == "def" and way < 0.6:
        return _replace(line, token, "")
    return _replace(line, token, rng.choice((mistype("self", rng), "slef", "this", "sefl", "self.self", "sel")))


def equality(line: CodeLine, rng: Random) -> str | None:
    """``if x = 3:``; also ``key==value`` in a call."""
    if line.tokens[0].text in _COMPARING:
        token = _pick([t for t in line.tokens if t.text == "=="], rng)
        return None if token is None else _replace(line, token, "=")
    token = _pick([t for t in line.tokens if t.text == "=" and line.text[t.start - 1 : t.start] not in ("", " ")], rng)
    return None if token is None else _replace(line, token, "==")


def _revealed(line: CodeLine) -> list[Token]:
    """Names whose right form a reader can tell: from around the line, a second time on it, or by knowing the language."""
    known = line.context_names | _BUILTINS | FOREIGN.keys()
    return [token for token in line.tokens if token.name and (token.text in known or line.text.count(token.text) > 1)]


SLIPS: Final[dict[str, tuple[float, Slip]]] = {
    "keyword": (0.11, mistyped_keyword),
    "name": (0.27, mistyped_name),
    "half_remembered": (0.12, half_remembered_name),
    "bracket": (0.14, bracket),
    "quote": (0.07, quote),
    "colon": (0.09, colon),
    "comma": (0.07, comma),
    "operator": (0.05, operator),
    "self": (0.05, self_missing),
    "equality": (0.03, equality),
}
"""Kinds of slip: how often each is tried, and how it is made."""


def make_slip(line: CodeLine, rng: Random) -> tuple[str, str] | None:
    """Spoil a line.

    Returns:
        The kind and the spoiled line, or None where the line offers no place for any slip.
    """
    kinds = list(SLIPS)
    weights = [SLIPS[kind][0] for kind in kinds]
    while kinds:
        at = rng.choices(range(len(kinds)), weights)[0]
        wrong = SLIPS[kinds[at]][1](line, rng)
        if wrong is not None and wrong != line.text and wrong.strip():
            return kinds[at], wrong
        del kinds[at], weights[at]
    return None
