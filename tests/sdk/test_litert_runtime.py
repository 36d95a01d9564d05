"""The LiteRT runtime: caches are values, though the interpreter has room for one."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.export.models import t5, write_checkpoint
from tests.export.test_tflite_programs import geometry_of, open_program

from pocketseq.bundle import open_bundle
from pocketseq.errors import BundleFormatError, RuntimeUnavailableError
from pocketseq.model import PocketModel
from pocketseq.runtimes import open_runtime
from pocketseq.runtimes.litert import LiteRtCache, LiteRtRuntime
from pocketseq.runtimes.litert_program import PROBE_IDS, PROBE_LOGPROBS, PROBE_POOLED
from pocketseq.runtimes.protocol import Floats
from pocketseq.tokenizer import TextTokenizer
from pocketseq_export import export_checkpoint
from pocketseq_export.graphs import EncoderDecoder, Reach, author
from pocketseq_export.parity import ask_checkpoint
from pocketseq_export.reference import Reference
from pocketseq_export.tflite import write_programs
from pocketseq_export.tflite.flatbuffer import read_program, write_program

IDS = np.array([[70, 71, 72, 73], [60, 61, 0, 0]], dtype=np.int64)
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=np.int64)


@pytest.fixture(scope="module")
def graph() -> EncoderDecoder:
    return author(t5(), Reach(source=16, target=320))


@pytest.fixture(scope="module")
def program(graph: EncoderDecoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = write_programs(graph, tmp_path_factory.mktemp("litert"), precision="fp32")
    return path


@pytest.fixture(scope="module")
def runtime(graph: EncoderDecoder, program: Path) -> LiteRtRuntime:
    return open_program(graph, program)


def afresh(runtime: LiteRtRuntime, row: int, tokens: list[int]) -> Floats:
    """What follows these tokens, from an empty cache."""
    memory = runtime.encode(IDS[row : row + 1], MASK[row : row + 1])
    return runtime.step(np.array([tokens]), memory, runtime.start(1)).logprobs[0, -1]


def test_caches_are_values(runtime: LiteRtRuntime) -> None:
    """Any of many caches, of two sources, can be continued at any time, and says what it would say from the start."""
    rng = np.random.default_rng(0)
    memories = [runtime.encode(IDS[row : row + 1], MASK[row : row + 1]) for row in range(2)]
    known: list[tuple[int, list[int], LiteRtCache]] = [(row, [], runtime.start(1)) for row in range(2)]
    for _ in range(40):
        row, tokens, cache = known[int(rng.integers(len(known)))]
        token = int(rng.integers(2, 79))
        step = runtime.step(np.array([[token]]), memories[row], cache)
        np.testing.assert_array_equal(step.logprobs[0, 0], afresh(runtime, row, [*tokens, token]))
        known.append((row, [*tokens, token], step.cache))
    assert max(len(tokens) for _, tokens, _ in known) > 3


def test_selected_rows_go_on_as_they_were(runtime: LiteRtRuntime) -> None:
    """Rows can be dropped, reordered and repeated, and what they came from stays as it was."""
    memory = runtime.encode(IDS, MASK)
    first = runtime.step(np.array([[5], [6]]), memory, runtime.start(2))
    kept, cache = runtime.select(memory, first.cache, np.array([1, 0, 1]))
    after = runtime.step(np.array([[7], [8], [9]]), kept, cache).logprobs[:, 0]
    np.testing.assert_array_equal(kept.pooled, memory.pooled[[1, 0, 1]])
    for found, (row, tokens) in zip(after, [(1, [6, 7]), (0, [5, 8]), (1, [6, 9])], strict=True):
        np.testing.assert_array_equal(found, afresh(runtime, row, tokens))


def test_tokens_can_be_taken_back(runtime: LiteRtRuntime) -> None:
    """To any earlier length, none included."""
    memory = runtime.encode(IDS[:1], MASK[:1])
    cache = runtime.step(np.array([[5, 6, 7, 8]]), memory, runtime.start(1)).cache
    for length in (4, 2, 0):
        found = runtime.step(np.array([[9]]), memory, runtime.keep(cache, length)).logprobs[0, 0]
        np.testing.assert_array_equal(found, afresh(runtime, 0, [*[5, 6, 7, 8][:length], 9]))


def test_a_row_that_goes_on_moves_one_column_a_step(runtime: LiteRtRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """And beams with a common past move only that in which they differ; a source is moved once."""
    moved: list[int] = []
    heard: list[object] = []
    inner = runtime._program
    remember, hear = inner.remember, inner.hear
    monkeypatch.setattr(inner, "remember", lambda start, columns: (moved.append(columns.shape[2]), remember(start, columns)))
    monkeypatch.setattr(inner, "hear", lambda encoding, mask: (heard.append(encoding), hear(encoding, mask)))
    memory, cache = runtime.encode(IDS[:1], MASK[:1]), runtime.start(1)
    for token in (5, 6, 7, 8):
        cache = runtime.step(np.array([[token]]), memory, cache).cache
    assert moved == [1, 1, 1]
    beams = [runtime.step(np.array([[token]]), memory, cache).cache for token in (9, 10)]
    assert moved == [1, 1, 1, 1]
    for beam in beams:
        runtime.step(np.array([[11]]), memory, beam)
    assert moved == [1, 1, 1, 1, 1, 1]
    assert len(heard) == 1


def test_threads_share_a_runtime(runtime: LiteRtRuntime) -> None:
    """Each hears its own source, whatever the others do meanwhile."""

    def answer(number: int) -> Floats:
        row = number % 2
        memory, cache = runtime.encode(IDS[row : row + 1], MASK[row : row + 1]), runtime.start(1)
        for token in range(5, 5 + number):
            cache = runtime.step(np.array([[token]]), memory, cache).cache
        return runtime.step(np.array([[3]]), memory, cache).logprobs[0, 0]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(answer, range(12)))
    for number, logprobs in enumerate(found):
        np.testing.assert_array_equal(logprobs, afresh(runtime, number % 2, [*range(5, 5 + number), 3]))


def test_long_answers_are_let_go(runtime: LiteRtRuntime) -> None:
    """A cache is a chain of columns; hundreds of them end without trouble."""
    memory, cache = runtime.encode(IDS[:1], MASK[:1]), runtime.start(1)
    cache = runtime.step(np.full((1, 320), 7), memory, cache).cache
    last = cache.rows[0]
    assert last is not None
    assert last.length == 320
    del cache, last
    runtime.step(np.array([[7]]), memory, runtime.start(1))


def test_a_bundle_answers_as_its_checkpoint(tmp_path: Path) -> None:
    """Alone and in a batch, with each token's log-probability, from a bundle that holds nothing else."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", t5())
    manifest = export_checkpoint(checkpoint, tmp_path / "bundle", runtimes=["tflite"], precisions=["fp32"])
    assert [file.path for file in manifest.variants[0].files] == ["tflite/fp32.tflite"]
    words = ["for", "return x", "a == b"]
    with PocketModel.load(tmp_path / "bundle") as model:
        tokenizer = TextTokenizer.from_file(tmp_path / "bundle" / "tokenizer.json")
        questions = ask_checkpoint(Reference.load(checkpoint), tokenizer, words)
        alone = [model.generate(word) for word in words]
        together = model.generate_batch(words)
    assert [result.tokens for result in alone] == [question.tokens for question in questions]
    assert [result.token_logprobs for result in together] == [result.token_logprobs for result in alone]


