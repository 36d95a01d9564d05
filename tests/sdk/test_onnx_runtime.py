"""The ONNX runtime: held to the same model in plain numpy."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from pocketseq.bundle import open_bundle
from pocketseq.errors import BundleFormatError, RuntimeUnavailableError
from pocketseq.runtimes import AnyRuntime, open_runtime, processor, sessions
from pocketseq.runtimes.onnx import OnnxRuntime
from pocketseq.runtimes.silent import SILENCE, silent_onnxruntime

from .tiny import HEAD_DIM, HEADS, WIDTH, NumpyRuntime, make_weights

IDS = np.array([[70, 71, 72, 73], [80, 81, 0, 0]], dtype=np.int64)
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=np.int64)


@pytest.fixture(scope="module")
def runtime(pristine_bundle: Path) -> AnyRuntime:
    with open_bundle(pristine_bundle) as bundle:
        return open_runtime(bundle, bundle.manifest.variant(precision="fp32"))


@pytest.fixture(scope="module")
def reference(pristine_bundle: Path) -> NumpyRuntime:
    with open_bundle(pristine_bundle) as bundle:
        return NumpyRuntime(make_weights(bundle.manifest.geometry.vocab_size))


def test_steps_agree_with_the_reference(runtime: AnyRuntime, reference: NumpyRuntime) -> None:
    """Pooled state and log-probabilities, over several steps of a padded batch."""
    ours, theirs = runtime.encode(IDS, MASK), reference.encode(IDS, MASK)
    np.testing.assert_allclose(ours.pooled, theirs.pooled, atol=1e-5)
    assert ours.pooled.shape == (2, WIDTH)
    cache, expected_cache = runtime.start(2), reference.start(2)
    for column in ([[0], [0]], [[75], [76]], [[77], [78]]):
        tokens = np.array(column, dtype=np.int64)
        step, expected = runtime.step(tokens, ours, cache), reference.step(tokens, theirs, expected_cache)
        np.testing.assert_allclose(step.logprobs, expected.logprobs, rtol=1e-5, atol=1e-4)
        cache, expected_cache = step.cache, expected.cache


def test_a_chunk_is_its_tokens_one_by_one(runtime: AnyRuntime) -> None:
    """Several tokens in one step are causal among themselves."""
    memory = runtime.encode(IDS, MASK)
    tokens = np.array([[0, 75, 77], [0, 76, 78]], dtype=np.int64)
    chunk = runtime.step(tokens, memory, runtime.start(2))
    cache = runtime.start(2)
    for place in range(3):
        step = runtime.step(tokens[:, place : place + 1], memory, cache)
        cache = step.cache
        np.testing.assert_allclose(chunk.logprobs[:, place], step.logprobs[:, 0], rtol=1e-5, atol=1e-4)
    assert chunk.cache.length == cache.length == 3
    for name, value in chunk.cache.feeds.items():
        assert value.shape == (2, HEADS, 3, HEAD_DIM)
        np.testing.assert_allclose(value, cache.feeds[name], atol=1e-5)


def test_padding_changes_nothing(runtime: AnyRuntime) -> None:
    """A short row answers in a batch as it does alone."""
    tokens = np.array([[0], [0]], dtype=np.int64)
    both = runtime.step(tokens, runtime.encode(IDS, MASK), runtime.start(2))
    alone = runtime.step(tokens[:1], runtime.encode(IDS[1:, :2], MASK[1:, :2]), runtime.start(1))
    np.testing.assert_allclose(both.logprobs[1], alone.logprobs[0], atol=1e-5)


def test_selected_rows_go_on_as_they_were(runtime: AnyRuntime) -> None:
    """Rows can be dropped, reordered and repeated, and what they came from stays as it was."""
    memory = runtime.encode(IDS, MASK)
    first = runtime.step(np.array([[0], [0]], dtype=np.int64), memory, runtime.start(2))
    kept, cache = runtime.select(memory, first.cache, np.array([1, 0, 1]))
    after = runtime.step(np.array([[76], [75], [76]], dtype=np.int64), kept, cache)
    whole = runtime.step(np.array([[75], [76]], dtype=np.int64), memory, first.cache)
    np.testing.assert_allclose(after.logprobs, whole.logprobs[[1, 0, 1]], atol=1e-5)
    assert first.cache.length == 1


def test_beams_that_change_places_read_what_they_read_before(runtime: AnyRuntime) -> None:
    """Rows of one source are alike, so that reordering them copies the cache but not the source's keys and values."""
    memory = runtime.encode(IDS, MASK)
    beams, cache = runtime.select(memory, runtime.start(2), np.array([0, 0, 1, 1]))
    cache = runtime.step(np.array([[70], [71], [72], [73]], dtype=np.int64), beams, cache).cache
    same, moved = runtime.select(beams, cache, np.array([1, 1, 3, 2]))
    assert same is beams
    assert runtime.select(beams, cache, np.array([1, 2, 3, 0]))[0] is not beams
    name = next(iter(cache.feeds))
    np.testing.assert_array_equal(moved.feeds[name], cache.feeds[name][[1, 1, 3, 2]])


