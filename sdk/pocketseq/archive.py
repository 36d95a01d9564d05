"""A bundle as one zip file; apart from other storage, since what unpacks it takes its time to import."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from pocketseq.errors import BundleCorruptError, BundleError
from pocketseq.manifest import unsafe_path


class Unpacked:
    """A folder that is removed with the last reference to it, at the latest when the process ends."""

    def __init__(self) -> None:
        """Make the folder.

        Raises:
            OSError: there is no place for it.
        """
        self.path = Path(tempfile.mkdtemp(prefix="pocketseq-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class Archive:
    """A bundle as one ``.pocketseq`` zip, of which only the files asked for are unpacked, into a folder of this process."""

    def __init__(self, file: Path) -> None:
        """Look through the archive's table of contents.

        Raises:
            BundleCorruptError: no zip, cut off, damaged, or a member whose path leads out of the archive.
            BundleError: the file cannot be read, or there is no place to unpack it.
        """
        self._file = file
        try:
            with file.open("rb") as opened:
                self._size_bytes = _sizes(file, opened)
            self._unpacked: Unpacked | None = Unpacked()
        except OSError as error:
            raise BundleError(
                f"{file}: expected a file that can be read, and a place to unpack it, found: {error}; mend the place that it names"
            ) from error

    @property
    def place(self) -> Path:
        """The archive."""
        return self._file.absolute()

    @property
    def unpacked(self) -> Unpacked | None:
        """The folder; it stays for as long as anyone holds this."""
        return self._unpacked

    def path(self, name: str, *, longest_bytes: int) -> Path:
        """Unpack one file, the first time it is asked for, and give its path."""
        if self._unpacked is None:
            raise BundleError(f"{self._file}: expected an open bundle, found it closed; open it again")
        found_bytes = self._size_bytes.get(name)
        if found_bytes is None:
            raise BundleCorruptError(
                f"{self._file}: expected the file {name!r}, found none; the bundle is incomplete, fetch it again"
            )
        if found_bytes > longest_bytes:
            raise BundleCorruptError(
                f"{self._file}: {name}: expected {longest_bytes} bytes at most, found {found_bytes} when unpacked; do not use it"
            )
        path = self._unpacked.path / name
        try:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                self._unpack(name, path)
        except OSError as error:
            raise BundleError(
                f"{self._file}: {name}: expected room for {found_bytes} bytes in {self._unpacked.path}, found: {error}; make room, "
                "or name another folder in TMPDIR"
            ) from error
        return path

    def close(self) -> None:
        """Remove the unpacked files, as soon as nobody holds them any more."""
        self._unpacked = None

    def _unpack(self, name: str, path: Path) -> None:
        try:
            with path.open("wb") as file:
                for block in self._blocks(name):
                    file.write(block)
        except BaseException:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise

    def _blocks(self, name: str) -> Iterator[bytes]:
        try:
            with zipfile.ZipFile(self._file) as archive, archive.open(name) as member:
                while block := member.read(1 << 20):
                    yield block
        except Exception as error:  # what is raised for damage shares no base
            raise BundleCorruptError(f"{self._file}: {name}: expected whole content, found {error!r}; fetch it again") from error


def write_archive(file: Path, members: Mapping[str, Path]) -> None:
    """Write files as one zip, whole or not at all, the same bytes for the same content.

    Args:
        file: The archive; its folder is made.
        members: Files by their path within it.

    Raises:
        BundleError: the system refuses to write, for want of space or of permission.
    """
    aside = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(aside, "w") as archive:
            for name, path in members.items():
                # Weights hardly shrink and would only load more slowly.
                kind = zipfile.ZIP_DEFLATED if name.endswith(".json") else zipfile.ZIP_STORED
                archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), compress_type=kind)
        aside.replace(file)
    except OSError as error:
        raise BundleError(
            f"{file}: expected a place that can be written, found: {error}; nothing was changed there, make room and pack again"
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def _sizes(file: Path, opened: IO[bytes]) -> dict[str, int]:
    """Bytes of each member when unpacked, by its path."""
    try:
        with zipfile.ZipFile(opened) as archive:
            size_bytes = {info.filename: info.file_size for info in archive.infolist() if not info.is_dir()}
    except Exception as error:  # what is raised for damage shares no base
        raise BundleCorruptError(
            f"{file}: expected a zip archive, found {error!r}; it is of another kind, or truncated or damaged: fetch it again"
        ) from error
    outside = [name for name in size_bytes if unsafe_path(name)]
    if outside:
        raise BundleCorruptError(f"{file}: expected paths inside the archive's folder, found {outside[0]!r}; do not use it")
    return size_bytes
