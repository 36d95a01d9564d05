"""Students keep the teacher's width and weights, in fewer layers."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import PreTrainedModel

from pocketseq.errors import CheckpointError, RecipeError
from pocketseq_distill.students import make_student, select_layers

from .models import VOCAB, MakeModel, make_t5


def logits_of(model: PreTrainedModel) -> torch.Tensor:
    ids = torch.arange(3, 15).reshape(2, 6)
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, decoder_input_ids=ids[:, :3]).logits
    return logits


@pytest.mark.parametrize(
    ("total", "keep", "selection", "expected"),
    [
        (6, 6, "spaced", (0, 1, 2, 3, 4, 5)),
        (6, 3, "spaced", (0, 2, 5)),
        (6, 2, "spaced", (0, 5)),
        (6, 1, "spaced", (0,)),
        (12, 3, "spaced", (0, 6, 11)),
        (6, 3, "alternating", (0, 2, 4)),
        (6, 1, "alternating", (0,)),
    ],
)
def test_layers_are_chosen_by_rule(total: int, keep: int, selection: str, expected: tuple[int, ...]) -> None:
    """Spaced takes both ends and evenly between; alternating takes every n-th from the first."""
    assert select_layers(total, keep, selection) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("keep", [0, 7])
def test_a_student_has_one_layer_or_more_and_no_more_than_its_teacher(keep: int) -> None:
    """Other numbers are refused."""
    with pytest.raises(RecipeError, match=f"expected 1 to 6 layers, as many as the teacher has, found {keep}"):
        select_layers(6, keep, "spaced")


def test_a_student_of_all_layers_is_its_teacher(make_model: MakeModel) -> None:
    """Every weight outside the layers is copied too: the logits are the same to the bit."""
    teacher = make_model(layers=3, decoder_layers=2)
    student = make_student(teacher, encoder_layers=(0, 1, 2), decoder_layers=(0, 1)).eval()
    assert torch.equal(logits_of(student), logits_of(teacher))


@pytest.mark.parametrize("family", ["Pegasus", "M2M100"])
def test_families_of_the_same_build_have_students_too(family: str) -> None:
    """Pegasus, and M2M100 with NLLB, keep their layers where BART does; their positions are no weights."""
    config = getattr(transformers, f"{family}Config")
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCAB, "d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_layers": 3, "decoder_layers": 2}
    teacher = getattr(transformers, f"{family}ForConditionalGeneration")(config(**sizes, **heads)).eval()
    assert torch.equal(logits_of(make_student(teacher, encoder_layers=(0, 1, 2), decoder_layers=(0, 1)).eval()), logits_of(teacher))
    assert len(make_student(teacher, encoder_layers=(0, 2), decoder_layers=(0,)).get_encoder().layers) == 2


def test_a_student_has_the_chosen_layers(make_model: MakeModel) -> None:
    """A teacher whose middle layers are cut out by hand says what a student of the others should."""
    teacher = make_model(layers=3, decoder_layers=3)
    student = make_student(teacher, encoder_layers=(0, 2), decoder_layers=(0, 2)).eval()
    cut = make_model(layers=3, decoder_layers=3)
    for stack in (cut.get_encoder(), cut.get_decoder()):
        layers = stack.block if hasattr(stack, "block") else stack.layers
        del layers[1]
    assert torch.equal(logits_of(student), logits_of(cut))
    assert sum(p.numel() for p in student.parameters()) < sum(p.numel() for p in teacher.parameters())


def test_relative_positions_stay_when_the_first_layer_goes() -> None:
    """T5's table lives in layer 0; a student that begins with another layer still has it."""
    teacher = make_t5(layers=3, decoder_layers=3)
    student = make_student(teacher, encoder_layers=(1, 2), decoder_layers=(2,))
    for ours, theirs in ((student.encoder, teacher.encoder), (student.decoder, teacher.decoder)):
        table = ours.block[0].layer[0].SelfAttention.relative_attention_bias.weight
        assert torch.equal(table, theirs.block[0].layer[0].SelfAttention.relative_attention_bias.weight)
    layer = student.encoder.block[0].layer[0].SelfAttention
    assert torch.equal(layer.q.weight, teacher.encoder.block[1].layer[0].SelfAttention.q.weight)


def test_embeddings_stay_tied_and_apart_from_the_teacher(make_model: MakeModel) -> None:
    """One table serves encoder, decoder and output; changing it leaves the teacher alone."""
    teacher = make_model()
    before = logits_of(teacher)
    student = make_student(teacher, encoder_layers=(0,), decoder_layers=(0,))
    assert student.get_input_embeddings().weight is student.get_output_embeddings().weight
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    assert torch.equal(logits_of(teacher), before)
    assert student.config.vocab_size == VOCAB


def test_layers_that_the_teacher_lacks_are_refused() -> None:
    """An index past the end names what there is."""
    with pytest.raises(RecipeError, match=r"expected decoder layers among 0 to 1, at least one, found \[2\]"):
        make_student(make_t5(), encoder_layers=(0,), decoder_layers=(2,))


def test_an_unknown_family_is_refused() -> None:
    """The error lists the families that work."""
    teacher = make_t5()
    teacher.config.model_type = "led"
    with pytest.raises(CheckpointError, match=r"expected a teacher of one of the families \['bart'.*found 'led'"):
        make_student(teacher, encoder_layers=(0,), decoder_layers=(0,))
