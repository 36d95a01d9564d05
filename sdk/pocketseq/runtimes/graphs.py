"""A cache of optimised graphs: what onnxruntime made of a bundle's graphs, without the weights that it left as they are."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Final

from pocketseq.bundle import Bundle
from pocketseq.files import digest
from pocketseq.manifest import Variant

_FORMAT: Final = b"pocketseq graph 1\n"
_HEAD_BYTES: Final = len(_FORMAT) + 32
_INSTALLED: Final = {"site-packages", "dist-packages"}
"""Folders in which packages lie, into which nothing is written."""
_NO_NAME: Final = re.compile(r"[^\w.-]+")
"""What a folder is better not called."""
_asides: Final = count()
"""Tells the threads of a process apart."""


@dataclass(frozen=True, slots=True)
class GraphCache:
    """Optimised graphs of one variant in a folder: one file for each of its graphs, so that a new one replaces what is stale.

    A file is a line that says what it is, a digest of its name, a key and the graph, and then the graph. The key is made of all
    that the graph depends on: the hashes of the variant's files, the version of onnxruntime, the processor, and the options of the
    session. A file with another digest is never loaded and is written anew; what cannot be written is done without.
    """

    folder: Path
    """Of this variant alone; made when the first file is written."""
    variant: str
    """``Variant.hash``."""

    def key(self, options: Sequence[str]) -> bytes:
        """All that the optimised graphs of the variant depend on, in 32 bytes.

        Args:
            options: Of the session, in words.
        """
        return hashlib.sha256("\0".join((self.variant, _processor(), *options)).encode()).digest()

    def read(self, name: str, key: bytes) -> bytes | None:
        """The optimised graph with this key, or None where there is none that is whole.

        Args:
            name: Of the graph, such as ``encode``.
            key: See ``key``.
        """
        try:
            content = self._path(name).read_bytes()
        except OSError:
            return None
        head, graph = content[:_HEAD_BYTES], content[_HEAD_BYTES:]
        return graph if head == _head(name, key, graph) else None

    def write(self, name: str, key: bytes, graph: bytes) -> None:
        """Keep an optimised graph in the place of the one of before, whole or, where nothing can be written, not at all."""
        with suppress(OSError), self.aside(name) as aside:
            aside.write_bytes(_head(name, key, graph) + graph)
            aside.replace(self._path(name))

    @contextmanager
    def aside(self, name: str) -> Iterator[Path]:
        """A path beside the file that no other thread or process uses; what is there when the block ends is removed.

        Raises:
            OSError: the folder cannot be made.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / f".{name}.{os.getpid()}.{next(_asides)}.part"
        try:
            yield aside
        finally:
            with suppress(OSError):
                aside.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.graph"


def graph_cache(bundle: Bundle, variant: Variant, wanted: bool | str | Path) -> GraphCache | None:
    """The cache of a variant's optimised graphs.

    Args:
        bundle: An opened bundle.
        variant: One of its variants.
        wanted: A folder; or True for one beside the bundle, or in the user's cache where the bundle lies inside an installed
            package, in a model hub's cache, or where nothing can be written; or False.

    Returns:
        The cache; None where nothing is to be kept, or there is no place for it.
    """
    if wanted is False:
        return None
    folder = _beside(bundle) if wanted is True else Path(wanted)
    if folder is None:
        return None
    return GraphCache(folder / _NO_NAME.sub("-", f"{bundle.manifest.name}-{variant.label}"), variant.hash)


def _beside(bundle: Bundle) -> Path | None:
    place = bundle.place
    if place is not None and _INSTALLED.isdisjoint(place.parts) and os.access(place.parent, os.W_OK):
        return place.with_name(f"{place.name}.graphs")
    try:
        caches = _user_caches()
    except RuntimeError:  # of a user without a home
        return None
    return caches / "pocketseq" / "graphs" / digest([str(place or bundle.source), str(Path(__file__).parent)])


def _user_caches() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    named = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    if named and Path(named).is_absolute():
        return Path(named)
    return Path.home() / ("AppData/Local" if sys.platform == "win32" else ".cache")


def _head(name: str, key: bytes, graph: bytes) -> bytes:
    return _FORMAT + hashlib.sha256(name.encode() + key + graph).digest()


def _processor() -> str:
    """What constants were computed with: the architecture, and the instructions that numpy found."""
    import platform

    try:
        found = import_module("numpy._core._multiarray_umath").__cpu_features__
    except (ImportError, AttributeError):
        found = {}
    return " ".join((platform.machine(), *sorted(str(name) for name, there in found.items() if there)))
