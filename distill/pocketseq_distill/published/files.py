"""Files of published data: found in a folder that the user names, or downloaded, and held to the content that was published."""

from __future__ import annotations

import gzip
import hashlib
import os
import urllib.request
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Final

from pocketseq.errors import DataError
from pocketseq.files import sha256

DATA_VARIABLE: Final = "POCKETSEQ_DATA"
"""Environment variable that names the folder of published data where no argument does."""

_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class DataFile:
    """One text file as it was published."""

    name: str
    """Name below the data folder, such as ``g2p_eng_us/eng_us_dev.tsv``; with ``.gz`` behind it the file may be compressed."""
    rows: int
    """Lines."""
    sha256: str
    """Digest of its content, uncompressed."""
    url: str | None = None
    """Where it is downloaded from; None where the source states no licence, so that getting it is the user's decision."""


def data_folder(given: Path | None) -> Path | None:
    """Folder of published data: what was given, else what ``POCKETSEQ_DATA`` names, else None.

    Raises:
        DataError: there is no such folder.
    """
    named = given or (Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None)
    if named is not None and not named.is_dir():
        raise DataError(f"{named}: expected the folder of published data, found none; name it by --data DIR or {DATA_VARIABLE}")
    return named


def read_lines(file: DataFile, folder: Path | None, *, origin: str, downloads: Path) -> list[str]:
    """Lines of a published file, without their line ends.

    Args:
        file: Which one.
        folder: The user's folder of published data, which holds it by its name or by its base name; None downloads it.
        origin: Where people get it, for the message.
        downloads: Where a downloaded file is kept.

    Raises:
        DataError: the file is missing, is not what was published, or cannot be downloaded.
    """
    path = _find(file, folder) if folder is not None else downloads / file.name
    if path is None:
        assert folder is not None
        raise DataError(f"{folder / file.name}: expected a file of published data, found none; {_remedy(file, origin)}")
    kept = folder is None and file.url is not None and path.is_file()
    if not path.is_file() or (kept and sha256(path) != file.sha256):  # what was damaged since it came is fetched again
        _download(file, path, origin)
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected a data file that can be read, found: {error}; {_remedy(file, origin)}") from None
    _check(content, file, path, origin)
    # Not splitlines: a line of code or of text may hold what Unicode counts as a line end.
    return content.decode("utf-8").removesuffix("\n").split("\n")


def _find(file: DataFile, folder: Path) -> Path | None:
    base = Path(file.name).name
    places = (folder / name for whole in (file.name, base) for name in (whole, f"{whole}.gz"))
    return next((place for place in places if place.is_file()), None)


def _check(content: bytes, file: DataFile, path: Path, origin: str) -> None:
    rows = content.count(b"\n") + (not content.endswith(b"\n") and bool(content))
    if rows != file.rows:
        raise DataError(f"{path}: expected {file.rows:,} rows as published, found {rows:,}; {_remedy(file, origin)}")
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise DataError(
            f"{path}: expected the published content with SHA-256 {file.sha256[:12]}…, found {found[:12]}…, "
            f"so results would not compare with the table; {_remedy(file, origin)}"
        )


def _remedy(file: DataFile, origin: str) -> str:
    leave = ", or leave --data out to download it" if file.url else ""
    return f"get it from {origin}{leave}"


def _download(file: DataFile, path: Path, origin: str) -> None:
    if file.url is None:
        raise DataError(
            f"{file.name}: expected a folder that holds it, found none named; its source states no licence to download it under: "
            f"get it from {origin} and name the folder by --data DIR or {DATA_VARIABLE}"
        )
    try:
        with urllib.request.urlopen(file.url, timeout=_TIMEOUT_S) as reply:  # noqa: S310 - the addresses are this module's own
            content: bytes = reply.read()
    except (OSError, HTTPException) as error:
        raise DataError(
            f"{file.name}: expected to download it from {file.url}, found: {error}; "
            f"get it from {origin} and name the folder by --data DIR or {DATA_VARIABLE}"
        ) from None
    _check(content, file, Path(file.name), origin)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    aside.write_bytes(content)
    aside.replace(path)
