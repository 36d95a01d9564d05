"""Refusals in plain words: what an assistant says instead of an answer, and what no student should learn to say."""

from __future__ import annotations

import re
from typing import Final

_ME: Final = r"(?:i(?: a|')m|we(?: a|')re)"
_SORRY: Final = rf"(?:{_ME}(?: \w+)? (?:sorry|afraid)(?: that)?|sorry|(?:my )?apologies|i apologi[sz]e|unfortunately)"
_MACHINE: Final = r"(?:as|i(?: a|')m) (?:just |only )?an? (?:ai\b|artificial intelligence|(?:large )?language model)"
_UNABLE: Final = (
    r"(?:(?:i|we) (?:can(?:'t|not| not)|won't|will not|must decline|do(?:n't| not) have the ability)"
    rf"|{_ME} (?:unable|not (?:able|allowed|permitted|programmed|designed)))"
)
_ASKED: Final = (
    r"(?:(?:assist|comply)\b"
    r"|(?:help|do|fulfill?|provide|generate|produce|create|write|answer|respond|translate|continue|engage|share|offer|give|process)\b"
    r".{0,60}?\b(?:this|that|these|those|your|such|requests?|content|information|assistance|text|code|translations?)\b)"
)
_REFUSAL: Final = re.compile(
    rf"\W*(?:(?:{_SORRY}\W+(?:but )?)?(?:{_MACHINE}\W.{{0,80}}?)?{_UNABLE}(?: to)? {_ASKED}|{_MACHINE})", re.IGNORECASE
)
"""An apology or none, that a machine is speaking or not, what it cannot do, and a word that points at the question, since anyone
may say that he cannot write; or that a machine is speaking alone. At the beginning: what comes to it later has answered."""
_LONGEST: Final = 400


def refuses(text: str) -> bool:
    """Whether a text begins as an assistant's refusal does, in English, which most refuse in."""
    return _REFUSAL.match(text[:_LONGEST].replace("\u2019", "'")) is not None
