"""Keys, tokens and passwords: those whose form gives them away, and values that look random or are called a secret."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from pocketseq.privacy.finding import Finding

_FORMS: Final[Mapping[str, re.Pattern[str]]] = {
    kind: re.compile(pattern)
    for kind, pattern in {
        # A block may be cut at its end where only a part of a file is sent; one cut at its beginning is found by its end.
        "private_key": (
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)"
        ),
        "aws_key": r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b",
        "github_token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})",
        "gitlab_token": r"\bglpat-[A-Za-z0-9_-]{20,}",
        "openai_key": r"\bsk-[A-Za-z0-9_-]{20,}",
        "slack_token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/[A-Za-z0-9/]{20,}",
        "google_key": r"\bAIza[A-Za-z0-9_-]{35}|\bGOCSPX-[A-Za-z0-9_-]{28}|\bya29\.[A-Za-z0-9_-]{20,}",
        "stripe_key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
        "hugging_face_token": r"\bhf_[A-Za-z0-9]{30,}",
        "package_token": r"\bnpm_[A-Za-z0-9]{36}\b|\bpypi-[A-Za-z0-9_-]{50,}",
        "jwt": r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
        "url_credentials": r"(?<=://)[^\s/:'\"]{0,256}:(?P<alone>[^\s/'\"]{1,256})(?=@)",
        "authorization": r"(?i:\b(?:bearer|basic))\s+(?P<value>[A-Za-z0-9._~+/=-]{16,})",
    }.items()
}

_KEY_END: Final = re.compile(r"-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_LINE: Final = re.compile(r"[A-Za-z0-9+/=]+")
_INNER_LINE: Final = re.compile(r"(?m)^[ \t]*(?P<value>[A-Za-z0-9+/]{40,128}={0,2})[ \t\r]*$")
"""A line that may be of the middle of a key, whose beginning and end stand in other fields or were cut off."""

_WORD: Final = re.compile(r"[a-z]{3,}")
"""What names and paths are made of; of a line of a key it is hardly ever half."""

_NAMED: Final = re.compile(
    r"""(?ix) (?:secret|passwd|password|passphrase|pwd|token|api_?key|access_?key|private_?key|auth_?key|credentials?)
    [\w.-]{0,40} ["']? \s* (?:=>|:=|[:=]) \s*
    (?: (?P<quote>["'`]) (?P<quoted>[^\n]{4,512}?) (?P=quote) | (?P<bare>[A-Za-z0-9+/_=.~-]{12,512}) )"""
)
"""A value that is called a secret."""

_RANDOM: Final = re.compile(r"""(?P<quote>["'`])(?P<value>[A-Za-z0-9+/_=-]{24,512})(?P=quote)""")
"""A quoted word long enough to be judged by its letters alone."""

_TEMPLATE: Final = re.compile(
    # of templates, shells and format strings in general, then a field that has no name, or whose form alone is said
    r"\{\{[^{}]*\}\}|\$\{[^{}]+\}|\{\s*(?:\$?[A-Za-z_][^{}]*|\d*)\}"
    r"|\{\d*(?:\.[A-Za-z_]\w*|\[\w+\])*(?:![rsa])?(?::(?:.?[<>=^])?[-+ ]?#?\d*[,_]?(?:\.\d+)?[A-Za-z%]?)?\}"
    r"|^\$(?:[A-Z_][A-Z0-9_]*|[a-z_]+(?:[A-Z][a-z]+)*\d?|env:\w+|\d|\(.*\))$"
    r"|%\(\w+\)|^(?:<[^<>]*>[ ./:@_-]?)+$|^%s$|\*{3}|^x+$"
)
"""A stand-in for a secret rather than one."""


def secrets(text: str, /) -> Iterator[Finding]:
    """Find keys and tokens of well-known services, private keys, credentials in URLs, passwords and random-looking values."""
    for kind, pattern in _FORMS.items():
        for match in pattern.finditer(text):
            group = "value" if "value" in pattern.groupindex else 0
            yield Finding(kind, match.start(group), match.end(group))
            if "alone" in pattern.groupindex:  # a password is as secret where it stands without its user
                yield Finding(kind, *match.span("alone"))
    for match in _KEY_END.finditer(text):
        yield Finding("private_key", _key_start(text, match.start()), match.end())
    for match in _INNER_LINE.finditer(text):
        words = sum(map(len, _WORD.findall(match["value"])))
        if _looks_random(match["value"], bits=4.2) and 2 * words <= len(match["value"]):
            yield Finding("private_key", *match.span("value"))
    for match in _NAMED.finditer(text):
        group = "quoted" if match["quoted"] else "bare"
        value = match[group]
        # What stands without quotes in a program is most often a name: only what looks random counts.
        if not _TEMPLATE.search(value) and (group == "quoted" or _looks_random(value, bits=3.0)):
            yield Finding("secret", match.start(group), match.end(group))
    for match in _RANDOM.finditer(text):
        if _looks_random(match["value"], bits=3.8) or (
            re.fullmatch(r"[0-9a-fA-F]{32,}", match["value"]) and entropy(match["value"]) >= 3.0
        ):
            yield Finding("secret", match.start("value"), match.end("value"))


def entropy(value: str) -> float:
    """Shannon entropy of a text's characters, in bits for each; 0 for an empty text."""
    counts = Counter(value).values()
    return math.fsum(-count / len(value) * math.log2(count / len(value)) for count in counts)


def _key_start(text: str, end: int) -> int:
    """Where the lines of a key begin that ends there."""
    start = end
    while start > 0:
        before = text.rfind("\n", 0, start - 1) + 1
        if not _KEY_LINE.fullmatch(text[before:start].strip()):
            break
        start = before
    return start


def _looks_random(value: str, *, bits: float) -> bool:
    has_both = any(letter.isdigit() for letter in value) and any(letter.isalpha() for letter in value)
    return has_both and entropy(value) >= bits
