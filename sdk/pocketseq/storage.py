"""Where a bundle's files lie: a folder, or a repository of a model hub; an archive is in a module of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from pocketseq.errors import BundleCorruptError, BundleNotFoundError

MANIFEST: Final = "manifest.json"


class Storage(Protocol):
    """Gives a bundle's files as files on disk."""

    @property
    def place(self) -> Path | None:
        """The bundle's own directory or file, beside which something may be kept; None where nothing may."""

    @property
    def unpacked(self) -> object:
        """What must be held for as long as the files are read; None where they stay anyway."""

    def path(self, name: str, *, longest_bytes: int) -> Path:
        """Path on disk of one file of the bundle.

        Args:
            name: Path within the bundle.
            longest_bytes: A longer file is not unpacked.

        Raises:
            BundleCorruptError: the file is not there, is damaged, or would unpack to more than it may.
            BundleError: there is no room to unpack it.
        """

    def close(self) -> None:
        """Remove what was put on disk only for this process, as soon as nobody holds ``unpacked``."""


class Folder:
    """A bundle as a directory."""

    def __init__(self, root: Path, *, packaged: bool = False) -> None:
        """Name the folder.

        Args:
            root: The folder.
            packaged: Whether it belongs to this package.
        """
        self._root, self._packaged = root, packaged

    @property
    def place(self) -> Path | None:
        """The folder, unless it belongs to this package."""
        return None if self._packaged else self._root.absolute()

    @property
    def unpacked(self) -> None:
        """Nothing is."""

    def path(self, name: str, *, longest_bytes: int) -> Path:  # noqa: ARG002 nothing is unpacked
        """Path of one file under the folder."""
        path = self._root / name
        if not path.is_file():
            raise BundleCorruptError(
                f"{self._root}: expected the file {name!r}, found none; the bundle is incomplete, fetch it again"
            )
        return path

    def close(self) -> None:
        """Nothing to remove."""


class HubRepository:
    """A bundle as a repository on the Hugging Face hub; one revision, files fetched when they are asked for."""

    def __init__(self, repository: str) -> None:
        """Fetch the manifest, which fixes the revision.

        Args:
            repository: ``org/name``, with ``@revision`` behind it where not the newest is meant.

        Raises:
            BundleNotFoundError: no such repository, no manifest in it, or no way to reach it.
        """
        try:
            import huggingface_hub
        except ImportError:
            raise BundleNotFoundError(
                f"hf://{repository}: fetching from the hub needs the module 'huggingface_hub', which is not installed; "
                "mend it with: pip install huggingface_hub"
            ) from None
        self._hub = huggingface_hub
        self._repository, _, revision = repository.partition("@")
        self._revision: str | None = revision or None
        snapshot = self._fetch(MANIFEST).parent
        self._revision = snapshot.name

    @property
    def place(self) -> None:
        """Its folder is the hub's."""

    @property
    def unpacked(self) -> None:
        """Nothing is."""

    def path(self, name: str, *, longest_bytes: int) -> Path:  # noqa: ARG002 nothing is unpacked
        """Fetch one file, unless the hub's cache holds it."""
        return self._fetch(name)

    def close(self) -> None:
        """Nothing to remove: the cache is the hub's."""

    def _fetch(self, name: str) -> Path:
        try:
            return Path(self._hub.hf_hub_download(self._repository, name, revision=self._revision))
        except (OSError, ValueError, self._hub.errors.HfHubHTTPError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise BundleNotFoundError(
                f"hf://{self._repository}: expected the file {name!r} of a bundle, found {type(error).__name__}: {reason}; "
                "check the name and the connection, or download it and give the path"
            ) from error
