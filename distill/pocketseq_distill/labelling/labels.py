"""Labels: what a teacher answers to every row, appended to a file that survives a kill at any moment."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm  # type: ignore[import-untyped]

from pocketseq.errors import BudgetSpentError, DataError, RecipeError, TeacherError
from pocketseq.examples import Example
from pocketseq_distill.labelling.label import Label, LabelSettings, OtherAnswer, source_digest
from pocketseq_distill.labelling.labeller import Labeller, Missed, Outcome
from pocketseq_distill.labelling.reverse import ReverseModel
from pocketseq_distill.labelling.store import LabelFile
from pocketseq_distill.labelling.teacher import Teacher

__all__ = [
    "Label",
    "LabelSettings",
    "Labelled",
    "OtherAnswer",
    "fitting_file",
    "label_rows",
    "read_labels",
    "source_digest",
    "unlabelled",
]

_BATCHES_A_PIECE: Final = 8
_SAMPLES: Final = 5


@dataclass(slots=True)
class Labelled:
    """What came of a labelling, counted, with samples to look at."""

    now: int = 0
    """Rows that were labelled by this call."""
    total: int = 0
    """Rows that have labels now, of those that were wanted."""
    missed: int = 0
    """Rows that this call asked about in vain; the next call asks them again."""
    damaged: int = 0
    """Lines of an earlier call that were found damaged, and whose rows were asked again."""
    odd: Counter[str] = field(default_factory=Counter)
    """Rows without a whole answer, by what is wrong. ``refused``, ``empty`` and ``cut``, which the filters leave out, and ``fewer``
    where not all answers came that were asked for, are labels all the same, and counted over all labels of the wanted rows,
    whichever call they come from; the others (``labelling.teacher.Failure``) are the rows that this call missed."""
    samples: defaultdict[str, list[dict[str, str]]] = field(default_factory=lambda: defaultdict(list))
    """A few of these rows: id, and what the teacher said."""

    def to_json(self) -> dict[str, Any]:
        """Counts and samples as plain JSON values."""
        return {
            "now": self.now,
            "total": self.total,
            "missed": self.missed,
            "damaged": self.damaged,
            "odd": dict(self.odd),
            "samples": dict(self.samples),
        }

    def __str__(self) -> str:
        odd = ", ".join(f"{count} {name}" for name, count in self.odd.items())
        damaged = f"; {self.damaged} damaged lines were asked again" if self.damaged else ""
        return f"{self.now} rows labelled now, {self.total} in all{f' ({odd})' if odd else ''}{damaged}"

    def count(self, outcome: Outcome) -> None:
        """Count what came of a row that was asked."""
        if isinstance(outcome, Missed):
            self.missed += 1
            self._note(outcome.failure, outcome.id, outcome.why)
        else:
            self.now += 1
            self.hold(outcome)

    def hold(self, label: Label) -> None:
        """Count a label that the file holds."""
        self.total += 1
        if label.finish_reason == "refused":
            self._note("refused", label.id, "")
        elif not label.text.strip():
            self._note("empty", label.id, label.text)
        elif label.finish_reason == "length":
            self._note("cut", label.id, label.text)
        if label.fewer is not None:
            self._note("fewer", label.id, label.fewer)

    def _note(self, name: str, row: str, why: str) -> None:
        self.odd[name] += 1
        if len(self.samples[name]) < _SAMPLES:
            self.samples[name].append({"id": row, "why": why})


def label_rows(
    examples: Sequence[Example], teacher: Teacher, path: Path, settings: LabelSettings, *, source_field: str = ""
) -> Labelled:
    """Append a teacher's answers to a file; rows that are in it already are not asked again.

    Args:
        examples: The rows.
        teacher: Answers them.
        path: A JSONL file; a sidecar beside it, ``*.meta.json``, tells whose labels these are.
        settings: How to label.
        source_field: Field that a reverse model gives back; the first one if not given.

    Returns:
        What came of it.

    Raises:
        DataError: two inputs under one id, or a file that holds another teacher's labels or an answer to another input.
        RecipeError: the nearest to the references is to be chosen, and there are none.
        TeacherError: the teacher gave what is no answer.
        LabellingError: the file cannot be written or is in use, or a worker died.
        BudgetSpentError: an endpoint's budget is spent; what was labelled is kept.
        EndpointError: an endpoint failed so often that it was left alone; what was labelled is kept.
    """
    _require_references(examples, settings)
    wanted = examples[: settings.rows]
    unlike = {example.id: example for example in wanted}
    for example in wanted:
        if source_digest(unlike[example.id]) != source_digest(example):
            raise DataError(f"expected rows of one id to have one input, found two inputs under the id {example.id!r}")
    labeller = Labeller(teacher, settings, _reverse(settings), source_field)
    with LabelFile(path).claimed(_claim(teacher, settings, labeller.reverse)) as file:
        report = Labelled(damaged=file.mend())
        done = file.read(wanted)
        for label in done.values():
            report.hold(label)
        missing = [example for example in unlike.values() if example.id not in done]
        full = ""
        with closing(teacher), closing(_outcomes(missing, labeller)) as found, _bar(len(unlike), report.total) as bar:
            for outcomes in found:
                file.append([outcome for outcome in outcomes if isinstance(outcome, Label)])
                for outcome in outcomes:
                    report.count(outcome)
                    full = outcome.why if isinstance(outcome, Missed) and outcome.failure == "budget" else full
                bar.update(sum(isinstance(outcome, Label) for outcome in outcomes))
    if report.odd["budget"]:
        raise BudgetSpentError(f"{path}: the budget is spent ({full}): {report}; raise it, and the same call goes on from here")
    return report


def read_labels(path: Path, examples: Sequence[Example], *, teacher_id: str | None = None) -> dict[str, Label]:
    """Read the labels of some rows.

    Args:
        path: What ``label_rows`` wrote.
        examples: The rows; labels of others are passed over.
        teacher_id: Fingerprint of the teacher whose labels they must be; anybody's if not given.

    Returns:
        Labels by id of the row.

    Raises:
        DataError: no file, a damaged line, an answer to another input than the row with its id has, or another teacher's labels.
    """
    file = LabelFile(path)
    if not path.is_file():
        raise DataError(f"{path}: expected a file of labels, found none; label the rows first")
    if teacher_id is not None and file.teacher_id != teacher_id:
        raise DataError(
            f"{path}: expected labels of the teacher {teacher_id}, whose distribution is learnt from too, found labels of "
            f"{file.teacher_id}; label with this teacher, or learn from the labels alone (divergence = 0)"
        )
    return file.read(examples)


def unlabelled(examples: Sequence[Example], path: Path, teacher: Teacher, settings: LabelSettings) -> list[Example]:
    """The rows that a labelling would ask about, those of damaged lines among them; nothing is changed.

    Raises:
        DataError: what ``label_rows`` would refuse: another teacher's labels, or an answer to another input.
        RecipeError: see ``label_rows``.
    """
    _require_references(examples, settings)
    wanted = {example.id: example for example in examples[: settings.rows]}
    file = LabelFile(path)
    file.check(_claim(teacher, settings, _reverse(settings)))
    done = file.read(list(wanted.values()), damaged="skip")
    return [example for example in wanted.values() if example.id not in done]


def fitting_file(path: Path, teacher: Teacher, settings: LabelSettings) -> list[str]:
    """Put labels of another teacher, or made in another way, aside under a name of their own, and those that fit back in place.

    Returns:
        What was renamed and why, in sentences; none where nothing was.

    Raises:
        DataError: nothing tells whose labels there are.
        LabellingError: another process labels into the file, or they cannot be renamed.
    """
    return LabelFile(path).fit(_claim(teacher, settings, _reverse(settings)))


def _require_references(examples: Sequence[Example], settings: LabelSettings) -> None:
    """Refuse to choose by references that no row has; where some rows have one, an empty one is a true answer like any other."""
    chooses = settings.candidates > 1 and settings.choose in ("nearest", "nearest_bleu")
    if chooses and examples and not any(example.target for example in examples):
        raise RecipeError(
            f"[label]: expected references to choose the nearest of {settings.candidates} answers by, found {len(examples)} rows "
            'without; choose = "likeliest" needs none, nor does "reverse" with a reverse model'
        )


def _claim(teacher: Teacher, settings: LabelSettings, reverse: ReverseModel | None) -> dict[str, Any]:
    return settings.claim(teacher.id, None if reverse is None else reverse.id)


def _reverse(settings: LabelSettings) -> ReverseModel | None:
    if settings.reverse is None:
        return None
    from pocketseq_distill.checkpoints import find_teacher

    return ReverseModel(find_teacher(settings.reverse))


def _outcomes(missing: Sequence[Example], labeller: Labeller) -> Generator[list[Outcome], None, None]:
    """Label rows one piece after the other, or side by side."""
    settings = labeller.settings
    # The teacher sorts what it is given by length: eight batches at a time pad little, and a kill costs little.
    rows = settings.batch_size * _BATCHES_A_PIECE
    shared = settings.processes > 1 or settings.ray_workers > 0
    if labeller.teacher.concurrency:
        from pocketseq_distill.labelling.threads import label_in_threads

        if shared:
            raise TeacherError(
                f"expected a teacher that computes here for processes = {settings.processes} and ray_workers = "
                f"{settings.ray_workers}, found one that is asked by threads; raise its concurrency instead"
            )
        yield from label_in_threads(missing, labeller, labeller.teacher.concurrency)
        return
    if shared:
        rows = max(1, min(rows, -(-len(missing) // (max(settings.processes, settings.ray_workers) * 2))))
    pieces = [missing[begin : begin + rows] for begin in range(0, len(missing), rows)]
    if not pieces:
        return
    if settings.ray_workers:
        from pocketseq_distill.labelling.cluster import label_on_ray

        yield from label_on_ray(pieces, labeller, settings.ray_workers)
    elif settings.processes > 1:
        from pocketseq_distill.labelling.workers import label_in_processes

        yield from label_in_processes(pieces, labeller, settings.processes)
    else:
        yield from map(labeller, pieces)


def _bar(total: int, done: int) -> Any:
    return tqdm(total=total, initial=done, desc="label", unit="row", dynamic_ncols=True, mininterval=1.0)