def test_tokens_can_be_taken_back(runtime: AnyRuntime) -> None:
    """What follows the tokens that were kept is what would have followed them at first, and the longer cache stays as it was."""
    memory = runtime.encode(IDS, MASK)
    first = runtime.step(np.array([[0], [0]], dtype=np.int64), memory, runtime.start(2)).cache
    longer = runtime.step(np.array([[75, 77], [76, 78]], dtype=np.int64), memory, first).cache
    tokens = np.array([[79], [80]], dtype=np.int64)
    for length, before in ((1, first), (0, runtime.start(2))):
        kept = runtime.keep(longer, length)
        assert kept.length == length
        found, expected = (runtime.step(tokens, memory, cache) for cache in (kept, before))
        np.testing.assert_allclose(found.logprobs, expected.logprobs, atol=1e-5)
    assert longer.length == 3
    assert {value.shape for value in longer.feeds.values()} == {(2, HEADS, 3, HEAD_DIM)}


def test_a_step_does_not_change_its_cache(runtime: AnyRuntime) -> None:
    """The same cache can be continued twice: beams and threads share it."""
    memory = runtime.encode(IDS, MASK)
    cache = runtime.step(np.array([[0], [0]], dtype=np.int64), memory, runtime.start(2)).cache
    before = {name: value.copy() for name, value in cache.feeds.items()}
    runtime.step(np.array([[75], [76]], dtype=np.int64), memory, cache)
    for name, value in cache.feeds.items():
        np.testing.assert_array_equal(value, before[name])


def test_a_graph_without_the_contract_is_refused(pristine_bundle: Path) -> None:
    """A geometry with another number of layers does not fit the graphs."""
    with open_bundle(pristine_bundle) as bundle:
        files = bundle.paths(bundle.manifest.variants[0].files)
        geometry = replace(bundle.manifest.geometry, decoder_layers=3)
        with pytest.raises(BundleFormatError, match="encode.onnx: expected inputs .* and outputs .*cross_key_2"):
            OnnxRuntime(files, geometry)


def test_a_step_that_gives_neither_the_cache_nor_its_new_columns_is_refused(pristine_bundle: Path, tmp_path: Path) -> None:
    """Bundles of before give the columns alone, which is read too."""
    with open_bundle(pristine_bundle) as bundle:
        files = bundle.paths(bundle.manifest.variants[0].files)
        name = next(path for path in files if path.endswith("step.onnx"))
        step = onnx.load(files[name], load_external_data=False)
        del step.graph.output[1:]
        (tmp_path / "weights.bin").write_bytes(files[name].with_name("weights.bin").read_bytes())
        onnx.save(step, tmp_path / "step.onnx")
        with pytest.raises(BundleFormatError, match=r"step.onnx: expected outputs \['present_key_0'.*, found \['logprobs'\]"):
            OnnxRuntime({**files, name: tmp_path / "step.onnx"}, bundle.manifest.geometry)


def test_a_variant_without_a_graph_is_refused(pristine_bundle: Path) -> None:
    """The graphs are found by their names."""
    with open_bundle(pristine_bundle) as bundle:
        files = bundle.paths(file for file in bundle.manifest.variants[0].files if not file.path.endswith("step.onnx"))
        with pytest.raises(BundleFormatError, match="expected the graph 'step.onnx'"):
            OnnxRuntime(files, bundle.manifest.geometry)


def test_a_graph_that_onnxruntime_refuses_is_a_typed_error(pristine_bundle: Path, tmp_path: Path) -> None:
    """A hash can be right and the graph wrong."""
    (tmp_path / "encode.onnx").write_bytes(b"no graph")
    with open_bundle(pristine_bundle) as bundle:
        files = {"encode.onnx": tmp_path / "encode.onnx"}
        with pytest.raises(RuntimeUnavailableError, match="expected a graph that onnxruntime .* runs"):
            OnnxRuntime(files, bundle.manifest.geometry)


