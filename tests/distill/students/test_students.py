"""Students keep the teacher's width and weights, in fewer layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from tests.distill.models import VOCAB, MakeModel, copy_rows, make_bart, make_t5
from transformers import M2M100Config, M2M100ForConditionalGeneration, PreTrainedModel, T5Config, T5ForConditionalGeneration

from pocketseq.errors import CheckpointError, RecipeError
from pocketseq_distill.ensemble import Ensemble
from pocketseq_distill.losses.matching import LayerMap
from pocketseq_distill.students.layers import make_student, select_layers
from pocketseq_distill.students.settings import Preset, StudentSettings
from pocketseq_distill.students.shapes import PRESETS, Shape, new_t5
from pocketseq_distill.students.student import layer_map, student_of


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


@pytest.mark.parametrize("name", ["vocab_size", "encoder_layers", "decoder_layers", "d_ff", "d_model"])
def test_a_student_of_nothing_is_refused(name: str) -> None:
    """When its table is read, before a teacher is."""
    with pytest.raises(RecipeError, match=rf"\[student\]: expected {name} of 1 or more, found 0"):
        StudentSettings(**{name: 0})  # type: ignore[arg-type]


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


ROWS = copy_rows(16)


@pytest.mark.parametrize(
    ("preset", "vocab", "millions"), [("nano", 8000, 5.4), ("tiny", 8000, 8.9), ("small", 16000, 18.2), ("base", 16000, 29.7)]
)
def test_presets_have_the_sizes_that_their_names_promise(preset: Preset, vocab: int, millions: float) -> None:
    """Counted without making the weights; deep encoders, shallow decoders, tied embeddings."""
    with torch.device("meta"):
        model = new_t5(PRESETS[preset], vocab_size=vocab, pad_id=0, end_id=1)
    model.tie_weights()
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.fixture
def small_preset(monkeypatch: pytest.MonkeyPatch) -> Shape:
    """A preset of a size that tests can make."""
    shape = Shape(encoder_layers=3, decoder_layers=1, d_model=8, d_ff=16, heads=2)
    monkeypatch.setitem(PRESETS, "nano", shape)
    return shape


def test_a_preset_reads_and_writes_the_teachers_tokens(make_model: MakeModel, small_preset: Shape) -> None:
    """Of any family; its shape is its own, and its weights depend on the seed alone."""
    teacher = make_model()
    one, same, other = (student_of(teacher, StudentSettings(preset="nano"), ROWS, seed=seed) for seed in (0, 0, 1))
    for name in ("vocab_size", "pad_token_id", "eos_token_id", "decoder_start_token_id"):
        assert getattr(one.config, name) == getattr(teacher.config, name)
    assert one.config.num_layers == small_preset.encoder_layers
    assert torch.equal(logits_of(one), logits_of(same))
    assert not torch.equal(one.shared.weight, other.shared.weight)
    assert layer_map(teacher, StudentSettings(preset="nano")) == LayerMap(encoder=(0, 1, 1), decoder=(1,))


def test_pooled_weights_are_means_of_the_teachers(small_preset: Shape) -> None:
    """Embeddings of two dimensions become one; layers come from the same height; gains stay means."""
    teacher = make_t5()
    teacher.encoder.final_layer_norm.weight.data = torch.arange(16.0)
    student = student_of(teacher, StudentSettings(preset="nano", start="pooled"), ROWS)
    means = teacher.shared.weight.unflatten(1, (8, 2)).mean(2)
    ratio = student.shared.weight / means
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio))
    torch.testing.assert_close(student.encoder.final_layer_norm.weight.data, torch.arange(16.0).view(8, 2).mean(1))
    first, last = (student.encoder.block[layer].layer[1].DenseReluDense.wi.weight for layer in (0, 2))
    theirs = [teacher.encoder.block[layer].layer[1].DenseReluDense.wi.weight.view(16, 2, 8, 2).mean((1, 3)) for layer in (0, 1)]
    for found, expected in zip((first, last), theirs, strict=True):
        torch.testing.assert_close(found / found.std(), expected / expected.std())


def test_pooling_to_the_teachers_own_shape_is_copying(make_model: MakeModel) -> None:
    """Nothing is lost where nothing is averaged."""
    teacher = make_model()
    student = student_of(teacher, StudentSettings(decoder_layers=2, start="pooled"), ROWS).eval()
    torch.testing.assert_close(logits_of(student), logits_of(teacher))


def test_a_random_start_takes_nothing_over(make_model: MakeModel) -> None:
    """The shape of a copy, with other weights."""
    teacher = make_model()
    student = student_of(teacher, StudentSettings(decoder_layers=2, start="random"), ROWS)
    shapes = {name: weight.shape for name, weight in teacher.state_dict().items()}
    assert {name: weight.shape for name, weight in student.state_dict().items()} == shapes
    assert not torch.equal(student.get_input_embeddings().weight, teacher.get_input_embeddings().weight)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            StudentSettings(preset="tiny"),
            "expected a student no larger than its teacher of .* parameters, found .*; take a smaller",
        ),
        (StudentSettings(preset="nano", start="copied"), 'expected start "pooled" or "random" with a preset'),
        (StudentSettings(vocab_size=300), "vocab_size is for a student with a preset"),
        (StudentSettings(encoder_indices=()), r"expected encoder layers among 0 to 1, at least one, found \[\]"),
    ],
)
def test_what_does_not_fit_is_refused(settings: StudentSettings, message: str, small_preset: Shape) -> None:
    """A student larger than its teacher among them."""
    with pytest.raises(RecipeError, match=message):
        student_of(make_t5(), settings, ROWS)


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        ({"encoder_layers": 2, "d_ff": 64}, "encoder_layers and d_ff"),
        ({"decoder_layers": 1}, "decoder_layers"),
        ({"selection": "alternating"}, "selection"),
    ],
)
def test_a_preset_takes_no_other_sizes(beside: dict[str, Any], told: str) -> None:
    """They would go unheard, as would a way to choose layers that it does not take."""
    with pytest.raises(RecipeError, match=f"expected preset = 'nano', whose shape is its own, or {told}, found both"):
        StudentSettings(preset="nano", **beside)


def test_weights_are_pooled_within_a_family(small_preset: Shape) -> None:
    """A BART's have other meanings."""
    with pytest.raises(RecipeError, match="expected a teacher of the student's family to pool weights from, 't5', found 'bart'"):
        student_of(make_bart(), StudentSettings(preset="nano", start="pooled"), ROWS)


