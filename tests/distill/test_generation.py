"""Asking a teacher: the one decoder behind labels, evaluation and the server."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import pocketseq_distill.decoder as decoder_module
from pocketseq.errors import CheckpointError, InputError
from pocketseq.template import Template
from pocketseq_distill.decoder import Decoder, Prompt
from pocketseq_distill.generation import Request, TeacherModel

from .models import OPINIONS, MakeModel, make_checkpoint, make_t5, repair_examples
from .weights import loud

LENGTHS = (3, 9, 5, 7, 14)


def prompts(temperature: float = 0.0) -> list[Prompt]:
    random = torch.Generator().manual_seed(1)
    rows = [torch.randint(3, 48, (length,), generator=random).tolist() for length in LENGTHS]
    return [Prompt([*row, 1], 10, temperature, seed) for seed, row in enumerate(rows)]


@pytest.fixture
def decoder(make_model: MakeModel) -> Decoder:
    return Decoder(loud(make_model()))


def test_greedy_is_what_transformers_generates(decoder: Decoder) -> None:
    """For every family tokens and raw log-probabilities are those of transformers' own greedy search."""
    emissions = decoder.decode(prompts())
    assert len({tuple(emission.tokens) for emission in emissions}) > 1
    for prompt, emission in zip(prompts(), emissions, strict=True):
        expected = decoder.model.generate(
            input_ids=torch.tensor([prompt.ids]),
            max_new_tokens=10,
            do_sample=False,
            num_beams=1,
            output_logits=True,
            return_dict_in_generate=True,
        )
        tokens = expected.sequences[0, 1:].tolist()
        assert emission.tokens == tokens
        logprobs = [step[0].log_softmax(-1)[token].item() for step, token in zip(expected.logits, tokens, strict=True)]
        assert emission.logprobs == pytest.approx(logprobs, abs=1e-4)


@pytest.mark.parametrize("temperature", [1e-6, 1e-30, 1e-39, 1e-60])
def test_next_to_no_temperature_is_none(decoder: Decoder, temperature: float) -> None:
    """Nor is it so small that there is no distribution left to draw from."""
    cold = decoder.decode(prompts(temperature))
    assert [emission.tokens for emission in cold] == [emission.tokens for emission in decoder.decode(prompts())]


def test_a_batch_answers_as_each_row_alone(decoder: Decoder) -> None:
    """Padding, neighbours and rows that leave early make no difference, greedy or sampled."""
    for temperature in (0.0, 1.0):
        together = decoder.decode(prompts(temperature))
        alone = [decoder.decode([prompt])[0] for prompt in prompts(temperature)]
        assert [emission.tokens for emission in together] == [emission.tokens for emission in alone]


def test_unlike_budgets_share_a_batch(decoder: Decoder) -> None:
    """Each row keeps to its own budget; a budget of nothing gives nothing."""
    whole = decoder.decode(prompts())
    cut = decoder.decode([Prompt(prompt.ids, budget) for budget, prompt in enumerate(prompts())])
    for budget, (emission, cut_emission) in enumerate(zip(whole, cut, strict=True)):
        assert cut_emission.tokens == emission.tokens[:budget]
    assert decoder.decode([Prompt([5, 1], 0)])[0].tokens == []
    assert decoder.decode([]) == []


def test_sampling_follows_its_seed(decoder: Decoder) -> None:
    """The same seed draws the same tokens, another seed others; log-probabilities are those of temperature 1."""
    (ids, *_) = (prompt.ids for prompt in prompts())
    first, again, other = decoder.decode([Prompt(ids, 10, 2.0, 7), Prompt(ids, 10, 2.0, 7), Prompt(ids, 10, 2.0, 8)])
    assert first == again
    assert first.tokens != other.tokens
    decoder_ids = torch.tensor([[0, *first.tokens[:-1]]])
    with torch.no_grad():
        logits = decoder.model(input_ids=torch.tensor([ids]), decoder_input_ids=decoder_ids).logits[0]
    raw = logits.log_softmax(-1)[torch.arange(len(first.tokens)), first.tokens]
    assert first.logprobs == pytest.approx(raw.tolist(), abs=1e-4)


def test_beams_are_those_of_transformers(decoder: Decoder) -> None:
    """Beam search gives transformers' answer, with the raw log-probabilities of its tokens."""
    for prompt, (emission,) in zip(prompts(), decoder.search(prompts(), beams=3), strict=True):
        expected = decoder.model.generate(input_ids=torch.tensor([prompt.ids]), max_new_tokens=10, num_beams=3)
        assert emission.tokens == expected[0, 1:].tolist()
        with torch.no_grad():
            decoder_ids = torch.tensor([[0, *emission.tokens[:-1]]])
            logits = decoder.model(input_ids=torch.tensor([prompt.ids]), decoder_input_ids=decoder_ids).logits[0]
        raw = logits.log_softmax(-1)[torch.arange(len(emission.tokens)), emission.tokens]
        assert emission.logprobs == pytest.approx(raw.tolist(), abs=1e-4)