def test_a_runtime_that_computes_something_else_is_refused(graph: EncoderDecoder, program: Path, tmp_path: Path) -> None:
    """The program carries a question with its answer; a runtime that finds another answer is no runtime for it."""
    tampered = tmp_path / "int8.tflite"
    content = read_program(program.read_bytes())
    (recorded,) = (tensor for tensor in content.subgraphs[0].tensors if tensor.name == PROBE_POOLED.encode())
    answer = np.frombuffer(bytes(content.buffers[recorded.buffer].data), np.float32)
    content.buffers[recorded.buffer].data = np.frombuffer((answer * 1.5).tobytes(), np.uint8)
    tampered.write_bytes(write_program(content))
    refusal = (
        r'recorded answer .* ai-edge-litert [\d.]+ cannot run it .* pip install --upgrade "pocketseq\[litert\]", or take .*fp32'
    )
    with pytest.raises(RuntimeUnavailableError, match=refusal):
        open_program(graph, tampered)


def test_a_forbidden_token_hides_no_other_answer(tmp_path: Path) -> None:
    """Its log-probability is so low that beside it all others look alike."""
    model = t5()
    model.generation_config.bad_words_ids = [[70]]
    graph = author(model, Reach(source=16, target=320))
    (path,) = write_programs(graph, tmp_path, precision="fp32")
    open_program(graph, path)
    content = read_program(path.read_bytes())
    (recorded,) = (tensor for tensor in content.subgraphs[0].tensors if tensor.name == PROBE_LOGPROBS.encode())
    answer = np.frombuffer(bytes(content.buffers[recorded.buffer].data), np.float32)
    assert answer.min() < -1e8
    told = np.where(answer > -1e4, answer[::-1].clip(-1e3), answer)  # of other tokens
    content.buffers[recorded.buffer].data = np.frombuffer(told.astype(np.float32).tobytes(), np.uint8)
    path.write_bytes(write_program(content))
    with pytest.raises(RuntimeUnavailableError, match="recorded answer"):
        open_program(graph, path)


