"""Ensembles answer as one model, and everything that reads a teacher reads them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.distill.disk import room_for
from tests.distill.losses.sums import divergence
from tests.distill.losses.test_heads import Largest
from tests.distill.models import copy_rows, make_marian, make_t5, repair_examples
from tests.distill.weights import loud

from pocketseq.errors import CheckpointError, RecipeError
from pocketseq.template import Template
from pocketseq_distill.checkpoints import checkpoint_fingerprint, copy_checkpoint, save_checkpoint, weights_size_bytes
from pocketseq_distill.corpus.vocabulary import save_tokenizer, train_tokenizer
from pocketseq_distill.distil import Data, distil
from pocketseq_distill.ensemble import Ensemble, foundation, write_ensemble
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.labelling.checkpoint import CheckpointTeacher
from pocketseq_distill.labelling.distributions import teacher_distributions
from pocketseq_distill.labelling.labels import LabelSettings, label_rows, read_labels
from pocketseq_distill.losses.heads import chunked_loss, unspoken
from pocketseq_distill.losses.weights import LossWeights
from pocketseq_distill.students.settings import StudentSettings
from pocketseq_distill.students.trimming import trim_checkpoint
from pocketseq_distill.teacher import Average
from pocketseq_distill.training.plan import TrainingPlan

EXAMPLES = repair_examples(6)
INPUTS = [example.fields for example in EXAMPLES]


@pytest.fixture(scope="module")
def members(teacher_path: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models of one vocabulary and unlike opinions; the second is narrower."""
    folder, whole = tmp_path_factory.mktemp("members"), TeacherModel.load(teacher_path)
    for seed, name in enumerate(("first", "second")):
        model = loud(make_t5(vocab=whole.model.config.vocab_size, seed=seed, layers=2 - seed))
        save_checkpoint(model, folder / name, card=whole.card, tokenizer=teacher_path)
    return [folder / "first", folder / "second"]


@pytest.fixture(scope="module")
def joined(members: list[Path]) -> Path:
    write_ensemble(members, members[0].with_name("joined"))
    return members[0].with_name("joined")


def average(members: list[TeacherModel], ids: list[int], prefix: list[int], how: Average) -> torch.Tensor:
    """Log-probabilities [vocab] of the next token, one model after the other and nothing kept between steps."""
    with torch.no_grad():
        said = [
            member.model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([prefix])).logits[0, -1].softmax(-1)
            for member in members
        ]
    if how == "probabilities":
        return torch.stack(said).mean(0).log()
    product = torch.stack(said).log().mean(0).exp()
    return (product / product.sum()).log()


@pytest.mark.parametrize("how", ["probabilities", "log_probabilities"])
def test_each_step_takes_the_average(members: list[Path], tmp_path: Path, how: Average) -> None:
    """Greedily, with caches and rows that leave the batch, as one asks the members one by one."""
    write_ensemble(members, tmp_path / "joined", average=how)
    alone = [TeacherModel.load(member) for member in members]
    both = TeacherModel.load(tmp_path / "joined")
    answers = both.answer(INPUTS)
    assert [answer.tokens for answer in answers] not in [[one.tokens for one in member.answer(INPUTS)] for member in alone]
    for source, answer in zip(INPUTS, answers, strict=True):
        prefix = [0]
        for token, logprob in zip(answer.tokens, answer.token_logprobs, strict=True):
            expected = average(alone, both.encode(source).ids, prefix, how)
            assert token == int(expected.argmax())
            assert logprob == pytest.approx(float(expected.max()), abs=1e-4)
            prefix.append(token)


def test_beams_follow_the_average(members: list[Path], joined: Path) -> None:
    """The best of three beams is that of a search which keeps no cache and asks the members one by one."""
    alone, both = [TeacherModel.load(member) for member in members], TeacherModel.load(joined)
    for source in INPUTS[:2]:
        ids = both.encode(source).ids
        found = both.candidates([source], 3, beams=3, max_new_tokens=3)[0]
        assert [answer.tokens for answer in found] == [tuple(tokens) for tokens in search(alone, ids, beams=3, steps=3)]


