"""Every supported family, from its own configuration class to answers on the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.export.models import MAX_NEW_TOKENS, m2m100, write_checkpoint

from pocketseq.bundle import open_bundle
from pocketseq.decoding import Beams
from pocketseq.model import PocketModel
from pocketseq.tokenizer import TextTokenizer
from pocketseq_export import export_checkpoint
from pocketseq_export.parity import ask_checkpoint, compare
from pocketseq_export.reference import Reference

WORDS = ["for", "while", "return x", "def", "a == b", "Zebra", "lambda: 0", "x1"]


def test_the_device_says_what_transformers_says(model: Any, tmp_path: Path) -> None:
    """Greedily, token for token at full precision; in eight bits it answers too."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", model)
    export_checkpoint(checkpoint, tmp_path / "bundle", precisions=["fp32", "int8"])
    tokenizer = TextTokenizer.from_file(tmp_path / "bundle" / "tokenizer.json")
    questions = ask_checkpoint(Reference.load(checkpoint), tokenizer, WORDS)
    with PocketModel.load(tmp_path / "bundle", precision="fp32") as device:
        answers = [device.generate(question.fields) for question in questions]
        searched = [device.generate(word, beams=Beams(3, answers=3)) for word in WORDS]
        stepwise = [device.generate(word, beams=Beams(3, answers=3), deadline_s=3600) for word in WORDS]
    assert [answer.tokens for answer in answers] == [question.tokens for question in questions]
    assert len({answer.token_logprobs for answer in answers}) == len(WORDS)  # a model of noise listens too
    for one, other in zip(searched, stepwise, strict=True):  # whatever may happen between two steps changes no answer
        assert [(each.tokens, each.finish_reason) for each in one.hypotheses] == [
            (each.tokens, each.finish_reason) for each in other.hypotheses
        ]
        assert [each.score for each in one.hypotheses] == pytest.approx([each.score for each in other.hypotheses], abs=1e-4)
    with PocketModel.load(tmp_path / "bundle", precision="int8") as device:
        assert all(device.generate(question.fields).tokens for question in questions)


def test_a_forced_first_token_is_given_and_not_said(tmp_path: Path) -> None:
    """The target's language, which M2M100, NLLB and mBART put first, steers the answer and is no part of it."""
    answers = []
    for language in (7, 40):
        model = m2m100()
        model.generation_config.forced_bos_token_id = language
        checkpoint = write_checkpoint(tmp_path / f"checkpoint{language}", model)
        written = export_checkpoint(checkpoint, tmp_path / f"bundle{language}", precisions=["fp32"])
        assert written.generation.forced_prefix == (language,)
        with PocketModel.load(tmp_path / f"bundle{language}") as device:
            answers.append(device.generate("hello"))
            assert len(answers[-1].tokens) <= MAX_NEW_TOKENS
            assert device.generate_batch(["hello"])[0].tokens == answers[-1].tokens
    assert answers[0].token_logprobs != answers[1].token_logprobs


def test_a_forced_first_token_is_no_difference(tmp_path: Path) -> None:
    """Neither generations nor log-probabilities are compared on it: the checkpoint is given it as the variant is."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", m2m100())
    (variant,) = export_checkpoint(checkpoint, tmp_path / "bundle", precisions=["fp32"]).variants
    reference = Reference.load(checkpoint)
    tokenizer = TextTokenizer.from_file(tmp_path / "bundle" / "tokenizer.json")
    with open_bundle(tmp_path / "bundle") as bundle:
        parity = compare(reference, bundle, variant, ask_checkpoint(reference, tokenizer, WORDS)).parity
    assert parity.identical_generations == 1.0
    assert parity.max_abs_logit_difference < 1e-4