def test_beams_are_those_that_were_asked_for_whatever_the_checkpoint_prefers(decoder: Decoder) -> None:
    """Its own lengths, penalties and sampling stay out of labels, and in its configuration."""
    found = decoder.search(prompts(), beams=3, best=2)
    decoder.model.generation_config.update(**OPINIONS)
    assert decoder.search(prompts(), beams=3, best=2) == found
    assert decoder.model.generation_config.min_length == 7


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    """At the temperature that was asked for, in a batch of many: the greatest difference is what chance allows."""
    decoder = Decoder(loud(make_t5()))
    ids, draws = prompts()[0].ids, 4000
    drawn = [emission.tokens[0] for emission in decoder.decode([Prompt(ids, 1, 2.0, seed) for seed in range(draws)])]
    with torch.no_grad():
        logits = decoder.model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([[0]])).logits[0, -1]
    expected = (logits / 2.0).softmax(-1)
    found = torch.bincount(torch.tensor(drawn), minlength=len(expected)) / draws
    assert expected.max() < 0.9
    assert (found - expected).abs().max() < 4 * 0.5 / math.sqrt(draws)


def test_finished_beams_are_scored_a_few_at_a_time(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few, the answers are told the same log-probabilities."""
    whole = decoder.search(prompts(), beams=3, best=2)
    monkeypatch.setattr(decoder_module, "_SCORED_TOKENS", 12)
    for several, others in zip(whole, decoder.search(prompts(), beams=3, best=2), strict=True):
        assert [emission.tokens for emission in several] == [emission.tokens for emission in others]
        for emission, other in zip(several, others, strict=True):
            assert emission.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_the_caller_can_end_a_row(decoder: Decoder) -> None:
    """A row whose listener says no ends there; the others go on."""
    heard: list[int] = []

    def on_token(row: int, token: int, logprob: float) -> bool:
        heard.append(row)
        return row != 1

    emissions = decoder.decode(prompts(), on_token)
    assert len(emissions[1].tokens) == 1
    assert heard.count(1) == 1
    assert [emission.tokens for emission in emissions[2:]] == [emission.tokens for emission in decoder.decode(prompts())[2:]]


def test_forced_and_banned_tokens_are_heeded() -> None:
    """A first token that the checkpoint forces, such as a language, is emitted; a token that it bans never is."""
    model = loud(make_t5())
    usual = Decoder(model).decode(prompts())[0].tokens
    model.generation_config.forced_bos_token_id = 9
    model.generation_config.bad_words_ids = [[usual[0]], [usual[-1]]]
    changed = Decoder(model).decode(prompts())[0].tokens
    assert changed[0] == 9
    assert not {usual[0], usual[-1]} & set(changed)


def test_an_end_token_is_never_banned() -> None:
    """Wherever it stands, as in transformers: without it no answer would end."""
    model = loud(make_t5())
    said = [emission.tokens for emission in Decoder(model).decode(prompts())]
    model.generation_config.eos_token_id = said[0][0]
    model.generation_config.bad_words_ids = [[said[0][0]]]
    assert Decoder(model).decode(prompts())[0].tokens == said[0][:1]


def test_a_model_without_a_start_is_refused() -> None:
    """A configuration that names no start token is no encoder-decoder that can answer."""
    model = make_t5()
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = None
    with pytest.raises(CheckpointError, match="decoder_start_token_id and eos_token_id"):
        Decoder(model)


@pytest.fixture(scope="module")
def teacher(teacher_path: Path) -> TeacherModel:
    return TeacherModel.load(teacher_path)


def test_answers_come_in_the_order_of_the_inputs(teacher: TeacherModel) -> None:
    """Inputs are batched by length; each answer still stands at its input's place, and says how it was read."""
    inputs = [example.fields for example in repair_examples(9)]
    answers = teacher.answer(inputs, batch_size=4)
    assert [answer.tokens for answer in answers] == [teacher.answer([source])[0].tokens for source in inputs]
    for source, answer in zip(inputs, answers, strict=True):
        encoded = teacher.encode(source)
        assert answer.prompt_tokens == len(encoded.ids)
        ended = answer.tokens[-1] in teacher.decoder.end_ids
        assert answer.finish_reason == ("stop" if ended else "length")
        content = answer.tokens[:-1] if ended else answer.tokens
        assert answer.text == teacher.card.template.decode(teacher.tokenizer, content, encoded)
        assert all(math.isfinite(logprob) and logprob <= 0 for logprob in answer.token_logprobs)


def test_an_edit_is_served_as_the_whole_line(teacher: TeacherModel) -> None:
    """A model that emits edits answers with the whole corrected text."""
    encoded = teacher.encode({"line": "fo value"})
    mark = teacher.tokenizer.special_id("<m0>")
    assert mark is not None
    request = Request(encoded, 8)
    emission = teacher.decoder.decode([request.prompt])[0]
    emission.tokens[:] = [mark, mark + 1, *teacher.tokenizer.text_ids("for"), 1]
    assert teacher.read(request, emission).text == "for value"


def test_truncation_is_told(teacher: TeacherModel) -> None:
    """An answer to an input that was cut names the fields."""
    assert teacher.answer(["name " * 50])[0].truncated == ("line",)


def test_beams_and_temperature_exclude_each_other(teacher: TeacherModel) -> None:
    """Beam search does not sample."""
    with pytest.raises(InputError, match="beams or a temperature"):
        teacher.answer(["x"], beams=2, temperature=1.0)


def test_bad_input_is_refused(teacher: TeacherModel) -> None:
    """Input that the template does not take is an InputError."""
    with pytest.raises(InputError, match="expected text"):
        teacher.answer([""])


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    """Weights that cannot be read are a CheckpointError that names the directory."""
    path = make_checkpoint(tmp_path / "teacher")
    (path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="expected weights that transformers can load"):
        TeacherModel.load(path)


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    """A checkpoint without a tokenizer is a CheckpointError."""
    path = make_checkpoint(tmp_path / "teacher")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        TeacherModel.load(path)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    """A tokenizer with more ids than the model embeds would fail in the middle of an answer: it is refused at the start."""
    path = make_checkpoint(tmp_path / "teacher")
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    vocab["unheard-of"] = len(vocab)
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(CheckpointError, match="which is what the model embeds"):
        TeacherModel.load(path)


def test_a_vocabulary_without_the_special_tokens_is_refused(tmp_path: Path) -> None:
    """Those of the template's literals, whose letters the model would read, and the marks of edits."""
    path = make_checkpoint(tmp_path / "teacher")
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    lost = {"<after>", "<m0>"}
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] not in lost]
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(CheckpointError, match=r"expected the special tokens \['<after>', '<m0>'\] of the input template"):
        TeacherModel.load(path)
    (path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"expected a tokenizer\.json that can be read, found"):
        TeacherModel.load(path)


