"""Causal language models answer through text."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from tests.distill.models import OPINIONS, make_causal, repair_examples
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from pocketseq.errors import CheckpointError, RecipeError, TeacherError
from pocketseq_distill import precision
from pocketseq_distill.labelling.causal import CausalSettings, CausalTeacher
from pocketseq_distill.labelling.labels import LabelSettings, label_rows, read_labels
from pocketseq_distill.labelling.prompts import write_prompt
from pocketseq_distill.labelling.teacher import Asking, Question

EXAMPLES = repair_examples(5)
QUESTIONS = [Question(example.fields, seed=number) for number, example in enumerate(EXAMPLES)]
PROMPT = "wrong: {line}\nright:"


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of width 16 with a byte-level tokenizer trained here, and no token for padding."""
    return make_causal(tmp_path_factory.mktemp("gpt"), [example.target for example in EXAMPLES])


def teacher(gpt: Path, *, stop: tuple[str, ...] = (), tokens: int = 6) -> CausalTeacher:
    return CausalTeacher(CausalSettings(checkpoint=str(gpt), prompt=PROMPT, stop=stop, max_new_tokens=tokens))


def alone(gpt: Path, question: Question, tokens: int) -> tuple[str, float]:
    """The greedy continuation of one prompt and its log-probability, without a cache, a batch or padding."""
    model = GPT2LMHeadModel.from_pretrained(gpt).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(gpt)
    ids = tokenizer(write_prompt(PROMPT, question.fields))["input_ids"]
    begin, total = len(ids), 0.0
    for _ in range(tokens):
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        ids.append(int(logprobs.argmax()))
        total += float(logprobs.max())
        if ids[-1] == 0:
            break
    return tokenizer.decode(ids[begin:], skip_special_tokens=True), total


def test_what_follows_the_prompt_is_the_answer(gpt: Path) -> None:
    """In a padded batch as alone, with the log-probabilities of its tokens."""
    replies = teacher(gpt).ask(QUESTIONS, Asking(bf16=False))
    for question, reply in zip(QUESTIONS, replies, strict=True):
        text, logprob = alone(gpt, question, 6)
        (candidate,) = reply.candidates
        assert candidate.text == text.removeprefix(" ").rstrip()
        assert candidate.logprob == pytest.approx(logprob, abs=1e-3)
        assert candidate.finish_reason == "length"
        assert candidate.mean_logprob == pytest.approx(logprob / 6, abs=1e-3)


