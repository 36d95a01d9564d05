"""What a caller may say beside the input: the keyword arguments of every way to ask, checked as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from pocketseq.decoding.cancellation import Cancellation
from pocketseq.decoding.settings import Beams, Constraints, Sampling
from pocketseq.errors import InputError
from pocketseq.template import Overflow


class Options(TypedDict, total=False):
    """Keyword arguments of ``generate`` and its kin; all may be left out."""

    max_new_tokens: int | None
    """Longest answer, end token included; None takes the bundle's default."""
    beams: Beams | None
    """Search with beams; None takes the likeliest token, which is what calibration measured."""
    sampling: Sampling | None
    """Draw tokens; None takes the likeliest."""
    constraints: Constraints | None
    """What the answer must and must not hold."""
    draft: bool | str | None
    """Verify several tokens at a time against a text that the answer is likely to copy: True takes the input's primary field, a
    string that text, None what the bundle found to pay, False none. The answer is the same; only greedy answers to one input at a
    time are drafted."""
    alternatives: int
    """How many of the likeliest tokens to tell at each place, in ``Result.token_alternatives`` and those of its hypotheses."""
    pooled: bool
    """Tell the mean encoder state in ``Result.pooled``."""
    overflow: Overflow
    """``truncate`` cuts a field that is over its budget and says so in the result; ``refuse`` raises."""
    deadline_s: float | None
    """Seconds from the call; at their end the answer so far stands, with the finish reason ``deadline``. What is under way is
    waited for: a step, and before the first one the input, of which no more is read than the model can take, but never less than
    a whole word: one of a million letters takes about a second."""
    cancellation: Cancellation | None
    """Ends the answer from another thread within a step; what there is stands, with the finish reason ``cancelled``."""
    on_gate: Callable[[float], None] | None
    """Called once for each input, after the encoder and before the first token, with the probability that the answer will be right,
    where the calibration carries a gate. What it raises ends the call; in a ``BatchQueue``, which cannot tell whose error it is,
    those that were not finished are asked again one by one, and their callbacks hear it again."""


@dataclass(frozen=True, slots=True)
class Request:
    """The options of one call, with their defaults; see ``Options``.

    Raises:
        InputError: an option of another type or out of its range, or two that exclude each other.
    """

    max_new_tokens: int | None = None
    beams: Beams | None = None
    sampling: Sampling | None = None
    constraints: Constraints | None = None
    draft: bool | str | None = None
    alternatives: int = 0
    pooled: bool = False
    overflow: Overflow = "truncate"
    deadline_s: float | None = None
    cancellation: Cancellation | None = None
    on_gate: Callable[[float], None] | None = None

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise InputError(f"{name}: expected {kind.__name__} or None, found {value!r}")
        if self.overflow not in ("truncate", "refuse"):
            raise InputError(f"overflow: expected 'truncate' or 'refuse', found {self.overflow!r}")
        if self.draft is not None and not isinstance(self.draft, bool | str):
            raise InputError(f"draft: expected True, False, a text or None, found {self.draft!r}")
        if type(self.alternatives) is not int or self.alternatives < 0:
            raise InputError(f"alternatives: expected a whole number of at least 0, found {self.alternatives!r}")
        if self.deadline_s is not None and (not isinstance(self.deadline_s, float | int) or math.isnan(self.deadline_s)):
            raise InputError(f"deadline_s: expected a number of seconds or None, found {self.deadline_s!r}")
        if self.beams is not None and self.sampling is not None:
            raise InputError("expected beams or sampling, found both; beams take the likeliest, sampling draws")
        if self.draft:
            unfit = [name for name in ("sampling", "beams", "alternatives") if getattr(self, name)]
            if unfit:
                raise InputError(f"expected a draft or {unfit[0]}, found both; only the likeliest tokens can be verified together")


_KINDS: Final[dict[str, Any]] = {
    "beams": Beams,
    "sampling": Sampling,
    "constraints": Constraints,
    "cancellation": Cancellation,
}

PLAIN: Final = Request()
"""Of a call without options."""


def request_of(options: Options) -> Request:
    """Check the options of a call.

    Raises:
        InputError: as ``Request``.
        TypeError: an option that there is none of.
    """
    if not options:
        return PLAIN
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"unexpected keyword argument {min(unknown)!r}; expected some of: {', '.join(Options.__annotations__)}")
    return Request(**options)