def test_code_from_a_checkpoint_is_not_executed(tmp_path: Path) -> None:
    """A checkpoint that brings its own model code is refused, and the code does not run."""
    path = make_checkpoint(tmp_path / "teacher")
    config = json.loads((path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForSeq2SeqLM": "own.Model"}}
    (path / "config.json").write_text(json.dumps(config))
    witness = tmp_path / "ran"
    (path / "own.py").write_text(f"import pathlib\npathlib.Path({str(witness)!r}).touch()\n")
    with pytest.raises(CheckpointError):
        TeacherModel.load(path)
    assert not witness.exists()


def test_the_longest_answer_follows_the_positions(teacher: TeacherModel) -> None:
    """Learned positions bound an answer; relative ones leave a plain bound."""
    assert teacher.max_new_tokens_limit == 1024
    teacher.model.config.max_position_embeddings = 64
    assert teacher.max_new_tokens_limit == 64
    del teacher.model.config.max_position_embeddings


@pytest.mark.parametrize("beams", [1, 2])
def test_an_answer_ends_with_the_positions(teacher: TeacherModel, monkeypatch: pytest.MonkeyPatch, beams: int) -> None:
    """However long it was to be, for a table of positions has no more rows; relative ones bound nothing."""
    asked: list[int] = []
    read = teacher.read
    monkeypatch.setattr(teacher, "read", lambda request, emission: asked.append(request.max_new_tokens) or read(request, emission))
    monkeypatch.setattr(teacher.model.config, "max_position_embeddings", 5, raising=False)
    inputs = [repair_examples(1)[0].fields]
    assert len(teacher.answer(inputs, max_new_tokens=60, beams=beams)[0].tokens) <= 5
    teacher.answer(inputs, beams=beams)  # the card says 8
    teacher.candidates(inputs, 2, max_new_tokens=60, temperature=float(beams == 1), beams=beams)
    teacher.answer(inputs, max_new_tokens=3, beams=beams)
    assert asked == [5, 5, 5, 5, 3]
    monkeypatch.delattr(teacher.model.config, "max_position_embeddings")
    teacher.answer(inputs, max_new_tokens=12, beams=beams)
    assert asked[-1] == 12


def test_a_plain_template_is_answered_as_text(tmp_path: Path) -> None:
    """A checkpoint whose output is the text itself answers with what its tokens spell."""
    fields = Template.from_json({"fields": [{"name": "text", "max_tokens": 16}], "primary": "text"})
    plain = TeacherModel.load(make_checkpoint(tmp_path / "plain", template=fields))
    answer = plain.answer(["value"])[0]
    assert answer.text == plain.tokenizer.decode(answer.tokens)
