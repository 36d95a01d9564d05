"""What an endpoint may cost, what it is likely to cost, and what it has cost so far."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

from pocketseq.budget import Price
from pocketseq.errors import DataError, LabellingError, RecipeError
from pocketseq.files import write_json
from pocketseq.locking import take_lock

_BYTES_A_TOKEN: Final = 3
"""Fewer than most tokenizers put into one, so that an estimate is rather too high."""


@dataclass(frozen=True, slots=True)
class LabelBudget:
    """Limits on one labelling, earlier calls for the same file counted; None sets none."""

    requests: int | None = None
    """Requests, retries counted."""
    tokens: int | None = None
    """Tokens read and written, as the endpoint counts them; estimated where it does not say."""
    cost: float | None = None
    """Money, by the price."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not value >= 0:
                raise RecipeError(f"budget: expected {field.name} of 0 or more, found {value!r}")


@dataclass(slots=True)
class Spent:
    """What was used."""

    requests: int = 0
    tokens: int = 0
    cost: float = 0.0

    def __str__(self) -> str:
        return f"{self.requests:,} requests, {self.tokens:,} tokens, cost {self.cost:.4g}"


class Spending:
    """Counts against a budget, in a file beside the labels, so that a call that goes on goes on counting.

    Safe for threads, and for processes that count in one file, such as a ``--try`` beside a labelling: the file has the count, and
    for each request it is read and written under a lock. On Windows nothing keeps processes apart.
    """

    def __init__(self, budget: LabelBudget, price: Price | None, file: Path | None) -> None:
        """Open the account.

        Args:
            budget: The limits.
            price: What tokens cost.
            file: Where the count is kept; None counts in this process only.

        Raises:
            RecipeError: a limit on money without a price.
            DataError: a file that holds no count.
        """
        if budget.cost is not None and price is None:
            raise RecipeError(
                f"budget: expected a price to keep a cost of {budget.cost:g} by, found none; give price, or limit tokens"
            )
        self._budget, self._price, self._file = budget, price, file
        self._settled = threading.Condition()
        self._under_way = 0
        self.spent = _read(file) if file is not None and file.exists() else Spent()
        """So far, requests under way counted as they are expected."""
        self._largest = Spent()

    def reserve(self, expected: Spent) -> str | None:
        """Count a request before it is made: None, or the limit that has no room for it.

        What is under way counts as expected, which is rather too much: where only that leaves no room, this waits for what this
        process has under way.

        Raises:
            LabellingError: the count cannot be read or written; the request is not counted, and must not be made.
            DataError: the file holds no count any more.
        """
        with self._settled:
            while True:
                with self._alone():
                    if (full := self._full(expected)) is None:
                        self._add(expected, 1)
                        try:
                            self._keep()
                        except LabellingError:
                            self._add(expected, -1)
                            raise
                        self._under_way += 1  # last, for whoever waits would wait for ever for a request that is not made
                if full is None or not self._under_way:
                    return full
                self._settled.wait()

    def settle(self, expected: Spent, used: Spent) -> None:
        """Put what a request used in place of what was expected.

        Raises:
            LabellingError: the count cannot be read or written; the file goes on to say what was expected.
            DataError: the file holds no count any more.
        """
        with self._settled:
            self._under_way -= 1
            self._settled.notify_all()
            self._largest = Spent(1, max(self._largest.tokens, used.tokens), max(self._largest.cost, used.cost))
            with self._alone():
                self._add(expected, -1)
                self._add(used, 1)
                self._keep()

    def expected(self, *, prompt_tokens: int, completion_tokens: int) -> Spent:
        """What one request is likely to use: as much as is estimated, or as the largest one has used so far."""
        estimated = self.used(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
        return Spent(1, max(estimated.tokens, self._largest.tokens), max(estimated.cost, self._largest.cost))

    def used(self, *, prompt_tokens: int, completion_tokens: int) -> Spent:
        """What one request has used."""
        return Spent(
            1, prompt_tokens + completion_tokens, self.cost(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
        )

    def cost(self, *, prompt_tokens: int, completion_tokens: int) -> float:
        """Money for so many tokens; 0 without a price."""
        return 0.0 if self._price is None else self._price.of(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)

    def _full(self, expected: Spent) -> str | None:
        """The limit that has no room for a request, such as ``requests 5``."""
        for field in fields(self._budget):
            limit = getattr(self._budget, field.name)
            if limit is not None and getattr(self.spent, field.name) + getattr(expected, field.name) > limit:
                return f"{field.name} {limit:g}"
        return None

    def _add(self, use: Spent, sign: int) -> None:
        self.spent.requests += sign * use.requests
        self.spent.tokens += sign * use.tokens
        self.spent.cost = max(0.0, self.spent.cost + sign * use.cost)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold other processes off the file, and count from what it says."""
        if self._file is None:
            yield
            return
        try:
            held = take_lock(self._file, wait=True)
        except OSError as error:
            raise self._unwritable(error) from error
        with held:
            if self._file.exists():
                self.spent = _read(self._file)
            yield

    def _keep(self) -> None:
        """Write the count to its file."""
        if self._file is None:
            return
        try:
            write_json(self._file, asdict(self.spent))
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> LabellingError:
        return LabellingError(
            f"{self._file}: expected a place for what was spent that can be written, found: {error}; make room, and the same "
            "call goes on"
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """What labelling is likely to cost, before anything is sent."""

    rows: int
    """Rows that are not labelled yet."""
    requests: int
    prompt_tokens: int
    completion_tokens: int
    """As many as the references have; the longest answer each where there is no reference."""
    cost: float | None
    """By the price; None without one."""
    most: float | None
    """The same if every answer were as long as it may be; None without a price or a bound."""

    def __str__(self) -> str:
        money = (
            "no price given"
            if self.cost is None
            else f"about {self.cost:.4g}" + ("" if self.most is None else f", at most {self.most:.4g}")
        )
        return (
            f"{self.rows:,} rows to label: {self.requests:,} requests, about {self.prompt_tokens:,} tokens to read and "
            f"{self.completion_tokens:,} to write; {money}"
        )


def estimate(
    prompts: Sequence[str],
    references: Sequence[str],
    *,
    candidates: int,
    max_tokens: int | None,
    price: Price | None,
    count: Callable[[str], int] | None = None,
) -> Estimate:
    """Estimate what asking costs.

    Args:
        prompts: What is sent for each row, instructions and all.
        references: The rows' own answers; empty where there is none.
        candidates: Answers that are asked for each row, each by a request of its own.
        max_tokens: Longest answer.
        price: What tokens cost.
        count: Counts the tokens of a text; a third of its bytes if not given.
    """
    count = count or rough_tokens
    read = candidates * sum(count(prompt) for prompt in prompts)
    written = candidates * sum(
        count(text) if text else max_tokens or count(prompt) for text, prompt in zip(references, prompts, strict=True)
    )
    longest = None if max_tokens is None else candidates * max_tokens * len(prompts)
    return Estimate(
        rows=len(prompts),
        requests=candidates * len(prompts),
        prompt_tokens=read,
        completion_tokens=written,
        cost=None if price is None else price.of(prompt_tokens=read, completion_tokens=written),
        most=None if price is None or longest is None else price.of(prompt_tokens=read, completion_tokens=longest),
    )


def announce(found: Estimate, budget: LabelBudget) -> None:
    """Tell a person what is about to be spent, and where it stops."""
    limits = ", ".join(
        f"{name} {value:g}" for name in ("requests", "tokens", "cost") if (value := getattr(budget, name)) is not None
    )
    print(f"{found}; budget: {limits or 'none'}", file=sys.stderr)


def rough_tokens(text: str) -> int:
    """Tokens of a text for want of its tokenizer, rather too many."""
    return len(text.encode("utf-8")) // _BYTES_A_TOKEN + 1


def _read(file: Path) -> Spent:
    try:
        spent = Spent(**json.loads(file.read_text(encoding="utf-8")))
        if not all(isinstance(value, int | float) for value in (spent.requests, spent.tokens, spent.cost)):
            raise TypeError("not numbers")
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{file}: expected what was spent so far, found: {error}; write it anew, or remove it to count from 0"
        ) from None
    return spent
