"""The re-authored graph says what Hugging Face's model says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.export.models import build, t5
from transformers import BlenderbotSmallConfig, T5Config

from pocketseq.errors import CheckpointError
from pocketseq_export.graphs import KeyValue, author

SOURCE = torch.tensor([[5, 9, 17, 33, 64, 2, 7, 11, 3, 70, 8, 21, 6], [12, 4, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]])
MASK = (torch.arange(13) < torch.tensor([[13], [3]])).long()
TARGET = torch.tensor([[0, 5, 6, 50, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18], [0, 44, 45, 46, 47, 2, 3, 4, 5, 6, 7, 8, 9, 60, 6]])


def reference(model: Any) -> torch.Tensor:
    with torch.no_grad():
        logits = model(input_ids=SOURCE, attention_mask=MASK, decoder_input_ids=TARGET, use_cache=False).logits
    return torch.log_softmax(logits, dim=-1)


def grow(cache: tuple[KeyValue, ...], new: tuple[KeyValue, ...]) -> tuple[KeyValue, ...]:
    return tuple(
        KeyValue(torch.cat([old.key, own.key], dim=2), torch.cat([old.value, own.value], dim=2))
        for old, own in zip(cache, new, strict=True)
    )


@pytest.mark.parametrize("chunks", [[15], [1] * 15, [3, 1, 7, 4]], ids=["at once", "one by one", "in chunks"])
def test_log_probabilities_are_those_of_the_original(model: Any, chunks: list[int]) -> None:
    """However the target is cut into steps, with a padded batch and with every family."""
    graph = author(model)
    encoded = graph.encode(SOURCE, MASK)
    cache, position, found = graph.start(2), 0, []
    for size in chunks:
        stepped = graph.step(TARGET[:, position : position + size], position, MASK, encoded.cross, cache)
        found.append(stepped.logprobs)
        cache, position = grow(cache, stepped.new), position + size
    torch.testing.assert_close(torch.cat(found, dim=1), reference(model), atol=3e-5, rtol=1e-4)


def test_pooled_state_is_the_mean_over_real_tokens(model: Any) -> None:
    """Padding does not count."""
    encoded = author(model).encode(SOURCE, MASK)
    with torch.no_grad():
        states = model.get_encoder()(input_ids=SOURCE, attention_mask=MASK).last_hidden_state
    expected = torch.stack([states[0].mean(dim=0), states[1, :3].mean(dim=0)])
    torch.testing.assert_close(encoded.pooled, expected, atol=3e-5, rtol=1e-4)


def test_far_distances_share_the_last_bucket() -> None:
    """A source longer than the largest distance that T5's relative positions tell apart."""
    model = t5()
    ids = torch.randint(2, 90, (1, 60), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(input_ids=ids, decoder_input_ids=ids[:, :40]).logits.log_softmax(-1)
    graph, mask = author(model), torch.ones_like(ids)
    found = graph.step(ids[:, :40], 0, mask, graph.encode(ids, mask).cross, graph.start(1)).logprobs
    torch.testing.assert_close(found, expected, atol=3e-5, rtol=1e-4)


def test_a_forbidden_token_is_never_said(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marian's generation configuration bans its padding; the graph carries the ban, since it carries no generation code, of
    families too that have no bias of their own to carry it in. What is left is shared by the others as before.
    """
    monkeypatch.setattr(model.generation_config, "bad_words_ids", [[75]])
    graph = author(model)
    found = graph.step(TARGET, 0, MASK, graph.encode(SOURCE, MASK).cross, graph.start(2)).logprobs
    assert (found[..., 75] < -1e8).all()
    expected = reference(model).index_fill(-1, torch.tensor([75]), -torch.inf).log_softmax(-1)
    said = torch.arange(expected.shape[-1]) != 75
    torch.testing.assert_close(found[..., said], expected[..., said], atol=3e-5, rtol=1e-4)


def test_an_end_token_is_not_forbidden(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it stands: transformers says it all the same, and without it no answer would end."""
    monkeypatch.setattr(model.generation_config, "bad_words_ids", [[model.config.eos_token_id]])
    graph = author(model)
    found = graph.step(TARGET, 0, MASK, graph.encode(SOURCE, MASK).cross, graph.start(2)).logprobs
    torch.testing.assert_close(found, reference(model), atol=3e-5, rtol=1e-4)


def test_an_unsupported_architecture_is_refused_by_name() -> None:
    """With the list of those that can be exported."""
    config = BlenderbotSmallConfig(vocab_size=20, d_model=16, encoder_layers=1, decoder_layers=1)
    model = build("BlenderbotSmallForConditionalGeneration", config)
    with pytest.raises(CheckpointError, match="among bart, m2m_100, marian, mbart, mt5, pegasus, t5, found 'blenderbot-small'"):
        author(model)


def test_an_unknown_activation_is_refused_by_name() -> None:
    """Rather than replaced by another."""
    model = build("T5ForConditionalGeneration", T5Config(vocab_size=20, d_model=8, d_ff=8, num_layers=1, feed_forward_proj="relu2"))
    with pytest.raises(CheckpointError, match="found 'relu2'"):
        author(model)


def test_weights_that_are_no_numbers_are_refused() -> None:
    """The message names the tensor."""
    model = t5()
    with torch.no_grad():
        model.encoder.block[1].layer[0].SelfAttention.q.weight[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"NaN or infinity in 'encoder\.block\.1\.layer\.0\.SelfAttention\.q\.weight'"):
        author(model)
