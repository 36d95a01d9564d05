"""A trimmed checkpoint reads and says the same with fewer tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.distill.disk import room_for
from tests.distill.models import TEMPLATE, MakeModel, make_checkpoint, make_marian, repair_examples
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import CheckpointError
from pocketseq_distill.checkpoints import save_checkpoint
from pocketseq_distill.corpus.vocabulary import save_tokenizer
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.students.trimming import trim_checkpoint

FEW = repair_examples(3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("whole") / "teacher")


@pytest.fixture(scope="module")
def trimmed(whole: Path) -> Path:
    output = whole.with_name("trimmed")
    found = trim_checkpoint(whole, output, FEW)
    assert 0 < found.tokens < found.tokens_before
    assert found.parameters_before - found.parameters == 16 * (found.tokens_before - found.tokens)
    return output


def pieces(teacher: TeacherModel, ids: list[int]) -> list[str]:
    return list(teacher.tokenizer.pieces(ids))


def test_texts_of_the_task_are_read_piece_for_piece_as_before(whole: Path, trimmed: Path) -> None:
    """Numbers change, pieces do not; the answers are written with the same pieces too."""
    before, after = TeacherModel.load(whole), TeacherModel.load(trimmed)
    for example in FEW:
        old, new = before.encode(example.fields), after.encode(example.fields)
        assert pieces(before, old.ids) == pieces(after, new.ids)
        target = [
            TEMPLATE.encode_target(model.tokenizer, encoded, example.target) for model, encoded in ((before, old), (after, new))
        ]
        assert pieces(before, target[0] or []) == pieces(after, target[1] or [])


def test_the_probabilities_are_those_of_the_tokens_that_are_left(whole: Path, trimmed: Path) -> None:
    """The logit of every token that stayed is the same, on every prefix."""
    before, after = TeacherModel.load(whole), TeacherModel.load(trimmed)
    names = pieces(after, list(range(after.tokenizer.size)))
    old_numbers = [number for number, piece in enumerate(pieces(before, list(range(before.tokenizer.size)))) if piece in set(names)]
    assert len(old_numbers) == len(names)
    old, new = (torch.tensor([model.encode(FEW[0].fields).ids]) for model in (before, after))
    with torch.no_grad():
        expected = before.model(input_ids=old, decoder_input_ids=old[:, :4]).logits[..., old_numbers]
        found = after.model(input_ids=new, decoder_input_ids=new[:, :4]).logits
    torch.testing.assert_close(found, expected)


def test_any_other_text_is_still_read_and_written(trimmed: Path) -> None:
    """Words that no row had are spelled out; nothing is unknown."""
    tokenizer = TeacherModel.load(trimmed).tokenizer
    for text in ("quixotic = Zürich[7]", "日本\U0001f600", "while"):
        assert tokenizer.decode(tokenizer.text_ids(text)) == text


def test_a_transformers_user_sees_the_same_tokenizer(trimmed: Path) -> None:
    """The settings beside ``tokenizer.json`` name special tokens by their new numbers."""
    from transformers import AutoTokenizer

    fast = AutoTokenizer.from_pretrained(trimmed)
    ours = TeacherModel.load(trimmed)
    assert fast.eos_token_id == ours.model.config.eos_token_id == ours.tokenizer.special_id("</s>")
    assert fast("while value", add_special_tokens=False)["input_ids"] == ours.tokenizer.text_ids("while value")


def unigram(path: Path, make: MakeModel) -> Path:
    """A checkpoint whose tokenizer is a unigram model, as SentencePiece makes them, with its special tokens last."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=44, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator([example.target for example in repair_examples(200)], trainer)
    tokenizer.add_special_tokens(["<pad>", "</s>"])
    save_tokenizer(tokenizer, path.with_name("unigram-tokenizer"))
    model = make()
    for settings in (model.config, model.generation_config):
        settings.pad_token_id = settings.decoder_start_token_id = tokenizer.token_to_id("<pad>")
        settings.eos_token_id = tokenizer.token_to_id("</s>")
    model.generation_config.bad_words_ids = [[tokenizer.token_to_id("<pad>")]]
    from pocketseq.template import Field, Template

    template = Template(fields=(Field(name="line", max_tokens=24),), primary="line")
    save_checkpoint(
        model,
        path,
        card=CheckpointCard(task="t", template=template, max_new_tokens=8),
        tokenizer=path.with_name("unigram-tokenizer"),
    )
    return path


