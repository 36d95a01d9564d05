"""A teacher's distributions, computed once: what is kept, what survives a kill, what is made anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.distill.disk import room_for
from tests.distill.losses.test_heads import Largest
from tests.distill.models import VOCAB, MakeModel, copy_rows, make_causal, make_t5, repair_examples
from tests.distill.training.test_trainer import PLAN, gradients
from transformers import PreTrainedModel

import pocketseq_distill.labelling.distributions as module
from pocketseq.errors import LabellingError, RecipeError, TeacherError
from pocketseq_distill.labelling.causal import CausalSettings, CausalTeacher
from pocketseq_distill.labelling.checkpoint import CheckpointTeacher
from pocketseq_distill.labelling.distributions import teacher_distributions
from pocketseq_distill.labelling.teacher import Asking, Question
from pocketseq_distill.losses import heads
from pocketseq_distill.losses.terms import IGNORED
from pocketseq_distill.rows import Distributions, TokenRows
from pocketseq_distill.students.layers import make_student
from pocketseq_distill.training.batches import Collate
from pocketseq_distill.training.plan import TrainingPlan

ROWS = copy_rows(20)


class Counted:
    """A teacher that counts how often it was loaded and how many rows it was asked about."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.rows = 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _module: object, _args: object, given: dict[str, torch.Tensor]) -> None:
        self.rows += len(given["input_ids"])

    def __call__(self) -> PreTrainedModel:
        return self.model


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHARD_ROWS", 8)
    monkeypatch.setattr(module, "_BATCH_TOKENS", 30)


def ask(folder: Path, teacher: Callable[[], PreTrainedModel], *, rows: TokenRows = ROWS, name: str = "one") -> Distributions:
    return teacher_distributions(rows, teacher, folder, teacher_id=name, top_k=5, bf16=False)


@pytest.mark.usefixtures("small_shards")
def test_the_likeliest_tokens_are_those_of_the_teacher(make_model: MakeModel, tmp_path: Path) -> None:
    """Rows are asked in batches of like length; each label still gets the distribution of its own prefix."""
    model = make_model()
    found = ask(tmp_path, lambda: model)
    collate = Collate(pad_id=0, shift=model.prepare_decoder_input_ids_from_labels)
    for row in range(len(ROWS)):
        batch = collate(ROWS.take([row]))
        labels = batch.pop("labels")
        with torch.no_grad():
            expected = model(**batch).logits[labels != IGNORED].log_softmax(-1).topk(5)
        begin, end = ROWS.label_offsets[row : row + 2]
        np.testing.assert_allclose(found.logprobs[begin:end], expected.values, atol=5e-3)
        taken = torch.from_numpy(found.ids[begin:end].astype(np.int64))
        assert (taken < VOCAB).all()
        torch.testing.assert_close(model(**batch).logits[0].log_softmax(-1).gather(-1, taken), expected.values, atol=1e-4, rtol=0)


@pytest.mark.usefixtures("small_shards")
def test_what_is_there_is_not_asked_again(tmp_path: Path) -> None:
    """After a kill only the shards that are missing are made; the same numbers come out."""
    teacher = Counted(make_t5())
    first = ask(tmp_path, teacher)
    assert teacher.rows == 20
    (tmp_path / "00001.safetensors").unlink()
    (tmp_path / ".00001.safetensors.1.part").write_bytes(b"half of a shard")
    again = ask(tmp_path, teacher)
    assert teacher.rows == 28
    np.testing.assert_array_equal(first.logprobs, again.logprobs)
    ask(tmp_path, lambda: pytest.fail("the teacher was loaded although nothing is missing"))