def test_a_student_drops_its_own_share(make_model: MakeModel) -> None:
    """It computes what it computed before, and drops more in training; the teacher's share stays what it was."""
    teacher = make_model()
    same, dropping = (
        student_of(teacher, StudentSettings(decoder_layers=1, dropout=dropout), copy_rows(4)) for dropout in (None, 0.3)
    )
    assert torch.equal(logits_of(same.eval()), logits_of(dropping.eval()))
    torch.manual_seed(0)
    assert torch.equal(logits_of(same.train()), logits_of(same.eval()))
    assert not torch.equal(logits_of(dropping.train()), logits_of(dropping.eval()))
    names = [name for name in ("dropout_rate", "dropout") if hasattr(teacher.config, name)]
    assert [getattr(dropping.config, name) for name in names] == [0.3]
    assert [getattr(teacher.config, name) for name in names] == [0.0]


def test_a_share_that_drops_everything_is_refused() -> None:
    """Before anything is trained."""
    with pytest.raises(RecipeError, match=r"\[student\]: expected dropout from 0 to below 1, found 1.5"):
        StudentSettings(dropout=1.5)


def test_a_preset_drops_what_its_teacher_drops(small_preset: Shape) -> None:
    """Unless it has a share of its own; a plain student beside it then drops the teacher's."""
    teacher = make_t5(dropout=0.2)
    shares = [
        student_of(teacher, settings, ROWS).config.dropout_rate
        for settings in (StudentSettings(preset="nano"), StudentSettings(preset="nano", dropout=0.1))
    ]
    assert shares == [0.2, 0.1]


def test_an_ensemble_is_as_large_as_all_of_its_members() -> None:
    """A student may be larger than the first of them."""
    members = [make_t5(layers=1, decoder_layers=1, seed=seed) for seed in (0, 1)]
    settings = StudentSettings(decoder_layers=1, encoder_indices=(0, 0))
    with pytest.raises(RecipeError, match="expected a student no larger than its teacher"):
        student_of(members[0], settings, ROWS)
    assert student_of(Ensemble(members), settings, ROWS).config.num_layers == 2


def test_weights_that_the_teacher_lacks_are_not_pooled(small_preset: Shape) -> None:
    """Feed-forward layers with gates have none without; left as they are, they would be random without a word."""
    sizes = {name: getattr(make_t5().config, name) for name in ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")}
    config = T5Config(**sizes, feed_forward_proj="gated-gelu", decoder_start_token_id=0)
    with pytest.raises(RecipeError, match=r"found none for 'encoder\.block\.0\.layer\.1\.DenseReluDense\.wi\.weight' and 3 more"):
        student_of(T5ForConditionalGeneration(config), StudentSettings(preset="nano", start="pooled"), ROWS)


def test_no_layer_of_a_student_is_left_out_in_training() -> None:
    """A family that drops whole layers at times has many of them; a student may have one."""
    torch.manual_seed(0)
    config = M2M100Config(**{**make_bart().config.to_dict(), "encoder_layerdrop": 0.5, "decoder_layerdrop": 0.5})
    student = student_of(M2M100ForConditionalGeneration(config), StudentSettings(), ROWS)
    assert (student.config.encoder_layerdrop, student.config.decoder_layerdrop) == (0.0, 0.0)
    assert (config.encoder_layerdrop, config.decoder_layerdrop) == (0.5, 0.5)
