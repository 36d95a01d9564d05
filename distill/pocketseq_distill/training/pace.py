"""Pace: what an update costs with distributions computed beforehand, against asking the teacher as the batches come.

    python -m pocketseq_distill.training.pace TEACHER ROWS.jsonl -o pace.json --recipe RECIPE

Updates of both kinds take turns on the same batches and the same student, so that what disturbs the machine disturbs both.
"""

from __future__ import annotations

import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from pocketseq.calibration.measures import Interval
from pocketseq.files import write_json
from pocketseq.pipeline import Recipe
from pocketseq_distill.checkpoints import checkpoint_fingerprint, find_teacher
from pocketseq_distill.commands.data import add_data_arguments, read_data
from pocketseq_distill.console import quiet_transformers
from pocketseq_distill.distil import hardware
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.labelling.distributions import teacher_distributions
from pocketseq_distill.losses.lesson import Lesson
from pocketseq_distill.losses.terms import IGNORED
from pocketseq_distill.rows import TokenRows, tokenize
from pocketseq_distill.special_ids import SpecialIds
from pocketseq_distill.students.settings import StudentSettings
from pocketseq_distill.students.student import student_of
from pocketseq_distill.training.batches import Collate, GroupedOrder, parts_of
from pocketseq_distill.training.dropout import ByteDropout
from pocketseq_distill.training.optimizers import Muon
from pocketseq_distill.training.plan import TrainingPlan

_WARM_UP: Final = 3
"""Updates of each kind that are not counted."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What updates cost."""

    cached_ms: tuple[float, ...]
    """Processor time of each update on distributions computed beforehand."""
    online_ms: tuple[float, ...]
    """The same of the update on the same batch that asked the teacher."""
    ratio: Interval
    """Median over the pairs of the first over the second, with the range of 95% of the bootstrap resamplings of pairs. Batches
    differ several times over in size, so that medians of either alone would tell of unlike ones."""

    @classmethod
    def of(cls, cached_ms: Sequence[float], online_ms: Sequence[float]) -> Pace:
        """Compare the times of pairs of updates."""
        ratios = np.array(cached_ms) / np.array(online_ms)
        draws = np.random.default_rng(0).integers(0, len(ratios), (1000, len(ratios)))
        low, high = np.quantile(np.median(ratios[draws], axis=1), (0.025, 0.975))
        return cls(tuple(cached_ms), tuple(online_ms), Interval(float(np.median(ratios)), float(low), float(high)))


def measure_pace(teacher: TeacherModel, rows: TokenRows, plan: TrainingPlan, student: StudentSettings, *, updates: int) -> Pace:
    """Make updates of both kinds in turns.

    Args:
        teacher: The teacher.
        rows: What is learnt, with the teacher's distributions.
        plan: Batch, losses, optimiser and precision.
        student: Which layers or shape the student has.
        updates: Of each kind.
    """
    model = student_of(teacher.model, student, rows).train()
    optimizer = (
        Muon(model, learning_rate=1e-5) if plan.optimizer == "muon" else torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    )
    lessons = {
        "cached": Lesson(model, plan, teacher=None, layers=None, device=model.device),
        "online": Lesson(model, replace(plan, top_k=None), teacher=teacher.model, layers=None, device=model.device),
    }
    collate = Collate.of(model)
    order = list(GroupedOrder(rows.extents, update_rows=plan.batch_size, seed=0, whole=True))
    spent: dict[str, list[float]] = {"cached": [], "online": []}
    for update in range(_WARM_UP + updates):
        begin = update * plan.batch_size % len(order)
        batch = rows.take(order[begin : begin + plan.batch_size])
        for kind in ("cached", "online") if update % 2 else ("online", "cached"):
            begun = time.process_time()
            inputs = collate(batch)
            if kind == "online":
                del inputs["top_ids"], inputs["top_logprobs"]
            items = (inputs["labels"] != IGNORED).sum()
            for part in [inputs] if plan.tokens_at_once is None else parts_of(inputs, plan.tokens_at_once):
                with ByteDropout(), lessons[kind].precision():
                    loss = lessons[kind].loss(model, part, step=update, rate=1e-5, items=items)
                loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if update >= _WARM_UP:
                spent[kind].append(round(1000 * (time.process_time() - begun), 2))
    return Pace.of(spent["cached"], spent["online"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write and print."""
    args = _parse(arguments)
    path = find_teacher(args.teacher)
    recipe = Recipe.read(args.recipe)
    teacher = TeacherModel.load(path)
    card = teacher.card
    special = SpecialIds.of(teacher.model)
    plan = replace(recipe.settings("train", TrainingPlan), top_k=args.top_k)
    data = read_data(args, card.template)
    # As many as the updates take, from all over the data.
    chosen = data[:: max(len(data) // ((_WARM_UP + args.updates) * plan.batch_size), 1)]
    longest = card.max_new_tokens
    rows = tokenize(chosen, card.template, teacher.tokenizer, end_id=special.end, max_target_tokens=longest, given=special.given)
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        found = teacher_distributions(
            rows.rows,
            lambda: teacher.model,
            Path(folder),
            teacher_id=checkpoint_fingerprint(path),
            top_k=args.top_k,
            bf16=plan.bf16,
        )
        student = recipe.settings("student", StudentSettings)
        pace = measure_pace(teacher, replace(rows.rows, distributions=found), plan, student, updates=args.updates)
    document: dict[str, Any] = {
        "teacher": path.name,
        "recipe": recipe.name,
        "student": asdict(student),
        "batch_size": plan.batch_size,
        "top_k": args.top_k,
        "note": args.note,
        **hardware(bf16=plan.bf16),
        **asdict(pace),
    }
    write_json(args.output, document)
    ratio = pace.ratio
    share = f"{ratio.value:.1%} [{ratio.low:.1%}, {ratio.high:.1%}]"
    print(f"an update on cached distributions costs {share} of one that asks the teacher")
    return 0


def _parse(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(
        prog="python -m pocketseq_distill.training.pace", description="what an update costs with and without the teacher"
    )
    parser.add_argument("teacher", metavar="TEACHER", help="a directory, the name of a shipped teacher, or a hub id")
    add_data_arguments(parser)
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the result, as JSON")
    parser.add_argument("--recipe", metavar="RECIPE", required=True, help="a recipe whose tables [student] and [train] hold")
    parser.add_argument("--updates", metavar="N", type=int, default=30, help="updates of each kind (default: 30)")
    parser.add_argument("--top-k", metavar="N", type=int, default=32, help="tokens kept at every position (default: 32)")
    parser.add_argument("--note", metavar="TEXT", default="", help="what to say of the machine in the result")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
