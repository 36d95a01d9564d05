"""Where a bundle is, told to another process."""

from __future__ import annotations

from pathlib import Path


def source_text(source: str | Path) -> str:
    """A source in words, of which ``PocketModel.load`` opens the same: a path stays one.

    Args:
        source: What ``PocketModel.load`` takes.
    """
    # The bare name of a folder would be that of the package's own bundle where there is one; a path drops a leading "./".
    return str(source.absolute()) if isinstance(source, Path) else source
