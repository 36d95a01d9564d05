"""Refusals in plain words: what an assistant says instead of an answer, and what no student should learn to say."""

from __future__ import annotations

import re
from typing import Final

_SORRY: Final = r"(?:i(?: a|')m (?:\w+ )?(?:sorry|afraid)(?: that)?|sorry|(?:my )?apologies|i apologi[sz]e|unfortunately)"
_MACHINE: Final = r"(?:as|i(?: a|')m) (?:just |only )?an? (?:ai|artificial intelligence|(?:large )?language model)\b"
_UNABLE: Final = (
    r"i(?: can(?:'t|not| not)| won't| will not| must decline| do(?:n't| not) have the ability"
    r"|(?: a|')m (?:unable|not (?:able|allowed|permitted|programmed|designed)))(?: to)?"
)
_POINTED: Final = (
    r".{0,60}?\b(?:this|that|these|those|your|such|requests?|content|information|assistance|text|code|translations?)\b"
)
_SERVICE: Final = rf"(?:(?:assist|comply)\b|(?:help|fulfill?|provide|generate|translate|process)\b{_POINTED})"
_DEED: Final = rf"(?:do|produce|create|write|answer|respond|continue|engage|share|offer|give)\b{_POINTED}"
_REFUSAL: Final = re.compile(
    rf"\W*(?:(?:{_SORRY}\W+(?:but )?)(?:{_MACHINE}\W.{{0,80}}?)?{_UNABLE} (?:{_SERVICE}|{_DEED})"
    rf"|{_MACHINE}\W.{{0,80}}?{_UNABLE} (?:{_SERVICE}|{_DEED})"
    rf"|{_UNABLE} {_SERVICE}"
    rf"|{_MACHINE}(?:[,.;:!]| (?:language )?model\b| assistant\b))",
    re.IGNORECASE,
)
"""That the speaker cannot do what it was asked for: what an assistant is for, or, behind an apology or the words that a machine is
speaking, anything, since people too say that they will not answer. What it was is told by a word that points at it. Or that a
machine is speaking alone. At the beginning: what comes to it later has answered."""
_LONGEST: Final = 400


def refuses(text: str) -> bool:
    """Whether a text begins as an assistant's refusal does, in English, which most refuse in."""
    return _REFUSAL.match(text[:_LONGEST].replace("\u2019", "'")) is not None
