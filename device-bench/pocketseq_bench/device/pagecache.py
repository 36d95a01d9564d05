"""Dropping files from the system's page cache, so that the next reader waits for the disk as after a boot; needs no privilege."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

from pocketseq_bench.row import Reading


def drop_pages(files: Iterable[Path]) -> Reading:
    """Ask the system to forget what it holds of these files.

    Returns:
        The share of their pages that is gone, as far as the system tells; null with a reason where it cannot be asked for.
    """
    if not hasattr(os, "posix_fadvise"):
        return Reading(None, "this system has no posix_fadvise")
    left, total = 0.0, 0
    for path in files:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            share = _resident_share(file.fileno(), size)
        if share is None:
            return Reading(None, "the system was asked to drop the pages, and does not tell whether it did")
        left, total = left + share * size, total + size
    gone = 1 - left / total if total else 1.0
    return Reading(gone, f"{100 * gone:.0f}% of the files' pages were dropped by posix_fadvise")


def _resident_share(descriptor: int, size: int) -> float | None:
    """Share of a file's pages in memory, by mincore(2)."""
    if size == 0:
        return 0.0
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
        with mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
            pages = -(-size // mmap.PAGESIZE)
            flags = (ctypes.c_ubyte * pages)()
            start = ctypes.c_char.from_buffer(mapped)
            failed = mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(size), flags)
            del start
    except (OSError, AttributeError, ValueError, TypeError):
        return None
    return None if failed else sum(flag & 1 for flag in flags) / pages
