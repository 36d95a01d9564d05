"""Characters: what counts as text."""

from __future__ import annotations

from pocketseq.errors import InputError


def check_text(name: str, text: str) -> None:
    """Refuse a string that is no Unicode text.

    Args:
        name: What the caller calls it, for the message.
        text: Any string.

    Raises:
        InputError: a lone surrogate, with its place.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name}: expected Unicode text, found a lone surrogate at character {error.start}; "
            "decode the source with the right encoding or errors='replace'"
        ) from None
