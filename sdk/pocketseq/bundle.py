"""Bundles: the artifact that ships, opened from a folder, a zip, the package itself or a model hub, and verified by hash."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from pocketseq.errors import BundleCorruptError, BundleError, BundleFormatError, BundleNotFoundError
from pocketseq.files import sha256, write_json
from pocketseq.manifest import BundleFile, Manifest
from pocketseq.storage import MANIFEST, Folder, HubRepository, Storage

SUFFIX: Final = ".pocketseq"
"""Ending of a bundle in one file."""

_PACKAGED: Final = Path(__file__).parent / "bundles"
_HUB: Final = "hf://"
_LONGEST_MANIFEST_BYTES: Final = 16 << 20
_WHOLE: Final = (
    "; the package carries this one alone, and a checkout of the source has those for other runtimes: "
    "pocketseq pack export/pocketseq_export/bundles/{name} -o {name}.pocketseq"
)


class Files(dict[str, Path]):
    """Verified paths on disk, by path within the bundle; what was unpacked stays for as long as anyone holds them."""

    def __init__(self, paths: Mapping[str, Path], *, unpacked: object) -> None:
        """Hold the files.

        Args:
            paths: By path within the bundle.
            unpacked: ``Storage.unpacked``.
        """
        super().__init__(paths)
        self._unpacked = unpacked


class Bundle:
    """A bundle whose manifest was read and whose files are verified before anything else reads them; safe to share."""

    def __init__(self, storage: Storage, *, source: str) -> None:
        """Read the manifest.

        Args:
            storage: Where the files lie.
            source: Name for messages.

        Raises:
            BundleFormatError: of a newer format, or no manifest.
            BundleCorruptError: no manifest at all, or a path in it that leads outside.
        """
        self.source = source
        """What was opened, for messages."""
        self._storage = storage
        self._lock = threading.Lock()
        self._verified: dict[BundleFile, Path] = {}
        self.manifest = _read_manifest(storage.path(MANIFEST, longest_bytes=_LONGEST_MANIFEST_BYTES), f"{source}: {MANIFEST}")
        """What the bundle holds."""

    def path(self, file: BundleFile) -> Path:
        """Path on disk of one file, which has the size and the hash that the manifest gives.

        Raises:
            BundleCorruptError: missing, truncated or changed.
            BundleError: it cannot be read, or there is no room to unpack it.
        """
        with self._lock:
            if file not in self._verified:
                path = self._storage.path(file.path, longest_bytes=file.size_bytes)
                _verify(path, file, self.source)
                self._verified[file] = path
            return self._verified[file]

    def paths(self, files: Iterable[BundleFile]) -> Files:
        """Verified paths on disk, by path within the bundle; see ``path``."""
        unpacked = self._storage.unpacked
        return Files({file.path: self.path(file) for file in files}, unpacked=unpacked)

    @property
    def place(self) -> Path | None:
        """The bundle's own directory or file, beside which something may be kept; None inside this package and on a model hub."""
        return self._storage.place

    @property
    def elsewhere(self) -> str:
        """Where variants that this bundle lacks can be had, as the end of a message; empty unless it belongs to this package."""
        return _WHOLE.format(name=self.source) if self.place is None and self.source in packaged_bundles() else ""

    def close(self) -> None:
        """Remove what was unpacked for this process, as soon as nobody holds its ``paths`` any more."""
        self._storage.close()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_bundle(source: str | Path) -> Bundle:
    """Open a bundle and read its manifest.

    Args:
        source: A directory or ``.pocketseq`` file, the name of a bundle in the package such as ``python-fix``, or
            ``hf://org/name`` with ``@revision`` where not the newest is meant. A packaged name goes before a directory of the
            same name; ``./name`` means the directory.

    Raises:
        BundleNotFoundError: nothing there.
        BundleFormatError: of a newer format, or no manifest.
        BundleCorruptError: truncated, incomplete, or with paths that lead outside.
        BundleError: it cannot be read, or there is no room to unpack it.
    """
    return Bundle(_storage(source), source=str(source))


def packaged_bundles() -> tuple[str, ...]:
    """Names of the bundles that ship inside the package."""
    return tuple(sorted(manifest.parent.name for manifest in _PACKAGED.glob(f"*/{MANIFEST}")))


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write or replace the manifest of a bundle directory, whole or not at all.

    Raises:
        BundleError: the system refuses to write, for want of space or of permission.
    """
    try:
        write_json(directory / MANIFEST, manifest.to_json())
    except OSError as error:
        raise BundleError(
            f"{directory / MANIFEST}: expected a place that can be written, found: {error}; nothing was changed there, make room "
            "and run the command again"
        ) from error


def pack(directory: Path, file: Path) -> None:
    """Write a bundle directory as one file, the same bytes for the same content; only what the manifest names goes in.

    Raises:
        BundleError: the directory is no bundle, or a file in it is not as the manifest says.
    """
    with open_bundle(Path(directory)) as bundle:
        listed = {file.path: file for variant in bundle.manifest.variants for file in variant.files}
        tokenizer = bundle.manifest.tokenizer
        members = bundle.paths([tokenizer, *(listed[path] for path in sorted(listed))])
    from pocketseq.archive import write_archive

    write_archive(file, {MANIFEST: directory / MANIFEST, **members})


def _storage(source: str | Path) -> Storage:
    if isinstance(source, str):
        if source.startswith(_HUB):
            return HubRepository(source.removeprefix(_HUB))
        if source in packaged_bundles():
            return Folder(_PACKAGED / source, packaged=True)
    path, found = Path(source), "nothing"
    try:
        if path.is_dir():
            if not (path / MANIFEST).is_file():
                raise BundleNotFoundError(
                    f"{path}: expected a bundle with a {MANIFEST}, found a directory without; export one into it"
                )
            return Folder(path)
        if path.is_file():
            from pocketseq.archive import Archive

            return Archive(path)
    except OSError as error:  # such as a name that is too long, or a folder that may not be entered
        found = str(error.strerror)
    there = ", ".join(packaged_bundles()) or "none"
    raise BundleNotFoundError(
        f"expected a bundle at {str(source)!r:.200}, found {found}; give a path, {_HUB}org/name, or a packaged name ({there})"
    )


def _read_manifest(path: Path, where: str) -> Manifest:
    try:
        size_bytes = path.stat().st_size
        if size_bytes > _LONGEST_MANIFEST_BYTES:
            raise BundleFormatError(f"{where}: expected a manifest of a few kB, found {size_bytes} bytes; this is no bundle")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise _unreadable(where, error) from error
    except (ValueError, RecursionError) as error:
        raise BundleFormatError(f"{where}: expected JSON, found {error}; the file is damaged, fetch the bundle again") from None
    return Manifest.from_json(value, where=where)


def _verify(path: Path, file: BundleFile, source: str) -> None:
    try:
        size_bytes = path.stat().st_size
        found = sha256(path) if size_bytes == file.size_bytes else ""
    except OSError as error:
        raise _unreadable(f"{source}: {file.path}", error) from error
    if size_bytes != file.size_bytes:
        raise BundleCorruptError(
            f"{source}: {file.path}: expected {file.size_bytes} bytes, found {size_bytes}; it is not whole, fetch the bundle again"
        )
    if found != file.sha256:
        raise BundleCorruptError(
            f"{source}: {file.path}: expected sha256 {file.sha256}, found {found}; it was changed, fetch the bundle again"
        )


def _unreadable(where: str, error: OSError) -> BundleError:
    return BundleError(f"{where}: expected a file that can be read, found: {error.strerror}; mend its permissions or its disk")
