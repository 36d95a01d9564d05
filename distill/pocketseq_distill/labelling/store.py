"""The file of labels: appended to, bound to its teacher, checked line by line, and mended where a line is damaged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, Self

from pocketseq.errors import DataError, LabellingError
from pocketseq.examples import Example
from pocketseq.files import append, digest, write_json, writing
from pocketseq.locking import take_lock
from pocketseq_distill.labelling.label import Label, source_digest

_FORMAT: Final = 1


class LabelFile:
    """A JSONL file of labels and its sidecar, ``*.meta.json``, which tells whose they are.

    Every line carries a digest of what it says, so that a damaged one is found and its row asked again, alone. Only one process at
    a time may append; on Windows nothing holds a second one off.
    """

    def __init__(self, path: Path) -> None:
        """Name a file, which need not exist."""
        self.path = path
        self._sidecar = path.with_suffix(".meta.json")

    @contextmanager
    def claimed(self, claim: Mapping[str, Any]) -> Iterator[Self]:
        """Open it for labels of one teacher and one way of asking, for this process alone.

        Raises:
            DataError: it holds labels of another teacher, made in another way, or of which nothing tells whose they are.
            LabellingError: another process appends to it, or it cannot be written.
        """
        wanted = {"format": _FORMAT, **claim}
        with self._alone():
            self.check(claim)
            try:
                if self.meta != wanted or not self.path.exists():
                    write_json(self._sidecar, wanted)
                    self.path.touch()
            except OSError as error:
                raise self._unwritable(error) from error
            yield self

    def check(self, claim: Mapping[str, Any]) -> None:
        """Refuse a file with labels of another teacher, or made in another way; one without any is nobody's.

        Raises:
            DataError: it holds such labels, or nothing tells whose they are.
        """
        if (found := self._other(claim)) is None:
            return
        ours, theirs = _unlike({"format": _FORMAT, **claim}, found)
        raise DataError(
            f"{self.path}: expected labels made with {ours}, found {theirs}; label into another file, "
            "or remove the file to label again"
        )

    @property
    def meta(self) -> dict[str, Any] | None:
        """Whose labels these are; None where nothing readable tells."""
        try:
            value = json.loads(self._sidecar.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    @property
    def teacher_id(self) -> str | None:
        """Fingerprint of the teacher whose labels these are; None where nothing tells."""
        return (self.meta or {}).get("teacher")

    def mend(self) -> int:
        """Take damaged lines out, and what a kill left of the last one; the rows are then asked again.

        Returns:
            How many whole lines were damaged.
        """
        content = self.path.read_bytes()
        *lines, torn = content.split(b"\n")
        good = [line for line in lines if isinstance(_label(line), Label)]
        if torn and len(good) == len(lines):
            with self.path.open("r+b") as file:
                file.truncate(len(content) - len(torn))
        elif len(good) < len(lines):
            try:
                with writing(self.path) as text:
                    text.write("".join(f"{line.decode()}\n" for line in good))
            except OSError as error:
                raise self._unwritable(error) from error
        return len(lines) - len(good)

    def append(self, labels: Sequence[Label]) -> None:
        """Write labels behind those that are there.

        Raises:
            LabellingError: the disk is full or fails; what was written of these labels is taken back.
        """
        try:
            append(self.path, "".join(_line(label) for label in labels).encode())
        except OSError as error:
            raise self._unwritable(error) from error

    def read(self, examples: Sequence[Example], *, damaged: Literal["refuse", "skip"] = "refuse") -> dict[str, Label]:
        """Read the labels of some rows, by id; labels of other rows are passed over, and damaged lines where that is said.

        Raises:
            DataError: a damaged line, or an answer to another input than the row with its id has.
        """
        sources = {example.id: source_digest(example) for example in examples}
        labels: dict[str, Label] = {}
        if not self.path.exists():
            return labels
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                label = _label(line)
                if isinstance(label, str):
                    if damaged == "skip":
                        continue
                    raise DataError(f"{self.path}:{number}: {label}; label again: only what is damaged is asked anew")
                if label.id not in sources:
                    continue
                if label.source != sources[label.id]:
                    raise DataError(
                        f"{self.path}:{number}: expected the answer to row {label.id!r} with the input {sources[label.id]}, "
                        f"found one to {label.source}; the data changed under the labels: remove the file and label again"
                    )
                labels[label.id] = label
        return labels

    def fit(self, claim: Mapping[str, Any]) -> list[str]:
        """Put labels with another claim aside under a name that tells it, lest what was paid for is lost; fetch those with this.

        Returns:
            What was renamed and why, in sentences for whoever is about to pay; none where nothing was.

        Raises:
            DataError: nothing tells whose the labels are, so that no name could.
            LabellingError: another process appends to them, or they cannot be renamed.
        """
        with self._alone():
            try:
                return self._fit(claim)
            except OSError as error:
                raise self._unwritable(error) from error

    def _fit(self, claim: Mapping[str, Any]) -> list[str]:
        wanted = {"format": _FORMAT, **claim}
        fitting, told = self._elsewhere(wanted), list[str]()
        if (found := self._other(claim)) is not None:
            ours, theirs = _unlike(wanted, found)
            aside = self._elsewhere(found)
            self._rename_to(aside, found)
            told.append(
                f"{self.path}: its labels are of another teacher or other settings, made with {theirs}, not {ours}; they are "
                f"kept as {aside.path}, and come back with what made them"
            )
        if not self._holds_any and fitting.path.exists():
            fitting._rename_to(self, wanted)
            told.append(f"{self.path}: labels that were made with this teacher and these settings are back, from {fitting.path}")
        return told

    @property
    def _holds_any(self) -> bool:
        return self.path.exists() and self.path.stat().st_size > 0

    def _other(self, claim: Mapping[str, Any]) -> dict[str, Any] | None:
        """Whose labels there are where they are not of this claim; None where they are, or there are none."""
        found = self.meta
        if found == {"format": _FORMAT, **claim} or not self._holds_any:
            return None
        if found is None:
            raise DataError(
                f"{self._sidecar}: expected whose labels {self.path} holds, found nothing that can be read; put it back, "
                "label into another file, or remove the labels to label again"
            )
        return found

    def _elsewhere(self, meta: Mapping[str, Any]) -> LabelFile:
        return LabelFile(self.path.with_name(f"{self.path.stem}.{digest(meta)}{self.path.suffix}"))

    def _rename_to(self, other: LabelFile, meta: Mapping[str, Any]) -> None:
        """Give labels another name, and until they have it their sidecar both: a kill may come between any two steps."""
        write_json(other._sidecar, meta)
        self.path.replace(other.path)
        self._sidecar.unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> LabellingError:
        return LabellingError(
            f"{self.path}: expected a place that can be written, found: {error}; "
            "the labels so far are whole: make room, and the same call goes on"
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            held = take_lock(self.path, wait=False)
        except BlockingIOError:
            raise LabellingError(
                f"{self.path}: expected a file that nobody else labels into, found another process at work; wait for it, "
                "or let one process have several workers"
            ) from None
        except OSError as error:
            raise self._unwritable(error) from error
        with held:
            yield


def _unlike(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What two claims do not share, on either side."""
    names = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    return {name: wanted.get(name) for name in names}, {name: found.get(name) for name in names}


def _line(label: Label) -> str:
    value = label.to_json()
    return json.dumps({**value, "check": digest(value)}, ensure_ascii=False) + "\n"


def _label(line: bytes) -> Label | str:
    """Read a line, or say what is wrong with it."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"expected one JSON object a line: {error}"
    if not isinstance(value, dict):
        return f"expected a JSON object, found {type(value).__name__}"
    try:
        check, found = value.pop("check", None), digest(value)
        if check not in (found, None):  # absent in labels of older versions
            return f"expected a label with the digest {check}, found {found}: the line is damaged"
        return Label.from_json(value)
    except (TypeError, UnicodeEncodeError, RecursionError) as error:  # JSON can name half a character, which no file can hold
        return f"expected a label: {error}"
