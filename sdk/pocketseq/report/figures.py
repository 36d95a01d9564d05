"""Numbers as people read them."""

from __future__ import annotations

MISSING = "–"


def share(value: float | None) -> str:
    """A fraction as per cent with one decimal."""
    return MISSING if value is None else f"{100 * value:.1f}%"


def megabytes(size_bytes: int | None) -> str:
    """A size in millions of bytes."""
    return MISSING if size_bytes is None else f"{size_bytes / 1e6:.1f}"


def millions(count: int | None) -> str:
    """A count in millions."""
    return MISSING if count is None else f"{count / 1e6:.1f}M"


def milliseconds(value: float | None) -> str:
    """A time with three significant digits or so."""
    if value is None:
        return MISSING
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def decimal(value: float | None) -> str:
    """A number in 0…1 with two decimals; one just below 1 is not rounded up to it."""
    if value is None:
        return MISSING
    return f"{min(value, 0.99):.2f}" if value < 1 else "1.00"


def plus_minus(value: float | None) -> str:
    """How far an estimate may be off, as a share of it."""
    return MISSING if value is None else f"±{100 * value:.1f}%"


def count(value: float | None) -> str:
    """A number of things, with three significant digits or so."""
    return MISSING if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def fine_milliseconds(value: float | None) -> str:
    """A time that may be a small part of a millisecond."""
    if value is None:
        return MISSING
    return milliseconds(value) if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
