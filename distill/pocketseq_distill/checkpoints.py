"""Checkpoints: ordinary Hugging Face directories with a card beside the weights, found by name, written whole or not at all.

Nothing heavy is imported to find one or to tell whether it has changed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import CheckpointError
from pocketseq.files import digest, sha256
from pocketseq_distill.special_ids import said_beside_configuration

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHIPPED: Final = Path(__file__).parent / "teachers"
"""Folder of the teachers that a source checkout carries; a wheel is built without them."""
TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "target.spm",
)
"""Files in which the supported families keep a tokenizer; a checkpoint has some of them."""

Average: TypeAlias = Literal["probabilities", "log_probabilities"]
"""Of what an ensemble takes the average: ``probabilities`` lets each member add what it alone sees; ``log_probabilities``,
normalised again, lets each member veto."""

ENSEMBLE: Final = "ensemble.json"
"""File that names the members of an ensemble."""
ENSEMBLE_FORMAT: Final = 1

_LEFT_BEHIND: Final = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.py", "*.msgpack", "*.h5", ".*")
_LIBRARIES: Final = ("pocketseq", "torch", "transformers", "tokenizers", "accelerate", "numpy")


def find_teacher(name: str) -> Path:
    """Directory of a teacher that exists: shipped, on disk, or on the hub, from which it is then downloaded.

    Raises:
        CheckpointError: there is none of that name.
    """
    for path in (Path(name), SHIPPED / name):
        if (path / "config.json").is_file():
            return path
    shipped = sorted(path.name for path in SHIPPED.glob("*/")) if SHIPPED.is_dir() else []
    wanted = f"expected a directory with a config.json, a hub id, or one of the shipped teachers {shipped}, found {name!r}"
    if name.count("/") != 1:
        raise CheckpointError(wanted if shipped else f"{wanted}; shipped teachers come with a source checkout, not with the wheel")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.spm"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(f"{wanted}; the hub said: {error}") from error


def save_checkpoint(model: PreTrainedModel, path: Path, *, card: CheckpointCard, tokenizer: Path) -> None:
    """Write a checkpoint; one that is there already is replaced when the new one is complete.

    Args:
        model: The trained model.
        path: The directory to be.
        card: What ``distillation.json`` says; the versions of the libraries are filled in.
        tokenizer: Directory whose tokenizer the model was trained with.

    Raises:
        CheckpointError: there is no tokenizer to go with the model, or no room on the disk.
    """
    from pocketseq_distill.console import quiet_transformers

    names = [name for name in TOKENIZER_FILES if (tokenizer / name).is_file()]
    if not names:
        raise CheckpointError(f"{tokenizer}: expected the tokenizer of the model, found none of {list(TOKENIZER_FILES)}")
    with directory_to_write(path) as aside:
        with quiet_transformers():
            model.save_pretrained(aside)
        for name in names:
            shutil.copyfile(tokenizer / name, aside / name)
        replace(card, versions=library_versions()).write(aside)


def copy_checkpoint(source: Path, output: Path) -> None:
    """Copy what this project reads of a checkpoint: no pickled weights, no code, nothing hidden, and of folders only its members.

    Args:
        source: Its directory.
        output: A directory that is not there yet.

    Raises:
        CheckpointError: a damaged ``ensemble.json``.
    """
    for folder in _folders(source):
        copy = output / folder.relative_to(source)
        copy.mkdir(parents=True)
        for file in folder.glob("*"):
            if file.is_file() and not any(file.match(pattern) for pattern in _LEFT_BEHIND):
                shutil.copy2(file, copy / file.name)


@contextmanager
def directory_to_write(path: Path) -> Iterator[Path]:
    """A place aside for a directory to be, which is complete or absent: it takes its place when the block ends well.

    Raises:
        CheckpointError: no room on the disk; what was there before is kept.
    """
    # By the same names each time, so that what a kill leaves goes with the next call.
    aside, older = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if older.exists() and not path.exists():
        older.rename(path)  # the kill came between the two renames
    shutil.rmtree(older, ignore_errors=True)
    try:
        with place_to_write(path):
            yield aside
            if path.exists():
                path.rename(older)
            aside.rename(path)
            shutil.rmtree(older, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def place_to_write(path: Path) -> Iterator[None]:
    """Turn what the system says of a place that cannot be written, such as a full disk, into an error that says what to do.

    Args:
        path: What the block writes, so that calling it again is enough once there is room.

    Raises:
        CheckpointError: in the place of what the system said.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: expected a place that can be written, found: {error}; make room, and the same call goes on"
        ) from error


def checkpoint_fingerprint(path: Path) -> str:
    """Digest of what decides a checkpoint's answers: weights, configuration, special ids, tokenizer and template.

    Raises:
        CheckpointError: no checkpoint, or a damaged ``generation_config.json`` or ``ensemble.json``.
    """
    card = CheckpointCard.read(path)
    names = ["config.json", *TOKENIZER_FILES, ENSEMBLE, *(file.relative_to(path).as_posix() for file in _weights(path))]
    hashes = {name: sha256(path / name) for name in names if (path / name).is_file()}
    for folder in _folders(path)[1:]:
        configuration = folder / "config.json"
        # Vocabulary and special ids are the first's, or it could not be loaded; and so is mostly all of this.
        if configuration.is_file() and (found := sha256(configuration)) != hashes["config.json"]:
            hashes[configuration.relative_to(path).as_posix()] = found
    decides = {"files": hashes, "template": card.template.to_json(), "max_new_tokens": card.max_new_tokens}
    if beside := said_beside_configuration(path):
        decides["special_ids"] = beside
    return digest(decides)


def weights_size_bytes(path: Path) -> int:
    """Size of a checkpoint's weights on disk, those of all members of an ensemble.

    Raises:
        CheckpointError: a damaged ``ensemble.json``.
    """
    return sum(file.stat().st_size for file in _weights(path))


@dataclass(frozen=True, slots=True)
class EnsembleMembers:
    """What ``ensemble.json`` tells."""

    average: Average
    """How the members are averaged."""
    others: tuple[Path, ...]
    """Checkpoints of the members beside the first, which is the directory itself."""


def read_ensemble(path: Path) -> EnsembleMembers | None:
    """What a directory tells of its members; None where it is no ensemble.

    Raises:
        CheckpointError: a damaged ``ensemble.json``.
    """
    try:
        value = json.loads((path / ENSEMBLE).read_text(encoding="utf-8"))
        if value["format"] != ENSEMBLE_FORMAT or value["average"] not in ("probabilities", "log_probabilities"):
            raise ValueError(f"format {value['format']!r} and average {value['average']!r}")
        if strange := [name for name in value["members"] if Path(name).is_absolute() or ".." in Path(name).parts]:
            raise ValueError(f"members outside of it: {strange}")
        return EnsembleMembers(value["average"], tuple(path / name for name in value["members"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path / ENSEMBLE}: expected the members of an ensemble, found: {error}; write it again") from None


def _folders(path: Path) -> list[Path]:
    """A checkpoint's own folder and those of its other members; what else lies below, such as another tool's state, is not its."""
    ensemble = read_ensemble(path)
    return [path, *(ensemble.others if ensemble else ())]


def _weights(path: Path) -> list[Path]:
    return [file for folder in _folders(path) for file in folder.glob("*.safetensors")]


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide what a training gives, Python's among them."""
    found = {"python": python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a source tree that is not installed
            continue
    return found