def search(members: list[TeacherModel], ids: list[int], *, beams: int, steps: int) -> list[list[int]]:
    """Beam search by hand; scores are log-probabilities over the length, as transformers has it, and the end token is unlikely."""
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    for _ in range(steps):
        longer = []
        for score, tokens in live:
            logprobs = average(members, ids, [0, *tokens], "probabilities")
            best = logprobs.topk(beams + 1)
            longer += [
                (score + value, [*tokens, token]) for value, token in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
        live = sorted(longer, key=lambda one: -one[0])[:beams]
        assert all(tokens[-1] != 1 for _, tokens in live)
    return [tokens for _, tokens in live]


def test_distributions_are_the_average(members: list[Path], joined: Path, tmp_path: Path) -> None:
    """What a student learns from, computed beforehand, is the average at every label."""
    both, rows = TeacherModel.load(joined), copy_rows(4)
    found = teacher_distributions(rows, lambda: both.model, tmp_path, teacher_id="both", top_k=3, bf16=False)
    alone = [TeacherModel.load(member) for member in members]
    for row, (begin, end) in enumerate(pairwise(rows.label_offsets)):
        labels = rows[row]["labels"].tolist()
        for place in range(begin, end):
            expected = average(alone, rows[row]["input_ids"].tolist(), [0, *labels[: place - begin]], "probabilities").topk(3)
            assert found.ids[place].tolist() == expected.indices.tolist()
            np.testing.assert_allclose(found.logprobs[place], expected.values, atol=2e-2)


def test_an_ensemble_labels_and_teaches(joined: Path, tmp_path: Path) -> None:
    """Its fingerprint is that of all members; a student is cut from the first and learns from the average."""
    teacher = CheckpointTeacher(joined)
    label_rows(EXAMPLES, teacher, tmp_path / "labels.jsonl", LabelSettings(bf16=False))
    labels = read_labels(tmp_path / "labels.jsonl", EXAMPLES, teacher_id=checkpoint_fingerprint(joined))
    assert labels["0-0"].text == TeacherModel.load(joined).answer(INPUTS)[0].text
    assert isinstance(teacher.model.model, Ensemble)
    assert foundation(teacher.model.model).config.num_layers == 2
    card = distil(
        joined,
        Data(train=EXAMPLES, validation=[], fingerprint="six"),
        tmp_path / "student",
        student=StudentSettings(encoder_layers=1, decoder_layers=1),
        plan=TrainingPlan(steps=2, batch_size=4, divergence=1.0),
    )
    assert card.teacher == checkpoint_fingerprint(joined)
    assert weights_size_bytes(joined) > 2 * weights_size_bytes(tmp_path / "student")


def test_another_member_is_another_teacher(members: list[Path], joined: Path, tmp_path: Path) -> None:
    """Labels of an ensemble are not those of its first member, nor of another average."""
    write_ensemble(members, tmp_path / "vetoes", average="log_probabilities")
    write_ensemble([members[0], members[0]], tmp_path / "twice")
    paths = [members[0], joined, tmp_path / "vetoes", tmp_path / "twice"]
    assert len({checkpoint_fingerprint(path) for path in paths}) == 4


def test_a_member_is_its_configuration_too(members: list[Path], tmp_path: Path) -> None:
    """With another one the same weights answer otherwise; one that is the first member's adds nothing."""
    write_ensemble([members[0], members[0]], tmp_path / "joined")
    before, path = checkpoint_fingerprint(tmp_path / "joined"), tmp_path / "joined/members/1/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layer_norm_epsilon": 0.5}))
    assert checkpoint_fingerprint(tmp_path / "joined") != before
    path.unlink()
    assert checkpoint_fingerprint(tmp_path / "joined") == before


def test_a_copy_of_an_ensemble_has_its_members_and_no_more(joined: Path, members: list[Path], tmp_path: Path) -> None:
    """Nor does a list of members lead out of it."""
    source = Path(shutil.copytree(joined, tmp_path / "source"))
    shutil.copytree(members[0], source / "members/2")
    copy_checkpoint(source, tmp_path / "copy")
    assert checkpoint_fingerprint(tmp_path / "copy") == checkpoint_fingerprint(joined)
    assert [entry.name for entry in (tmp_path / "copy/members").iterdir()] == ["1"]
    listed = json.loads((source / "ensemble.json").read_text())
    (source / "ensemble.json").write_text(json.dumps(listed | {"members": ["../copy"]}))
    with pytest.raises(CheckpointError, match=r"found: members outside of it: \['\.\./copy'\]; write it again"):
        copy_checkpoint(source, tmp_path / "other")


@pytest.fixture
def other_vocabulary(tmp_path: Path, teacher_path: Path) -> Path:
    card = TeacherModel.load(teacher_path).card
    tokenizer = train_tokenizer([example.target for example in EXAMPLES], vocab_size=340, template=card.template)
    save_tokenizer(tokenizer, tmp_path / "tokenizer")
    save_checkpoint(make_t5(vocab=340), tmp_path / "other", card=card, tokenizer=tmp_path / "tokenizer")
    return tmp_path / "other"


