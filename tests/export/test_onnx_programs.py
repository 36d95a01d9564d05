"""ONNX programs say what the original model says, run by the SDK's own runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tests.export.models import VOCAB, bart, m2m100, t5, untied_t5

from pocketseq.decoding import Beams, Decoded, beam_answers, beam_search, outcome
from pocketseq.errors import CheckpointError
from pocketseq.manifest import Geometry
from pocketseq.runtimes.onnx import OnnxRuntime
from pocketseq_export.graphs import EncoderDecoder, author
from pocketseq_export.onnx import PRECISIONS, write_programs

RANDOM = np.random.default_rng(0)
SOURCE = RANDOM.integers(2, 79, (2, 13))
MASK = (np.arange(13) < np.array([[13], [3]])).astype(np.int64)
TARGET = RANDOM.integers(2, 79, (2, 9))


def geometry(graph: EncoderDecoder) -> Geometry:
    spec, stack = graph.spec, graph.spec.decoder
    return Geometry(
        vocab_size=spec.vocab_size,
        d_model=spec.d_model,
        encoder_layers=spec.encoder.layers,
        decoder_layers=stack.layers,
        heads=stack.heads,
        head_dim=stack.head_dim,
        start_id=0,
        end_id=1,
        pad_id=0,
        max_target_tokens=40,
    )


def open_programs(graph: EncoderDecoder, directory: Path, precision: str, keep: Sequence[str] = ()) -> OnnxRuntime:
    files = write_programs(graph, directory, precision=precision, keep=keep)
    return OnnxRuntime({file.name: file for file in files}, geometry(graph))


def decode(runtime: OnnxRuntime, chunks: list[int], rows: slice = slice(None)) -> np.ndarray:
    memory = runtime.encode(SOURCE[rows], MASK[rows])
    cache, position, found = runtime.start(len(SOURCE[rows])), 0, []
    for size in chunks:
        step = runtime.step(TARGET[rows, position : position + size], memory, cache)
        found.append(step.logprobs)
        cache, position = step.cache, position + size
    return np.concatenate(found, axis=1)


def original(model: Any) -> np.ndarray:
    source, mask, target = torch.tensor(SOURCE), torch.tensor(MASK), torch.tensor(TARGET)
    with torch.no_grad():
        logits = model(input_ids=source, attention_mask=mask, decoder_input_ids=target, use_cache=False).logits
    return logits.log_softmax(-1).numpy()


@pytest.mark.parametrize("chunks", [[9], [1] * 9, [2, 1, 6]], ids=["at once", "one by one", "in chunks"])
def test_fp32_log_probabilities_are_those_of_the_original(model: Any, chunks: list[int], tmp_path: Path) -> None:
    """Every family, a padded batch, an empty cache at first, and chunks of several tokens."""
    runtime = open_programs(author(model), tmp_path, "fp32")
    np.testing.assert_allclose(decode(runtime, chunks), original(model), atol=1e-4)


@pytest.mark.parametrize("kept", [[0, 0, 0, 1, 1, 1], [1, 1, 1], [0, 0, 1]], ids=["as many", "of one source", "not as many"])
def test_rows_of_one_source_read_it_together(model: Any, kept: list[int], tmp_path: Path) -> None:
    """Beams answer as each would beside keys and values of its own, whether there are as many for each source or not."""
    runtime = open_programs(author(model), tmp_path, "fp32")
    memory, rows = runtime.encode(SOURCE, MASK), np.array(kept)
    first = runtime.step(TARGET[:, :1], memory, runtime.start(2))
    beams, cache = runtime.select(memory, first.cache, rows)
    tokens = RANDOM.integers(2, 79, (len(kept), 3))
    found = runtime.step(tokens, beams, cache)
    for place, row in enumerate(kept):
        alone = runtime.encode(SOURCE[row : row + 1], MASK[row : row + 1])
        begun = runtime.step(TARGET[row : row + 1, :1], alone, runtime.start(1))
        expected = runtime.step(tokens[place : place + 1], alone, begun.cache).logprobs[0]
        np.testing.assert_allclose(found.logprobs[place], expected, atol=1e-4)
    run = runtime.greedy(tokens[:, -1:], beams, runtime.keep(found.cache, 3), end_id=-1, limit=2)
    again, turned = runtime.select(beams, found.cache, np.arange(len(kept))[::-1])
    assert (
        runtime.greedy(tokens[::-1, -1:], again, runtime.keep(turned, 3), end_id=-1, limit=2).ids.tolist() == run.ids[::-1].tolist()
    )


def test_pooled_state_is_that_of_the_graph(model: Any, tmp_path: Path) -> None:
    """The mean over the tokens that are not padding."""
    graph = author(model)
    pooled = open_programs(graph, tmp_path, "fp32").encode(SOURCE, MASK).pooled
    np.testing.assert_allclose(pooled, graph.encode(torch.tensor(SOURCE), torch.tensor(MASK)).pooled.numpy(), atol=1e-5)


def test_int8_is_close_to_the_original(model: Any, tmp_path: Path) -> None:
    """As a distribution: a fiftieth of a nat of divergence at most, in models whose weights are noise."""
    found, expected = decode(open_programs(author(model), tmp_path, "int8"), [9]), original(model)
    divergence = (np.exp(expected) * (expected - found)).sum(axis=-1)
    assert divergence.mean() < 0.02
    assert np.abs(np.exp(found).sum(axis=-1) - 1).max() < 1e-4


@pytest.mark.parametrize(("precision", "most"), [("fp16", 1e-4), ("int8w", 0.01), ("int4", 0.5)])
@pytest.mark.parametrize("build", [t5, bart, m2m100], ids=["t5", "bart", "m2m100"])
def test_other_precisions_are_close_to_the_original(build: Any, precision: str, most: float, tmp_path: Path) -> None:
    """As a mean divergence in nats; four bits cost a model of noise most."""
    model = build()
    found, expected = decode(open_programs(author(model), tmp_path, precision), [9]), original(model)
    divergence = float((np.exp(expected) * (expected - found)).sum(axis=-1).mean())
    assert abs(divergence) < most


def test_kept_layers_are_written_in_a_higher_precision(tmp_path: Path) -> None:
    """The answers come closer and the file grows; a token table that is the output too goes with it, and stays one."""
    model = t5()
    graph = author(model)
    layers = [name for name, module in graph.named_modules() if isinstance(module, torch.nn.Linear)]
    sizes, errors = [], []
    for number, keep in enumerate(([], ["encoder.layers.0.ffn.output"], layers)):
        (tmp_path / str(number)).mkdir()
        found = decode(open_programs(graph, tmp_path / str(number), "int4", keep=keep), [9])
        errors.append(float(np.abs(found - original(model)).mean()))
        sizes.append((tmp_path / str(number) / "int4" / "weights.bin").stat().st_size)
    assert sizes[0] < sizes[1] < sizes[2] <= sum(parameter.numel() for parameter in graph.parameters()) * 1.6
    assert errors[2] < errors[0]


def test_numbers_beyond_float16_are_refused(tmp_path: Path) -> None:
    """The message names the weight."""
    graph = author(t5())
    with torch.no_grad():
        graph.encoder.layers[0].ffn.input.weight[0, 0] = 1e6
    with pytest.raises(CheckpointError, match=r"fp16 holds numbers up to 65504, found 1e\+06 in 'encoder\.layers\.0\.ffn\.input'"):
        write_programs(graph, tmp_path, precision="fp16")


def test_an_int8_decoder_does_not_depend_on_the_size_of_a_step(tmp_path: Path) -> None:
    """Activations are quantized row by row, so that a draft verified at once gives what one token at a time gives."""
    runtime = open_programs(author(t5()), tmp_path, "int8")
    np.testing.assert_allclose(decode(runtime, [9]), decode(runtime, [1] * 9), atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_loop_says_what_single_steps_say(model: Any, precision: str, tmp_path: Path) -> None:
    """Every family, a padded batch: the same tokens, log-probabilities and cache, and it goes on from where it stopped."""
    runtime = open_programs(author(model), tmp_path, precision)
    memory = runtime.encode(SOURCE, MASK)
    ids, cache = TARGET[:, :1], runtime.start(2)
    expected_ids, expected_logprobs = [], []
    for _ in range(9):
        step = runtime.step(ids, memory, cache)
        cache, ids = step.cache, step.logprobs[:, -1].argmax(axis=-1)[:, None]
        expected_ids.append(ids)
        expected_logprobs.append(np.take_along_axis(step.logprobs[:, -1], ids, axis=-1))
    first = runtime.greedy(TARGET[:, :1], memory, runtime.start(2), end_id=-1, limit=4)
    second = runtime.greedy(first.ids[:, -1:], memory, first.cache, end_id=-1, limit=5)
    np.testing.assert_array_equal(np.hstack((first.ids, second.ids)), np.hstack(expected_ids))
    np.testing.assert_allclose(np.hstack((first.logprobs, second.logprobs)), np.hstack(expected_logprobs), atol=1e-4)
    assert (first.cache.length, second.cache.length) == (4, 9)
    for name, value in second.cache.feeds.items():
        np.testing.assert_allclose(value, cache.feeds[name], atol=1e-4)


def test_the_loop_ends_when_every_row_has_met_the_end(tmp_path: Path) -> None:
    """Not before, and a row that goes on is not disturbed by one that has ended."""
    runtime = open_programs(author(bart()), tmp_path, "fp32")
    memory = runtime.encode(SOURCE, MASK)

    def loop(end_id: int) -> np.ndarray:
        return runtime.greedy(TARGET[:, :1], memory, runtime.start(2), end_id=end_id, limit=12).ids

    free = loop(-1)
    for end_id in np.unique(free):
        ends = [int((row == end_id).argmax()) if end_id in row else 11 for row in free]
        np.testing.assert_array_equal(loop(int(end_id)), free[:, : max(ends) + 1])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("early_stopping", [True, False])
def test_a_search_in_one_call_finds_what_single_steps_find(
    model: Any, precision: str, early_stopping: bool, tmp_path: Path
) -> None:
    """Every family, whichever token is the end: the same answers in the same order, with the same log-probabilities,
    scores and spread."""
    graph = author(model)
    runtime = open_programs(graph, tmp_path, precision)
    memory = runtime.encode(SOURCE[:1], MASK[:1])
    likely = runtime.step(TARGET[:1, :1], memory, runtime.start(1)).logprobs[0, 0].argsort()[::-1]
    for end, prompt in ((likely[0], TARGET[0, :1]), (likely[1], TARGET[0, :3]), (likely[40], TARGET[0, :1])):
        search: dict[str, Any] = {
            "end_id": int(end),
            "max_new_tokens": 7,
            "beams": Beams(4, 4, early_stopping=early_stopping),
        }
        expected = outcome(beam_search(runtime, memory, rows=[0], prompt=prompt.tolist(), spread=True, **search))[0]
        found = beam_answers(runtime, memory, prompt=prompt[None], vocab_size=graph.spec.vocab_size, **search)
        assert found is not None
        assert [(one.ids, one.finish_reason) for one in found] == [(one.ids, one.finish_reason) for one in expected]
        for mine, its in zip(found, expected, strict=True):
            assert mine.logprobs == pytest.approx(its.logprobs, abs=1e-4)
            assert mine.score == pytest.approx(its.score, abs=1e-4)
            np.testing.assert_allclose(mine.spread, its.spread, atol=1e-3)


def test_a_search_ends_when_no_open_beam_can_be_an_answer_that_is_wanted(tmp_path: Path) -> None:
    """The fewer are wanted, the sooner; never before there are as many."""
    graph = author(t5())
    runtime = open_programs(graph, tmp_path, "fp32")
    memory = runtime.encode(SOURCE[:1], MASK[:1])
    likely = runtime.step(TARGET[:1, :1], memory, runtime.start(1)).logprobs[0, 0].argmax()
    lengths, rounds = np.arange(1, 13, dtype=np.float32), []
    for wanted in (1, 2, 4):
        trellis = runtime.beams(
            TARGET[:1, :1],
            memory,
            runtime.start(1),
            end_id=int(likely),
            count=4,
            answers=wanted,
            lengths=lengths,
            reaches=np.full_like(lengths, 1e6),
            bounds=np.full_like(lengths, 0.5),
        )
        assert trellis is not None
        assert trellis.places.shape == trellis.totals.shape == trellis.logprobs.shape == (len(trellis.places), 8)
        rounds.append(len(trellis.places))
    assert rounds == sorted(rounds)
    assert 1 <= rounds[0] < rounds[2]


def test_what_no_single_call_can_search_is_searched_step_by_step(tmp_path: Path) -> None:
    """More beams than half the vocabulary, scores that are no numbers, and a bundle without the graph."""
    graph = author(t5())
    runtime = open_programs(graph, tmp_path, "fp32")
    search: dict[str, Any] = {"prompt": np.array([[0]]), "end_id": 1, "vocab_size": VOCAB, "max_new_tokens": 5}

    def searched(runtime: OnnxRuntime, count: int) -> list[Decoded] | None:
        return beam_answers(runtime, runtime.encode(SOURCE[:1], MASK[:1]), beams=Beams(count), **search)

    assert searched(runtime, VOCAB // 2)
    assert searched(runtime, VOCAB // 2 + 1) is None
    files = {name: tmp_path / "fp32" / name for name in ("encode.onnx", "step.onnx", "greedy.onnx", "weights.bin")}
    assert searched(OnnxRuntime(files, geometry(graph)), 3) is None
    (tmp_path / "broken").mkdir()
    with torch.no_grad():
        graph.decoder.norm.weight.fill_(3e38)
    assert searched(open_programs(graph, tmp_path / "broken", "fp32"), 3) is None


def test_positions_beyond_the_largest_distance_are_read(tmp_path: Path) -> None:
    """Relative positions set no limit to the length of source or target."""
    model = t5()
    runtime = open_programs(author(model), tmp_path, "fp32")
    ids = RANDOM.integers(2, 79, (1, 50))
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(ids), decoder_input_ids=torch.tensor(ids[:, :30])).logits.log_softmax(-1)
    memory, cache = runtime.encode(ids, np.ones_like(ids)), runtime.start(1)
    for position in range(30):
        step = runtime.step(ids[:, position : position + 1], memory, cache)
        cache = step.cache
        np.testing.assert_allclose(step.logprobs[0, 0], expected[0, position].numpy(), atol=1e-4)


@pytest.mark.parametrize("precision", list(PRECISIONS))
@pytest.mark.parametrize("build", [t5, bart, untied_t5], ids=["tied t5", "tied bart", "untied t5"])
def test_no_weight_is_stored_twice(build: Any, precision: str, tmp_path: Path) -> None:
    """Neither a table that encoder, decoder and output share, nor any weight in both graphs."""
    graph = author(build())
    open_programs(graph, tmp_path, precision)
    stored = (tmp_path / precision / "weights.bin").stat().st_size
    weights = sum(parameter.numel() for parameter in graph.parameters())
    scales_and_norms = 0.6  # widths of 32 make blocks of 32, and biases and norms stay as they are
    most = {"fp32": 4.2, "fp16": 2.5, "int8": 1 + scales_and_norms, "int8w": 1 + scales_and_norms, "int4": 0.5 + scales_and_norms}
    assert stored <= weights * most[precision]
    width = graph.spec.d_model // (2 if precision == "int4" else 1)
    places = {
        tuple(sorted((entry.key, entry.value) for entry in tensor.external_data))
        for name in ("encode.onnx", "step.onnx", "greedy.onnx", "beams.onnx")
        for tensor in onnx.load(tmp_path / precision / name, load_external_data=False).graph.initializer
        if tensor.dims[:1] == [VOCAB] and np.prod(tensor.dims) == VOCAB * width
    }
    assert len(places) == (1 if graph.spec.tied_output else 2)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    """So that a bundle's hashes tell whether anything has changed."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write_programs(author(t5()), tmp_path / name, precision="int8")
    for file in ("encode.onnx", "step.onnx", "greedy.onnx", "beams.onnx", "weights.bin"):
        assert (tmp_path / "one" / "int8" / file).read_bytes() == (tmp_path / "other" / "int8" / file).read_bytes()