@pytest.mark.usefixtures("small_shards")
def test_a_damaged_shard_is_found_by_its_hash_and_made_anew_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One flipped bit, and a file cut short: counted, and told."""
    teacher = Counted(make_t5())
    first = ask(tmp_path, teacher)
    flipped = tmp_path / "00000.safetensors"
    content = bytearray(flipped.read_bytes())
    content[-1] ^= 1
    flipped.write_bytes(content)
    short = tmp_path / "00002.safetensors"
    short.write_bytes(short.read_bytes()[:-10])
    np.testing.assert_array_equal(ask(tmp_path, teacher).logprobs, first.logprobs)
    assert teacher.rows == 20 + 8 + 4
    assert (
        f"{tmp_path}: 2 of 3 shards were damaged, of other rows, of another teacher, precision or version, and were made anew"
        in capsys.readouterr().err
    )


@pytest.mark.usefixtures("small_shards")
def test_a_full_disk_leaves_whole_shards(tmp_path: Path) -> None:
    """Those before it are not asked again when there is room."""
    teacher = Counted(make_t5())
    ask(tmp_path, teacher, rows=ROWS)
    sizes = [(tmp_path / f"0000{number}.safetensors").stat().st_size for number in range(3)]
    (tmp_path / "00001.safetensors").unlink()
    with room_for(sizes[1] - 100), pytest.raises(LabellingError, match=r"00001\.safetensors: expected a place that can be written"):
        ask(tmp_path, teacher)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000.safetensors", "00002.safetensors"]
    asked = teacher.rows
    ask(tmp_path, teacher)
    assert teacher.rows == asked + 8


@pytest.mark.usefixtures("small_shards")
def test_distributions_of_another_teacher_or_other_rows_are_not_taken(tmp_path: Path) -> None:
    """Shards name the teacher and hold a digest of every token that they belong to."""
    teacher = Counted(make_t5())
    ask(tmp_path, teacher)
    ask(tmp_path, teacher, name="two")
    assert teacher.rows == 40
    other = copy_rows(20, seed=1)
    mixed = TokenRows.of(
        [
            source.tolist()
            for source in (*(ROWS[row]["input_ids"] for row in range(8)), *(other[row]["input_ids"] for row in range(8, 20)))
        ],
        [label.tolist() for label in (*(ROWS[row]["labels"] for row in range(8)), *(other[row]["labels"] for row in range(8, 20)))],
    )
    ask(tmp_path, teacher, rows=mixed, name="two")
    assert teacher.rows == 40 + 12


@pytest.mark.usefixtures("small_shards")
def test_distributions_of_another_precision_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the one that is computed in: where a device has one alone, asking for the other changes nothing."""
    teacher = Counted(make_t5())

    def asked(*, bf16: bool) -> int:
        teacher.rows = 0
        teacher_distributions(ROWS, teacher, tmp_path, teacher_id="one", top_k=5, bf16=bf16)
        return teacher.rows

    monkeypatch.setattr(module, "has_bf16", lambda _: False)
    assert [asked(bf16=False), asked(bf16=True)] == [20, 0]
    monkeypatch.setattr(module, "has_bf16", lambda _: True)
    assert [asked(bf16=True), asked(bf16=True), asked(bf16=False)] == [20, 0, 20]


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jensen_shannon"])
def test_all_but_one_token_kept_gives_the_gradients_of_the_teacher_itself(make_model: MakeModel, tmp_path: Path, kind: str) -> None:
    """Then the tail is one token, and nothing is lost but the rounding of what is kept to float16."""
    plan = replace(PLAN, divergence=1.0, divergence_kind=kind, cross_entropy=0.5)  # type: ignore[arg-type]
    teacher = make_model(seed=1)
    online = gradients(make_model(), ROWS, plan, tmp_path / "online", teacher)
    kept = teacher_distributions(ROWS, lambda: teacher, tmp_path / "shards", teacher_id="one", top_k=VOCAB - 1, bf16=False)
    cached = gradients(make_model(), replace(ROWS, distributions=kept), replace(plan, top_k=VOCAB - 1), tmp_path / "cached")
    for name, gradient in online.items():
        torch.testing.assert_close(cached[name], gradient, rtol=2e-2, atol=2e-4)


def test_a_student_is_drawn_to_a_teacher_that_is_gone(tmp_path: Path) -> None:
    """Trained on eight tokens a position, without the teacher in memory, it comes nearer to the whole distribution."""
    from pocketseq_distill.training.course import train

    teacher = make_t5(layers=2, seed=3)
    student = make_student(teacher, encoder_layers=(0,), decoder_layers=(1,))
    rows = copy_rows(128)
    kept = teacher_distributions(rows, lambda: teacher, tmp_path / "shards", teacher_id="one", top_k=8)
    plan = TrainingPlan(steps=40, batch_size=16, learning_rate=3e-3, warmup_steps=0, cross_entropy=0.0, divergence=1.0, top_k=8)
    trained = train(student, replace(rows, distributions=kept), plan, state_dir=tmp_path / "state")
    losses = [entry["loss"] for entry in trained.history if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]