def test_a_program_without_a_question_is_refused(graph: EncoderDecoder, program: Path, tmp_path: Path) -> None:
    """Nothing is believed untried."""
    content = read_program(program.read_bytes())
    for tensor in content.subgraphs[0].tensors:
        if tensor.name == PROBE_IDS.encode():
            tensor.name = b"other"
    (tmp_path / "fp32.tflite").write_bytes(write_program(content))
    with pytest.raises(BundleFormatError, match=r"expected the constants \['probe_ids'\], found none; export the bundle again"):
        open_program(graph, tmp_path / "fp32.tflite")


def test_a_file_that_is_no_program_is_a_typed_error(graph: EncoderDecoder, tmp_path: Path) -> None:
    """A hash can be right and the file wrong."""
    (tmp_path / "fp32.tflite").write_bytes(b"no program")
    with pytest.raises(RuntimeUnavailableError, match="expected a program that ai-edge-litert .* runs, found"):
        open_program(graph, tmp_path / "fp32.tflite")
    with pytest.raises(BundleFormatError, match=r"expected a .tflite among the variant's files, found \[\]"):
        LiteRtRuntime({}, geometry_of(graph))


def test_a_program_of_another_model_is_refused(graph: EncoderDecoder, program: Path) -> None:
    """The manifest's geometry is what the caller reckons with."""
    geometry = replace(geometry_of(graph), decoder_layers=3)
    with pytest.raises(BundleFormatError, match=r"expected \(layers, heads, head_dim, vocab_size\) = \(3, 4, 8, 112\), found \(2,"):
        LiteRtRuntime({"fp32.tflite": program}, geometry)


def test_without_a_library_the_error_ends_in_the_pip_line(
    graph: EncoderDecoder, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither LiteRT nor its predecessor is in the base installation."""
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(RuntimeUnavailableError, match=r'mend it with: pip install "pocketseq\[litert\]"$'):
        open_program(graph, program)


def test_a_bundle_for_litert_names_what_it_needs(pristine_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any file is read."""
    monkeypatch.setattr("pocketseq.runtimes.opening.find_spec", lambda _: None)
    with open_bundle(pristine_bundle) as bundle:
        variant = replace(bundle.manifest.variants[0], runtime="tflite")
        with pytest.raises(
            RuntimeUnavailableError, match="'ai_edge_litert' or 'tflite_runtime', .* pip install \"pocketseq.litert.\""
        ):
            open_runtime(bundle, variant)
