"""A bundle as one zip file; apart from other storage, since what unpacks it takes its time to import."""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from pocketseq.errors import BundleCorruptError
from pocketseq.manifest import unsafe_path


class Archive:
    """A bundle as one ``.pocketseq`` zip, of which only the files asked for are unpacked, into a folder that ends with it."""

    def __init__(self, file: Path) -> None:
        """Look through the archive's table of contents.

        Raises:
            BundleCorruptError: no zip, cut off, or a member whose path leads out of the archive.
        """
        self._file = file
        try:
            with zipfile.ZipFile(file) as archive:
                self._size_bytes = {info.filename: info.file_size for info in archive.infolist() if not info.is_dir()}
        except (zipfile.BadZipFile, EOFError, ValueError) as error:
            raise BundleCorruptError(f"{file}: expected a zip archive, found {error}; it is truncated, fetch it again") from error
        outside = [name for name in self._size_bytes if unsafe_path(name)]
        if outside:
            raise BundleCorruptError(f"{file}: expected paths inside the archive's folder, found {outside[0]!r}; do not use it")
        self._unpacked = tempfile.TemporaryDirectory(prefix="pocketseq-", ignore_cleanup_errors=True)

    @property
    def place(self) -> Path:
        """The archive."""
        return self._file.absolute()

    def path(self, name: str, *, longest_bytes: int) -> Path:
        """Unpack one file, the first time it is asked for, and give its path."""
        found_bytes = self._size_bytes.get(name)
        if found_bytes is None:
            raise BundleCorruptError(
                f"{self._file}: expected the file {name!r}, found none; the bundle is incomplete, fetch it again"
            )
        if found_bytes > longest_bytes:
            raise BundleCorruptError(
                f"{self._file}: {name}: expected {longest_bytes} bytes at most, found {found_bytes} when unpacked; do not use it"
            )
        path = Path(self._unpacked.name, name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with zipfile.ZipFile(self._file) as archive, archive.open(name) as member, path.open("wb") as file:
                    while block := member.read(1 << 20):
                        file.write(block)
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
                path.unlink(missing_ok=True)
                raise BundleCorruptError(f"{self._file}: {name}: expected whole content, found {error}; fetch it again") from error
        return path

    def close(self) -> None:
        """Remove the unpacked files."""
        self._unpacked.cleanup()


def write_archive(file: Path, members: Mapping[str, Path]) -> None:
    """Write files as one zip, whole or not at all, the same bytes for the same content.

    Args:
        file: The archive; its folder is made.
        members: Files by their path within it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(aside, "w") as archive:
            for name, path in members.items():
                # Weights hardly shrink and would only load more slowly.
                kind = zipfile.ZIP_DEFLATED if name.endswith(".json") else zipfile.ZIP_STORED
                archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), compress_type=kind)
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
