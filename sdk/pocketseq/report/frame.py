"""The frame of every page: one file that needs nothing else, in light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files


def html_frame(title: str, parts: Sequence[str]) -> str:
    """A whole page around its parts."""
    style = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def html_card(title: str, note: str, picture: str) -> str:
    """A picture with its title and a sentence."""
    return f'<section class="card">\n<h2>{escape(title)}</h2>\n<p class="note">{escape(note)}</p>\n{picture}\n</section>\n'
