"""Hidden states and attention of the layers that stand in for one another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.distill.models import MakeModel, copy_rows, make_t5
from tests.distill.weights import loud
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration

from pocketseq.errors import RecipeError
from pocketseq_distill.losses.matching import LayerMap, Matching, spread, stand_ins
from pocketseq_distill.losses.terms import IGNORED
from pocketseq_distill.students.layers import make_student
from pocketseq_distill.training.course import train
from pocketseq_distill.training.plan import TrainingPlan

LAYERS = LayerMap(encoder=(0, 1), decoder=(0, 1))
PLAN = TrainingPlan(steps=30, batch_size=16, warmup_steps=0, schedule="constant", learning_rate=3e-3, bf16=False, hidden=1.0)


def narrow_t5(*, heads: int = 1) -> PreTrainedModel:
    torch.manual_seed(4)
    config = {**make_t5().config.to_dict(), "d_model": 8, "num_heads": heads}
    return T5ForConditionalGeneration(T5Config(**config)).eval()


@pytest.mark.parametrize(
    ("selected", "total", "expected"),
    [((0, 2, 5), 6, (1, 4, 5)), ((0,), 6, (5,)), ((0, 1, 2), 3, (0, 1, 2)), ((0, 2, 4), 6, (1, 3, 5)), ((2, 0), 3, (2, 2))],
)
def test_a_layer_stands_in_for_those_up_to_the_next_that_was_kept(
    selected: tuple[int, ...], total: int, expected: tuple[int, ...]
) -> None:
    """The last one for all that follow; layers in another order each for itself."""
    assert stand_ins(selected, total) == expected


@pytest.mark.parametrize(
    ("keep", "total", "expected"), [(2, 6, (2, 5)), (6, 6, (0, 1, 2, 3, 4, 5)), (4, 2, (0, 0, 1, 1)), (1, 3, (2,))]
)
def test_layers_of_another_build_share_the_teachers_evenly(keep: int, total: int, expected: tuple[int, ...]) -> None:
    """More or fewer than the teacher's: the last ends where the teacher ends."""
    assert spread(keep, total) == expected


def test_states_by_hand() -> None:
    """‖s − t‖² / ‖t‖² is 1 + 9 over 10 and 0: the mean over one row's two positions, times its two labels, over two layers."""
    states = torch.tensor([[[2.0, 0.0], [1.0, 1.0]]])
    theirs = torch.tensor([[[1.0, 3.0], [1.0, 1.0]]])
    embeddings = torch.zeros(1, 2, 2)
    outputs = SimpleNamespace(encoder_hidden_states=None, decoder_hidden_states=(embeddings, states, theirs))
    teacher = SimpleNamespace(encoder_hidden_states=None, decoder_hidden_states=(embeddings, theirs, theirs))
    matching = Matching(make_t5(), make_t5(), LAYERS, hidden=3.0, attention=0.0, seed=0)
    batch = {"attention_mask": torch.ones(1, 4, dtype=torch.long), "labels": torch.tensor([[5, 1]])}
    assert matching.loss(outputs, teacher, batch).item() == pytest.approx(3.0 / 2 * (1 + 9) / 10)


def test_attention_by_hand() -> None:
    """Teacher (½, ½), student (¼, ¾), with unlike numbers of heads: ½·ln 2 + ½·ln ⅔ for the one labelled position."""
    student = (torch.tensor([[[[0.25, 0.75], [0.5, 0.5]]]]),)
    teacher = (torch.tensor([[[[0.25, 0.75], [0.5, 0.5]], [[0.75, 0.25], [0.5, 0.5]]]]),)
    matching = Matching(make_t5(), make_t5(), LayerMap((0,), (0,)), hidden=0.0, attention=1.0, seed=0)
    given = {"encoder_attentions": None, "cross_attentions": None}
    batch = {"attention_mask": torch.ones(1, 2, dtype=torch.long), "labels": torch.tensor([[5, IGNORED]])}
    found = matching.loss(
        SimpleNamespace(decoder_attentions=student, **given), SimpleNamespace(decoder_attentions=teacher, **given), batch
    )
    assert found.item() == pytest.approx(0.5 * torch.tensor(2.0).log().item() + 0.5 * torch.tensor(2 / 3).log().item())


def test_a_copy_of_the_teacher_matches_it(make_model: MakeModel) -> None:
    """All layers kept: nothing to learn from states or attention, in every family."""
    teacher = loud(make_model()).eval()
    student = make_student(teacher, encoder_layers=(0, 1), decoder_layers=(0, 1)).eval()
    matching = Matching(student, teacher, LAYERS, hidden=1.0, attention=1.0, seed=0)
    ids = torch.arange(3, 15).reshape(2, 6)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": ids}
    outputs = [model(**batch, **matching.asks) for model in (student, teacher)]
    assert matching.loss(*outputs, {**batch, "labels": ids}).item() == pytest.approx(0, abs=1e-5)


def test_a_rows_share_does_not_depend_on_its_batch() -> None:
    """Rows apart add up to rows together, whatever is padded: accumulation stays exact."""
    teacher, student = loud(make_t5(seed=1)).eval(), loud(make_t5()).eval()
    matching = Matching(student, teacher, LAYERS, hidden=1.0, attention=1.0, seed=0)
    ids = torch.arange(3, 15).reshape(2, 6)
    mask, labels = torch.ones_like(ids), ids.clone()
    mask[0, 4:] = 0
    labels[0, 2:] = IGNORED

    def loss(rows: slice, width: int, steps: int) -> float:
        batch = {"input_ids": ids[rows, :width], "attention_mask": mask[rows, :width], "decoder_input_ids": ids[rows, :steps]}
        outputs = [model(**batch, **matching.asks) for model in (student, teacher)]
        return matching.loss(*outputs, {**batch, "labels": labels[rows, :steps]}).item()

    assert loss(slice(0, 1), 4, 2) + loss(slice(1, 2), 6, 6) == pytest.approx(loss(slice(0, 2), 6, 6), rel=1e-4)


@pytest.mark.parametrize("attention", [0.0, 1.0])
def test_a_narrower_student_learns_its_teachers_states_through_projections(tmp_path: Path, attention: float) -> None:
    """The loss falls, and the finished student is an ordinary model: no projection is left."""
    teacher, student = loud(make_t5(seed=3)).eval(), narrow_t5()
    names = set(student.state_dict())
    plan = replace(PLAN, attention=attention)
    trained = train(student, copy_rows(64), plan, state_dir=tmp_path, teacher=teacher, layers=LAYERS)
    losses = [entry["loss"] for entry in trained.history if "loss" in entry]
    assert losses[-1] < 0.9 * losses[0]
    assert set(student.state_dict()) == names


def test_projections_are_resumed_with_the_rest(tmp_path: Path) -> None:
    """A training with projections that was interrupted ends with the weights of one that was not."""
    found = []
    for folder, steps in (("straight", (12,)), ("interrupted", (5, 12))):
        for count in steps:
            student = narrow_t5()
            plan = replace(PLAN, steps=count)
            train(student, copy_rows(64), plan, state_dir=tmp_path / folder, teacher=make_t5(seed=3), layers=LAYERS)
        found.append(student.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_matching_needs_a_teacher(tmp_path: Path) -> None:
    """Said before the first update."""
    with pytest.raises(RecipeError, match="hidden and attention compare with a teacher as the batches come"):
        train(make_t5(), copy_rows(16), PLAN, state_dir=tmp_path)