@pytest.mark.parametrize(("has_it", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_weights_kept_in_bfloat16_stay_so_where_the_device_computes_in_it(
    gpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_it: bool, dtype: torch.dtype
) -> None:
    """Elsewhere they are opened in float32, or every product would take the slow way."""
    GPT2LMHeadModel.from_pretrained(gpt).bfloat16().save_pretrained(tmp_path)
    PreTrainedTokenizerFast.from_pretrained(gpt).save_pretrained(tmp_path)
    monkeypatch.setattr(precision, "has_bf16", lambda _: has_it)
    model, _ = teacher(tmp_path)._loaded
    assert model.dtype == dtype


def test_answers_are_scored_a_few_rows_at_a_time(gpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All distributions of a batch would not fit beside a large vocabulary; the scores are the same."""
    whole = teacher(gpt).ask(QUESTIONS, Asking(bf16=False))
    monkeypatch.setattr("pocketseq_distill.labelling.causal._SCORED_TOKENS", 1)
    for one, other in zip(whole, teacher(gpt).ask(QUESTIONS, Asking(bf16=False)), strict=True):
        assert one.candidates[0].text == other.candidates[0].text
        assert one.candidates[0].logprob == pytest.approx(other.candidates[0].logprob, abs=1e-5)


def test_a_stop_string_ends_an_answer_and_is_none_of_it(gpt: Path) -> None:
    """Wherever it comes first; the token that brought it counts, as an end token does."""
    text, _ = alone(gpt, QUESTIONS[0], 6)
    stop = text[3:5]
    (candidate,) = teacher(gpt, stop=(stop, "never")).ask(QUESTIONS[:1], Asking(bf16=False))[0].candidates
    assert candidate.text == text[: text.index(stop)].removeprefix(" ").rstrip()
    assert candidate.finish_reason == "stop"
    assert candidate.logprob is not None
    assert candidate.logprob > alone(gpt, QUESTIONS[0], 6)[1]


def test_samples_of_a_row_are_its_own(gpt: Path) -> None:
    """Whatever is asked beside it; two of them differ."""
    how = Asking(candidates=3, temperature=1.0, bf16=False)
    every = teacher(gpt).ask(QUESTIONS, how)
    assert teacher(gpt).ask(QUESTIONS[3:], how) == every[3:]
    assert len({candidate.text for candidate in every[0].candidates}) > 1


@pytest.mark.parametrize("how", [{}, {"beams": 3}, {"temperature": 1.0}], ids=["greedy", "beams", "drawn"])
def test_what_a_checkpoint_prefers_decides_nothing(gpt: Path, tmp_path: Path, how: dict[str, float]) -> None:
    """Its own penalties and nuclei stay out, however it is asked; its end token is heeded."""
    opinionated = shutil.copytree(gpt, tmp_path / "gpt")
    file = opinionated / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | OPINIONS))
    asking = Asking(bf16=False, **how)  # type: ignore[arg-type]
    assert teacher(opinionated).ask(QUESTIONS, asking) == teacher(gpt).ask(QUESTIONS, asking)


def test_beams_give_several_answers(gpt: Path) -> None:
    """The best of three is at least as likely as the greedy one; more than there are beams are refused."""
    (best,) = (reply.candidates for reply in teacher(gpt).ask(QUESTIONS[:1], Asking(candidates=2, beams=3, bf16=False)))
    assert len({candidate.text for candidate in best}) == 2
    assert best[0].logprob is not None
    assert best[0].logprob >= alone(gpt, QUESTIONS[0], 6)[1] - 1e-3
    with pytest.raises(TeacherError, match="found 4 answers, 2 beams and temperature"):
        teacher(gpt).ask(QUESTIONS, Asking(candidates=4, beams=2))


def test_an_answer_ends_with_the_positions_of_the_model(gpt: Path) -> None:
    """For its own row alone: those beside it are answered as without it, and a prompt that leaves no position is counted."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(gpt)
    around = len(tokenizer(PROMPT.replace("{line}", ""))["input_ids"])
    close, full, over = (Question({"line": "#" * (128 - around - left)}) for left in (4, 0, -30))
    assert len(tokenizer(write_prompt(PROMPT, full.fields))["input_ids"]) == 128
    replies = teacher(gpt).ask([QUESTIONS[0], over, close, full, QUESTIONS[1]], Asking(bf16=False))
    assert [replies[0], replies[4]] == teacher(gpt).ask(QUESTIONS[:2], Asking(bf16=False))
    (candidate,) = replies[2].candidates
    assert (candidate.text, candidate.finish_reason) == (alone(gpt, close, 4)[0].removeprefix(" ").rstrip(), "length")
    assert [replies[1].failure, replies[3].failure] == ["malformed", "malformed"]
    assert "one whose tokens are 31 too many; shorten" in replies[1].why
    assert "one whose tokens are 1 too many; shorten" in replies[3].why


def test_it_labels(gpt: Path, tmp_path: Path) -> None:
    """As any teacher; prompt and stop strings are part of what its labels are bound to, and it travels by its path."""
    label_rows(EXAMPLES, teacher(gpt), tmp_path / "labels.jsonl", LabelSettings(bf16=False))
    assert read_labels(tmp_path / "labels.jsonl", EXAMPLES)["0-0"].text == alone(gpt, QUESTIONS[0], 6)[0].removeprefix(" ").rstrip()
    assert len({teacher(gpt).id, teacher(gpt, stop=("x",)).id}) == 2
    assert pickle.loads(pickle.dumps(teacher(gpt))).id == teacher(gpt).id


def test_what_is_no_causal_model_is_refused(tmp_path: Path) -> None:
    """Before rows are read."""
    with pytest.raises(CheckpointError, match=r"expected the directory of a causal language model .*, found none"):
        teacher(tmp_path)


def test_a_prompt_must_name_fields() -> None:
    """A place that no field fills is a slip; other braces stand for themselves."""
    assert write_prompt('{"x": "{line}"} {', {"line": "a {b}"}) == '{"x": "a {b}"} {'
    with pytest.raises(RecipeError, match=r"places such as \{line\} for the fields \['line'\], found \['lime'\]"):
        write_prompt("{lime}", {"line": "a"})
    with pytest.raises(RecipeError, match=r"found \[\]"):
        write_prompt("the same for all", {"line": "a"})
