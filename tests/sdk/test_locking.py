"""Locks: who holds one, and what lets go of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from pocketseq.locking import take_lock

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows holds no file"),
    # The children below do next to nothing, whatever other tests' libraries have threads in this process.
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning", "ignore:.*os.fork:RuntimeWarning"),
]


def is_free(path: Path) -> bool:
    try:
        take_lock(path, wait=False).close()
    except BlockingIOError:
        return False
    return True


@contextmanager
def forked(held: ExitStack | None = None) -> Iterator[None]:
    """A child that leaves what its parent holds, if it is given that, and lives on for as long as the block runs."""
    parents, childs = os.pipe(), os.pipe()
    if not (child := os.fork()):
        try:
            os.close(parents[1])
            if held is not None:
                held.close()
            os.write(childs[1], b"x")
            os.read(parents[0], 1)  # until the parent closes its end
        finally:
            os._exit(0)
    try:
        os.read(childs[0], 1)
        yield
    finally:
        for end in (*parents, *childs):
            os.close(end)
        os.waitpid(child, 0)


def test_a_lock_is_for_one_at_a_time(tmp_path: Path) -> None:
    """It is free again when its holder leaves, however that is; what it guards is never made."""
    path = tmp_path / "new" / "rows.jsonl"
    with suppress(ZeroDivisionError), take_lock(path, wait=False):
        assert not is_free(path)
        raise ZeroDivisionError
    assert is_free(path)
    assert not path.exists()


def test_a_child_does_not_keep_the_lock_of_its_parent(tmp_path: Path) -> None:
    """A pool that forked meanwhile has the file open still when the parent leaves; the lock is free all the same."""
    held = take_lock(tmp_path / "rows.jsonl", wait=False)
    with forked():
        held.close()
        assert is_free(tmp_path / "rows.jsonl")


def test_a_child_does_not_let_go_for_its_parent(tmp_path: Path) -> None:
    """One that ends by leaving all that it inherited takes nothing from its parent, who is at work still."""
    with take_lock(tmp_path / "rows.jsonl", wait=False) as held, forked(held):
        assert not is_free(tmp_path / "rows.jsonl")