def test_a_unigram_vocabulary_is_trimmed_and_its_settings_renumbered(tmp_path: Path) -> None:
    """Marian's padding is its last token, starts every answer and is never said: all three under its new number."""
    path = unigram(tmp_path / "marian", make_marian)
    rows = [type(FEW[0])(id="1", fields={"line": "for value"}, target="for value", kind="", source="")]
    found = trim_checkpoint(path, tmp_path / "small", rows)
    assert found.tokens < found.tokens_before
    before, after = TeacherModel.load(path), TeacherModel.load(tmp_path / "small")
    pad = after.tokenizer.special_id("<pad>")
    assert after.model.config.decoder_start_token_id == pad
    assert after.model.generation_config.bad_words_ids == [[pad]]
    assert pieces(before, before.tokenizer.text_ids("for value")) == pieces(after, after.tokenizer.text_ids("for value"))
    ids = before.tokenizer.text_ids("for value")
    names = pieces(after, list(range(after.tokenizer.size)))
    everything = pieces(before, list(range(before.tokenizer.size)))
    with torch.no_grad():
        expected = before.model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([ids])).logits
        new = torch.tensor([after.tokenizer.text_ids("for value")])
        logits = after.model(input_ids=new, decoder_input_ids=new).logits
    torch.testing.assert_close(logits, expected[..., [everything.index(name) for name in names]])


def test_a_tokenizer_of_another_kind_is_refused(whole: Path, tmp_path: Path) -> None:
    """WordPiece chooses the longest piece: without one, others would be cut differently."""
    path = tmp_path / "wordpiece"
    shutil.copytree(whole, path)
    document = json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))
    document["model"] = {
        "type": "WordPiece",
        "unk_token": "<unk>",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": document["model"]["vocab"],
    }
    (path / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(CheckpointError, match="expected a tokenizer of type BPE or Unigram, found 'WordPiece'"):
        trim_checkpoint(path, tmp_path / "out", FEW)


def with_settings(whole: Path, path: Path, **settings: object) -> Path:
    """A copy whose ``generation_config.json`` says something more."""
    shutil.copytree(whole, path)
    file = path / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **settings}), encoding="utf-8")
    return path


def words(whole: Path) -> list[int]:
    """Tokens of two characters or more, the longest first; a row of one letter uses none of them."""
    tokenizer = TeacherModel.load(whole).tokenizer
    spelt = {token: len(tokenizer.decode([token])) for token in range(tokenizer.size)}
    return sorted((token for token, length in spelt.items() if length > 1), key=lambda token: -spelt[token])


LETTER = [type(FEW[0])(id="1", fields={"line": "z", "after": "z"}, target="z", kind="", source="")]


def test_a_ban_goes_with_its_token(whole: Path, tmp_path: Path) -> None:
    """Under its old number it would fall on another token, or on none; what is left keeps its ban, and an empty list is none."""
    gone, end = words(whole)[:2], 1
    banned = {"bad_words_ids": [[gone[0]], [end, gone[1]], [end]], "suppress_tokens": [*gone, end], "begin_suppress_tokens": gone}
    trim_checkpoint(with_settings(whole, tmp_path / "bans", **banned), tmp_path / "small", LETTER)
    trimmed = TeacherModel.load(tmp_path / "small")
    end = trimmed.model.config.eos_token_id
    settings = trimmed.model.generation_config
    assert (settings.bad_words_ids, settings.suppress_tokens, settings.begin_suppress_tokens) == ([[end]], [end], None)
    assert isinstance(trimmed.answer([LETTER[0].fields])[0].text, str)


def test_a_token_with_a_part_of_its_own_stays(whole: Path, tmp_path: Path) -> None:
    """No row has it, but every answer begins with it, or may end with it."""
    first, end = words(whole)[:2]
    path = with_settings(whole, tmp_path / "parts", forced_bos_token_id=first, eos_token_id=[1, end])
    trim_checkpoint(path, tmp_path / "small", LETTER)
    before, after = TeacherModel.load(path), TeacherModel.load(tmp_path / "small")
    settings = after.model.generation_config
    assert pieces(after, [settings.forced_bos_token_id, *settings.eos_token_id]) == pieces(before, [first, 1, end])


def test_a_full_disk_is_told_and_leaves_nothing(whole: Path, tmp_path: Path) -> None:
    """The tokenizer is written first, elsewhere; with room again the same call goes on."""
    output = tmp_path / "small"
    words = r"expected a place that can be written, found: .*File too large; make room"
    with room_for(1000), pytest.raises(CheckpointError, match=words):
        trim_checkpoint(whole, output, FEW)
    assert not list(tmp_path.iterdir())
    assert trim_checkpoint(whole, output, FEW).tokens