def test_unlike_vocabularies_are_refused_by_name(members: list[Path], other_vocabulary: Path, tmp_path: Path) -> None:
    """A token more, or the same number of other tokens, and templates that read an input otherwise."""
    with pytest.raises(CheckpointError, match=r"other: expected the vocabulary of .*first \(\d+ tokens\), found one of \d+"):
        write_ensemble([members[0], other_vocabulary], tmp_path / "joined")
    whole = TeacherModel.load(members[0])
    twin = tmp_path / "twin"
    save_checkpoint(whole.model, twin, card=whole.card, tokenizer=members[0])
    tokenizer = json.loads((twin / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (twin / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"twin: .* token {vocabulary['b']} is 'a' there and 'b' here; an ensemble needs"):
        write_ensemble([members[0], twin], tmp_path / "joined")
    other: Template = replace(whole.card.template, edits=None)
    save_checkpoint(whole.model, tmp_path / "reads", card=replace(whole.card, template=other), tokenizer=members[0])
    with pytest.raises(CheckpointError, match=r"reads: expected the input template of .*first, found another"):
        write_ensemble([members[0], tmp_path / "reads"], tmp_path / "joined")
    twin = Path(shutil.copytree(members[0], tmp_path / "speaks"))
    settings = json.loads((twin / "generation_config.json").read_text(encoding="utf-8"))
    (twin / "generation_config.json").write_text(json.dumps({**settings, "forced_bos_token_id": 9}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"speaks: expected forced_bos_token_id None as in .*first, found 9"):
        write_ensemble([members[0], twin], tmp_path / "joined")
    assert not (tmp_path / "joined").exists()
    assert not list(tmp_path.glob(".*"))


def test_one_model_is_no_ensemble(members: list[Path], joined: Path, tmp_path: Path) -> None:
    """And a damaged list of members is no teacher."""
    with pytest.raises(CheckpointError, match="expected two or more checkpoints for an ensemble, found 1"):
        write_ensemble(members[:1], tmp_path / "joined")
    write_ensemble(members, tmp_path / "joined")
    (tmp_path / "joined/ensemble.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"ensemble\.json: expected the members of an ensemble, found"):
        TeacherModel.load(tmp_path / "joined")


@pytest.mark.parametrize("place", [0, 1])
def test_an_ensemble_is_no_member(members: list[Path], joined: Path, tmp_path: Path, place: int) -> None:
    """In the average of an average its models would weigh less than the others."""
    paths = [members[1]]
    paths.insert(place, joined)
    with pytest.raises(
        CheckpointError, match=r"joined: expected one model as a member, found an ensemble of 2; .* name all of them"
    ):
        write_ensemble(paths, tmp_path / "nested")
    assert not (tmp_path / "nested").exists()


@pytest.mark.parametrize("how", ["probabilities", "log_probabilities"])
def test_members_are_averaged_a_few_positions_at_a_time(how: Average) -> None:
    """Over 2,000 tokens 160 positions of two members would be 640,000 numbers; a loss on them never holds more than two chunks."""
    ensemble = Ensemble([make_t5(vocab=2000), make_t5(vocab=2000, seed=1)], average=how).requires_grad_(False)
    student, labels = make_t5(vocab=2000, seed=2), torch.randint(3, 2000, (8, 20))
    inputs = {"input_ids": labels, "decoder_input_ids": labels}
    with torch.no_grad():
        whole = divergence(student(**inputs).logits, ensemble(**inputs).logits, labels).item()
    with Largest() as largest:
        with unspoken(student) as ours:
            student(**inputs)
        with unspoken(ensemble) as theirs:
            ensemble(**inputs)
        weights = LossWeights(cross_entropy=0.0, divergence=1.0)
        loss = chunked_loss(ours[0], theirs[0], labels, weights, positions=20)
        loss.backward()
    assert loss.item() == pytest.approx(whole, rel=1e-4)
    assert largest.elements <= 2 * 20 * 2000


def test_what_an_ensemble_has_not_is_refused(joined: Path, tmp_path: Path) -> None:
    """Hidden states of its own, and one vocabulary table to cut."""
    plan = TrainingPlan(steps=1, batch_size=4, hidden=1.0)
    with pytest.raises(RecipeError, match="expected one teacher to match hidden states or attention with, found an ensemble"):
        distil(joined, Data(EXAMPLES, [], "x"), tmp_path / "student", student=StudentSettings(encoder_layers=1), plan=plan)
    with pytest.raises(CheckpointError, match="expected one checkpoint to trim, found an ensemble"):
        trim_checkpoint(joined, tmp_path / "trimmed", EXAMPLES)


def test_families_mix() -> None:
    """What counts is the vocabulary: a T5 and a Marian average too."""
    ensemble = Ensemble([make_t5(), make_marian()])
    ids = torch.tensor([[5, 6, 7, 1]])
    logits = ensemble(input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=torch.tensor([[0, 9]])).logits
    assert logits.shape == (1, 2, 48)
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(1, 2))


def test_a_full_disk_leaves_no_half_of_an_ensemble(members: list[Path], tmp_path: Path) -> None:
    """With room again the same call goes on."""
    with room_for(3000), pytest.raises(CheckpointError, match=r"joined: expected a place that can be written, .*make room"):
        write_ensemble(members, tmp_path / "joined")
    assert not list(tmp_path.iterdir())
    write_ensemble(members, tmp_path / "joined")
