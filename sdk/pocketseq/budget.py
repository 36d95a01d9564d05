"""What the cloud may be used for: a price, and limits by hour and day."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from pocketseq.errors import PolicyError


@dataclass(frozen=True, slots=True)
class Price:
    """What an endpoint charges, in whatever currency the user thinks in."""

    per_million_prompt_tokens: float
    """For a million tokens read."""
    per_million_completion_tokens: float
    """For a million tokens written."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) >= 0:
                raise PolicyError(f"{field.name}: expected 0 or more, found {getattr(self, field.name)!r}")

    def of(self, *, prompt_tokens: int, completion_tokens: int) -> float:
        """Cost of one answer."""
        return (prompt_tokens * self.per_million_prompt_tokens + completion_tokens * self.per_million_completion_tokens) / 1_000_000


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits on the use of the cloud; None sets none. When one is reached the local answer stands, until the hour or day is over.

    An hour and a day begin with the first request in them.
    """

    requests_per_hour: int | None = None
    """Requests, retries counted."""
    requests_per_day: int | None = None
    """Requests, retries counted."""
    tokens_per_hour: int | None = None
    """Tokens read and written, as the endpoint counts them; estimated where it does not say."""
    tokens_per_day: int | None = None
    """See ``tokens_per_hour``."""
    cost_per_hour: float | None = None
    """Money, by the policy's price."""
    cost_per_day: float | None = None
    """Money, by the policy's price."""
    file: Path | None = None
    """Where the count is kept, so that a restart does not begin anew; None counts in this process only."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "file" and value is not None and not value >= 0:
                raise PolicyError(f"{field.name}: expected 0 or more, found {value!r}")

    @property
    def limits_cost(self) -> bool:
        """Whether a price is needed to keep it."""
        return self.cost_per_hour is not None or self.cost_per_day is not None