def test_a_position_takes_four_bytes_a_token(tmp_path: Path) -> None:
    """Ids of a vocabulary below 65,536 in two bytes, log-probabilities in two."""
    kept = ask(tmp_path, make_t5)
    assert kept.ids.itemsize + kept.logprobs.itemsize == 4
    assert len(kept.ids) == len(ROWS.label_ids)


@pytest.mark.parametrize("top_k", [0, VOCAB + 1])
def test_no_token_or_more_than_there_are_is_refused(tmp_path: Path, top_k: int) -> None:
    """The message names what was asked."""
    with pytest.raises(RecipeError, match=rf"expected top_k of .*, found {top_k}"):
        teacher_distributions(ROWS, make_t5, tmp_path, teacher_id="one", top_k=top_k)


def test_a_teacher_is_asked_about_as_many_tokens_at_a_time() -> None:
    """Rows come longest first, each once; the longest of a batch, padded, decides how many others fit beside it."""
    rows = TokenRows.of([[3] * length for length in (100, 20, 20, 20, 5, 5)], [[3, 1]] * 6)
    order = list(range(6))
    assert list(module._batches(rows, order, tokens=60, multiple=1)) == [[0], [1, 2, 3], [4, 5]]
    assert list(module._batches(rows, order, tokens=60, multiple=8)) == [[0], [1, 2], [3, 4], [5]]


def test_memory_grows_neither_with_the_labels_nor_with_the_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 rows of 40 labels over 2,000 tokens would be five million logits: a chunk of them exists at a time."""
    monkeypatch.setattr(heads, "_CHUNK_ELEMENTS", 1)
    rows = TokenRows.of([[3, 4, 5]] * 64, [[*range(3, 42), 1]] * 64)
    model = make_t5(vocab=2000)
    with Largest() as largest:
        found = ask(tmp_path, lambda: model, rows=rows)
    assert len(found.ids) == 64 * 40
    assert largest.elements <= heads._FEWEST_POSITIONS * 2000


def test_memory_that_runs_out_ends_in_advice_and_the_shards_before_it_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what was asked, and the same call goes on where it stopped."""
    monkeypatch.setattr(module, "_SHARD_ROWS", 8)
    model = make_t5()
    calls = iter(range(3))

    def exhaust(*_: object) -> None:
        if next(calls) == 1:
            torch.empty(1 << 60, dtype=torch.uint8)

    model.get_decoder().register_forward_pre_hook(exhaust)
    expected = (
        r"expected 8 rows of up to \d tokens with labels of up to 3 to fit into memory, found: .*; leave out the longest rows, or "
        "free some memory; the shards before them are whole, and the same call goes on"
    )
    with pytest.raises(TeacherError, match=expected):
        ask(tmp_path, lambda: model)
    assert [path.name for path in tmp_path.iterdir()] == ["00000.safetensors"]
    teacher = Counted(make_t5())
    ask(tmp_path, teacher)
    assert teacher.rows == 12


def test_labels_that_need_more_memory_than_there_is_name_a_smaller_batch(teacher_path: Path, tmp_path: Path) -> None:
    """Of an encoder-decoder as of a causal model."""
    examples = repair_examples(4)
    whole = CheckpointTeacher(teacher_path)
    causal = CausalTeacher(CausalSettings(str(make_causal(tmp_path / "gpt", ["for value"])), "{line}"))

    def exhaust(*_: object) -> None:
        torch.empty(1 << 60, dtype=torch.uint8)

    for part in (whole.model.model.get_encoder(), causal._loaded[0].base_model):
        part.register_forward_pre_hook(exhaust)
    questions = [Question(example.fields) for example in examples]
    for teacher in (whole, causal):
        with pytest.raises(TeacherError, match=r"answers to 6 rows at a time to fit into memory, found: .*; try batch_size = 3"):
            teacher.ask(questions, Asking(batch_size=6))