def test_a_decoder_that_onnxruntime_refuses_is_told_when_it_is_needed(tmp_path: Path) -> None:
    """With the same typed error; what does without it answers."""
    (tmp_path / "greedy.onnx").write_bytes(b"no graph")
    with open_bundle("python-fix") as bundle:
        variant = bundle.manifest.variant(runtime="onnx")
        files = bundle.paths(variant.files)
        name = next(path for path in files if path.endswith("greedy.onnx"))
        runtime = OnnxRuntime({**files, name: tmp_path / "greedy.onnx"}, bundle.manifest.geometry)
    runtime.open_decoder(greedy=False)
    memory, tokens = runtime.encode(IDS[:1], MASK[:1]), np.array([[0]], dtype=np.int64)
    assert runtime.step(tokens, memory, runtime.start(1)).cache.length == 1
    for ask in (
        lambda: runtime.open_decoder(greedy=True),
        lambda: runtime.greedy(tokens, memory, runtime.start(1), end_id=1, limit=2),
    ):
        with pytest.raises(RuntimeUnavailableError, match=r"greedy.onnx: expected a graph that onnxruntime .* runs"):
            ask()


def test_a_runtime_of_the_future_is_refused(pristine_bundle: Path) -> None:
    """A bundle may hold variants that this version cannot run."""
    with open_bundle(pristine_bundle) as bundle:
        variant = replace(bundle.manifest.variants[0], runtime="abacus")
        with pytest.raises(RuntimeUnavailableError, match=r"expected a runtime among \[.*'onnx'.*\], found 'abacus'"):
            open_runtime(bundle, variant)


def test_int8_sums_are_tried_on_this_processor() -> None:
    """By a product of one node: what it says of sums is what plain arithmetic says of other numbers."""
    model = onnx.load_from_string(processor._PRODUCT)
    assert [node.op_type for node in model.graph.node] == ["MatMulInteger"]
    a, b = np.full((3, 32), 250, dtype=np.uint8), np.full((32, 8), -120, dtype=np.int8)
    (found,) = onnxruntime.InferenceSession(processor._PRODUCT).run(None, {"a": a, "b": b})
    assert processor.sums_overflow() == (found != a.astype(np.int32) @ b.astype(np.int32)).any()


def test_no_sum_of_int8_products_overflows() -> None:
    """On whatever processor this runs: weights and activations at their ends, as sessions are opened for graphs of a bundle."""
    weights = np.full((64, 16), 127, dtype=np.int8)
    tensors = {"w": weights, "scales": np.ones(16, dtype=np.float32), "zeros": np.zeros(16, dtype=np.int8)}
    node = helper.make_node("DynamicQuantizeMatMul", ["x", *tensors], ["y"], domain="com.microsoft")
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 16])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    session = sessions._opened(
        helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString(), sessions._options(1)
    )
    (found,) = session.run(None, {"x": np.full((2, 64), 255, dtype=np.float32)})
    np.testing.assert_allclose(found, np.full((2, 16), 64 * 255 * 127, dtype=np.float32), rtol=1e-6)


def test_kernels_that_cannot_overflow_are_asked_for_where_sums_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the option and by the optimisation that heeds it, which is none of the basic ones."""
    monkeypatch.setattr(sessions, "sums_overflow", lambda: True)
    options = sessions._options(1)
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    assert options.get_session_config_entry("session.x64quantprecision") == "1"
    monkeypatch.setattr(sessions, "sums_overflow", lambda: False)
    assert sessions._options(1).graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC


def test_onnxruntime_reports_to_nobody(tmp_path: Path) -> None:
    """A process that answers leaves no identifier and no events to upload in its user's folders, and knows the library's switch."""
    code = (
        "import os; from pocketseq import PocketModel; PocketModel.load('python-fix', runtime='onnx').generate('retrun x'); "
        f"print(os.environ[{SILENCE!r}])"
    )
    environment = {name: value for name, value in os.environ.items() if name not in (SILENCE, "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**environment, "HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
    assert list(tmp_path.iterdir()) == []


def test_who_wants_onnxruntime_to_report_may_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says stands."""
    monkeypatch.setenv(SILENCE, "0")
    silent_onnxruntime()
    assert os.environ[SILENCE] == "0"
