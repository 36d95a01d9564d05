"""A model whose answers have the length that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sdk.tiny import write_bundle

from pocketseq import PocketModel
from pocketseq.errors import VariantNotFoundError
from pocketseq_bench.endless import open_endless


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants, not to be changed."""
    directory = tmp_path_factory.mktemp("endless") / "tiny"
    write_bundle(directory)
    return directory


def test_an_answer_goes_on_past_its_end(bundle: Path) -> None:
    """Text in, text, log-probabilities and a confidence out, like any answer; up to its end it is the same one."""
    with PocketModel.load(bundle, precision="half") as model, open_endless(bundle, precision="half") as endless:
        assert endless.variant.label == "onnx/half"
        for text in ("for i in range(10):", "x", "return"):
            plain, forced = model.generate(text), endless.generate(text, max_new_tokens=9)
            assert len(forced.tokens) == len(forced.token_logprobs) == 9
            natural = plain.tokens[:9]
            assert forced.tokens[: len(natural)] == natural
            assert forced.confidence is not None


def test_a_variant_that_is_not_there_is_an_error(bundle: Path) -> None:
    """As it is where a model is loaded."""
    with pytest.raises(VariantNotFoundError, match="found onnx/fp32, onnx/half"):
        open_endless(bundle, precision="int3")
