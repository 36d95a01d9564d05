"""The SDK's Core ML runtime: its own code and coremltools' own classes, on an interpreter in the place of Core ML."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from tests.coreml.mac import ModelProxy, pretend_mac
from tests.export.models import bart, marian, t5, write_checkpoint

from pocketseq.bundle import open_bundle, pack
from pocketseq.errors import BundleFormatError, InputError, RuntimeUnavailableError
from pocketseq.examples import Example
from pocketseq.model import PocketModel
from pocketseq.runtimes import open_runtime
from pocketseq.runtimes.coreml import CoreMlRuntime
from pocketseq.tokenizer import TextTokenizer
from pocketseq_export import export_checkpoint, verify_bundle
from pocketseq_export.reference import Reference

VARIANTS = ("fp32", "fp16", "int8", "int8-stateless")
RANDOM = np.random.default_rng(3)
SOURCE = RANDOM.integers(2, 79, (2, 13))
MASK = (np.arange(13) < np.array([[13], [3]])).astype(np.int64)
TARGET = RANDOM.integers(2, 79, (2, 7))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a T5's ``checkpoint`` and its ``bundle`` for Core ML and, last, for ONNX Runtime."""
    folder = tmp_path_factory.mktemp("coreml")
    write_checkpoint(folder / "checkpoint", t5())
    precisions = [*(f"coreml/{name}" for name in VARIANTS), "onnx/fp32"]
    export_checkpoint(folder / "checkpoint", folder / "bundle", runtimes=["coreml", "onnx"], precisions=precisions)
    return folder


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[ModelProxy]:
    """A Mac with macOS 15, whose caches are the test's own."""
    return pretend_mac(monkeypatch, tmp_path)


@pytest.fixture
def runtime(exported: Path, mac: type[ModelProxy]) -> CoreMlRuntime:
    """The stateful variant in float16."""
    return opened(exported, "fp16")


def opened(exported: Path, precision: str) -> CoreMlRuntime:
    with open_bundle(exported / "bundle") as bundle:
        runtime = open_runtime(bundle, bundle.manifest.variant(runtime="coreml", precision=precision))
    assert isinstance(runtime, CoreMlRuntime)
    return runtime


def expected(exported: Path, target: Any = TARGET) -> Any:
    model = Reference.load(exported / "checkpoint").model
    with torch.no_grad():
        given = [torch.tensor(values) for values in (SOURCE, MASK, target)]
        logits = model(input_ids=given[0], attention_mask=given[1], decoder_input_ids=given[2], use_cache=False).logits
    return logits.log_softmax(-1).numpy()


def test_generations_are_those_of_the_checkpoint(exported: Path, mac: type[ModelProxy]) -> None:
    """Token for token at full precision, and nearly all of them in float16; int8 says the same with a state and without."""
    inputs = ["hello", "a longer line (with signs): 1 + 2", "x", "if a == b:", "return None"]
    reference = Reference.load(exported / "checkpoint")
    with open_bundle(exported / "bundle") as bundle:
        tokenizer, template = TextTokenizer.from_file(bundle.path(bundle.manifest.tokenizer)), bundle.manifest.template
    answers = [tuple(ids) for ids in reference.generate([template.encode(tokenizer, text).ids for text in inputs])]
    found = {}
    for precision in VARIANTS:
        with PocketModel.load(exported / "bundle", runtime="coreml", precision=precision) as model:
            assert model.variant.label == f"coreml/{precision}"
            found[precision] = [tuple(model.generate(text).tokens) for text in inputs]
    assert found["fp32"] == answers
    assert sum(answer in found["fp16"] for answer in answers) >= len(answers) - 1
    assert found["int8"] == found["int8-stateless"]


@pytest.mark.parametrize("precision", VARIANTS)
@pytest.mark.parametrize("chunks", [[7], [1] * 7, [2, 1, 4]], ids=["at once", "one by one", "in chunks"])
def test_log_probabilities_are_those_of_the_checkpoint(
    exported: Path, precision: str, chunks: list[int], mac: type[ModelProxy]
) -> None:
    """In a padded batch, however the target is cut into steps."""
    runtime = opened(exported, precision)
    memory, cache, place, found = runtime.encode(SOURCE, MASK), runtime.start(2), 0, []
    for size in chunks:
        step = runtime.step(TARGET[:, place : place + size], memory, cache)
        found.append(step.logprobs)
        cache, place = step.cache, place + size
    tolerance = {"fp32": 1e-3, "fp16": 0.05}.get(precision, 0.5)
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected(exported), atol=tolerance, rtol=0.01)
    assert memory.pooled.shape == (2, 32)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_caches_are_values(exported: Path, precision: str, mac: type[ModelProxy]) -> None:
    """A cache that was gone on from, taken back, or chosen twice still says what it said, though a state cannot be copied."""
    runtime = opened(exported, precision)
    memory, start = runtime.encode(SOURCE, MASK), runtime.start(2)
    first = runtime.step(TARGET[:, :3], memory, start)
    one = runtime.step(TARGET[:, 3:5], memory, first.cache)
    other = runtime.step(TARGET[:, 5:7], memory, first.cache)
    again = runtime.step(TARGET[:, 3:5], memory, first.cache)
    back = runtime.step(TARGET[:, 3:5], memory, runtime.keep(other.cache, 3))
    twice_memory, twice = runtime.select(memory, first.cache, np.array([1, 0, 1]))
    rows = runtime.step(TARGET[[1, 0, 1], 3:5], twice_memory, twice)
    # What went through another tape was float16 already, so that nothing is lost on the way.
    np.testing.assert_array_equal(again.logprobs, one.logprobs)
    np.testing.assert_array_equal(back.logprobs, one.logprobs)
    np.testing.assert_array_equal(rows.logprobs, one.logprobs[[1, 0, 1]])
    np.testing.assert_allclose(other.logprobs, expected(exported, TARGET[:, [0, 1, 2, 5, 6]])[:, 3:], atol=0.05, rtol=0.01)
    restarted = runtime.step(TARGET[:, :3], memory, runtime.keep(first.cache, 0))
    np.testing.assert_array_equal(restarted.logprobs, first.logprobs)


def test_a_greedy_answer_stays_on_one_state(runtime: CoreMlRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is copied where nothing branches."""
    made: list[Any] = []
    make_state = ct.models.CompiledMLModel.make_state
    monkeypatch.setattr(ct.models.CompiledMLModel, "make_state", lambda self: made.append(self) or make_state(self))
    memory, cache = runtime.encode(SOURCE[:1], MASK[:1]), runtime.start(1)
    for place in range(7):
        cache = runtime.step(TARGET[:1, place : place + 1], memory, cache).cache
    assert len(made) == 1
    runtime.step(TARGET[:1, :1], memory, runtime.keep(cache, 4))
    assert len(made) == 1
    runtime.step(TARGET[:1, :1], memory, cache)
    assert len(made) == 2


def test_threads_that_share_a_cache_do_not_disturb_one_another(runtime: CoreMlRuntime) -> None:
    """Each goes on its own way from one beginning."""
    memory = runtime.encode(SOURCE, MASK)
    begun = runtime.step(TARGET[:, :2], memory, runtime.start(2)).cache
    alone = {token: runtime.step(np.full((2, 3), token), memory, begun).logprobs for token in (5, 6, 7)}
    found: dict[int, Any] = {}

    def go_on(token: int) -> None:
        cache, lines = begun, []
        for _ in range(3):
            step = runtime.step(np.full((2, 1), token), memory, cache)
            cache = step.cache
            lines.append(step.logprobs)
        found[token] = np.concatenate(lines, axis=1)

    threads = [threading.Thread(target=go_on, args=(token,)) for token in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for token, logprobs in alone.items():
        np.testing.assert_array_equal(found[token], logprobs)


def test_a_package_is_compiled_once(exported: Path, mac: type[ModelProxy], tmp_path: Path) -> None:
    """What was compiled is kept among the user's caches, not in the bundle; a stateless package holds two models."""
    before = sorted((exported / "bundle").rglob("*"))
    for precision, compilations in (("int8", 1), ("int8", 1), ("int8-stateless", 3), ("int8-stateless", 3)):
        opened(exported, precision)
        assert len(mac.compilations) == compilations
    assert sorted((exported / "bundle").rglob("*")) == before
    assert len(list((tmp_path / "caches").iterdir())) == 3


def test_a_cache_that_cannot_be_written_is_done_without(
    exported: Path, mac: type[ModelProxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program is then compiled for this process alone."""
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr("pocketseq.runtimes.compiled.CACHES", tmp_path / "file" / "caches")
    assert opened(exported, "int8").encode(SOURCE, MASK).pooled.shape == (2, 32)
    assert len(mac.compilations) == 1


def test_a_bundle_in_one_file_answers(exported: Path, mac: type[ModelProxy], tmp_path: Path) -> None:
    """Its package is unpacked for this process."""
    pack(exported / "bundle", tmp_path / "tiny.pocketseq")
    with PocketModel.load(tmp_path / "tiny.pocketseq", runtime="coreml", precision="int8") as packed:
        answer = packed.generate("hello")
    with PocketModel.load(exported / "bundle", runtime="coreml", precision="int8") as loose:
        assert loose.generate("hello").tokens == answer.tokens


@pytest.mark.parametrize(
    ("version", "precision"), [("15.1", "int8"), ("14.6", "int8-stateless"), ("13.0", "int8-stateless"), ("12.7", None)]
)
def test_the_first_variant_that_this_macos_runs_is_taken(
    exported: Path, version: str, precision: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States need macOS 15, int8 weights macOS 13; older systems, and others, have the ONNX variant."""
    pretend_mac(monkeypatch, tmp_path, version=version)
    with PocketModel.load(exported / "bundle") as model:
        assert model.variant.label == (f"coreml/{precision}" if precision else "onnx/fp32")


def test_a_macos_that_is_too_old_is_named(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variant that it runs."""
    pretend_mac(monkeypatch, tmp_path, version="14.6")
    with pytest.raises(
        RuntimeUnavailableError, match="coreml/int8 needs macOS 15 or newer, found macOS 14.6; load the precision 'int8-stateless'"
    ):
        PocketModel.load(exported / "bundle", runtime="coreml", precision="int8")
    pretend_mac(monkeypatch, tmp_path, version="12.7")
    with pytest.raises(
        RuntimeUnavailableError, match="needs macOS 13 or newer, found macOS 12.7; choose a variant of another runtime"
    ):
        PocketModel.load(exported / "bundle", runtime="coreml", precision="int8-stateless")


def test_other_systems_are_told_what_runs_it(exported: Path) -> None:
    """And how to check the variant on a Mac."""
    with pytest.raises(RuntimeUnavailableError, match="run by Core ML, which needs macOS 15 or newer, found Linux; .*coreml_check"):
        PocketModel.load(exported / "bundle", runtime="coreml", precision="int8")
    with pytest.raises(RuntimeUnavailableError, match="expected macOS, the only system with Core ML"):
        CoreMlRuntime({}, open_bundle(exported / "bundle").manifest.geometry)


def test_a_mac_without_coremltools_is_told_the_remedy(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends in the pip line."""
    pretend_mac(monkeypatch, tmp_path)
    monkeypatch.setattr("pocketseq.runtimes.opening.find_spec", lambda name: None)
    with pytest.raises(RuntimeUnavailableError, match="needs the module 'coremltools'.*mend it with: pip install coremltools$"):
        PocketModel.load(exported / "bundle", runtime="coreml")


def test_compute_units_go_to_core_ml(exported: Path, mac: type[ModelProxy], monkeypatch: pytest.MonkeyPatch) -> None:
    """By their names; an unknown one is refused, and so are any for a runtime that has none."""
    seen = []
    load = ModelProxy.__init__
    monkeypatch.setattr(
        ModelProxy, "__init__", lambda self, path, units, *rest: seen.append(units) or load(self, path, units, *rest)
    )
    with PocketModel.load(exported / "bundle", runtime="coreml", compute_units="CPU_AND_NE") as model:
        model.warm_up()
    assert seen == ["CPU_AND_NE"] * 2
    unknown = PocketModel.load(exported / "bundle", runtime="coreml", compute_units="ABACUS")
    with pytest.raises(RuntimeUnavailableError, match="expected compute units among ALL, .*found 'ABACUS'"):
        unknown.warm_up()
    elsewhere = PocketModel.load(exported / "bundle", runtime="onnx", compute_units="ALL")
    with pytest.raises(RuntimeUnavailableError, match="for a Core ML variant only, found 'ALL' for onnx/fp32"):
        elsewhere.warm_up()


def test_what_is_longer_than_the_programs_is_refused(runtime: CoreMlRuntime) -> None:
    """Their shapes are fixed, unlike those of the ONNX variant."""
    ids = np.full((1, 513), 5)
    with pytest.raises(InputError, match="a source of at most 512 tokens, .* found 513"):
        runtime.encode(ids, np.ones_like(ids))
    memory = runtime.encode(SOURCE[:1], MASK[:1])
    full = runtime.step(np.full((1, 256), 5), memory, runtime.start(1)).cache
    with pytest.raises(InputError, match="an answer of at most 256 tokens"):
        runtime.step(np.full((1, 1), 5), memory, full)


def test_a_package_that_is_none_is_refused(exported: Path, mac: type[ModelProxy], tmp_path: Path) -> None:
    """By what is missing or other than the contract."""
    with open_bundle(exported / "bundle") as bundle:
        geometry = bundle.manifest.geometry
        files = bundle.paths(bundle.manifest.variant(runtime="coreml", precision="fp16").files)
    without = {path: file for path, file in files.items() if not path.endswith("weight.bin")}
    with pytest.raises(BundleFormatError, match="expected a package with one model or with encode and step, and their weights"):
        CoreMlRuntime(without, geometry)
    (tmp_path / "model.mlmodel").write_bytes(b"\xff" * 100)
    broken = {path: tmp_path / "model.mlmodel" if path.endswith(".mlmodel") else file for path, file in files.items()}
    with pytest.raises(BundleFormatError, match="expected a Core ML model, found"):
        CoreMlRuntime(broken, geometry)
    (tmp_path / "model.mlmodel").write_bytes(b"")
    with pytest.raises(BundleFormatError, match=r"encode: expected inputs \['ids'\]"):
        CoreMlRuntime(broken, geometry)
    with pytest.raises(BundleFormatError, match=r"expected a cache of \(4, 2, 8\) and the target's length, found \(4, 4, 256, 8\)"):
        CoreMlRuntime(files, replace(geometry, heads=2))


def test_what_core_ml_refuses_is_said_with_the_remedy(
    exported: Path, mac: type[ModelProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Core ML's own words are in it."""

    def refuse(path: str) -> str:
        raise RuntimeError("Error compiling model: unsupported operation")

    monkeypatch.setattr(mac, "compileModel", refuse)
    with pytest.raises(RuntimeUnavailableError, match="found: Error compiling model: unsupported operation; update macOS"):
        opened(exported, "fp16")


def test_coremltools_opens_a_saved_package_itself(exported: Path, mac: type[ModelProxy]) -> None:
    """Whoever has no use for the SDK loads the package by its functions, with ``MLModel`` and a state of its own."""
    package = str(exported / "bundle" / "coreml" / "fp16.mlpackage")
    encode, step = (
        ct.models.MLModel(package, function_name=name, compute_units=ct.ComputeUnit.CPU_ONLY) for name in ("encode", "step")
    )
    ids = np.full((1, 32), -1, dtype=np.int32)
    ids[:, :13] = SOURCE[:1]
    mask = np.full((1, 1, 1, 512), -1e4, dtype=np.float32)
    mask[..., :13] = 0
    found, state = encode.predict({"ids": ids}), step.make_state()
    for place in range(3):
        feeds = {"token": TARGET[:1, place : place + 1].astype(np.int32), "position": np.array([place], dtype=np.int32)}
        said = step.predict(feeds | {"cross": found["cross"], "source_mask": mask}, state)
    line = (said["logits"] - said["logsumexp"])[0, 0]
    np.testing.assert_allclose(line, expected(exported)[0, 2], atol=0.05, rtol=0.01)
    assert np.abs(state.read_state("cache")[:, :, :3]).min(axis=(0, 1, 3)).all()


def test_bart_answers_too(mac: type[ModelProxy], tmp_path: Path) -> None:
    """A family with a table of positions and norms after the sublayers."""
    write_checkpoint(tmp_path / "checkpoint", bart())
    export_checkpoint(tmp_path / "checkpoint", tmp_path / "bundle", runtimes=["coreml"], precisions=["fp32"])
    reference = Reference.load(tmp_path / "checkpoint")
    with PocketModel.load(tmp_path / "bundle") as model, open_bundle(tmp_path / "bundle") as bundle:
        ids = model.template.encode(TextTokenizer.from_file(bundle.path(bundle.manifest.tokenizer)), "hello").ids
        assert (tuple(model.generate("hello").tokens),) == tuple(reference.generate([ids]))


@pytest.mark.parametrize("build", [marian, t5], ids=["marian", "t5"])
def test_a_forbidden_token_is_no_difference(build: Callable[[], Any], mac: type[ModelProxy], tmp_path: Path) -> None:
    """Float16 cannot tell how far below the others it is; that neither says it is all that counts."""
    model = build()
    model.generation_config.bad_words_ids = [[75]]
    checkpoint = write_checkpoint(tmp_path / "checkpoint", model)
    export_checkpoint(checkpoint, tmp_path / "bundle", runtimes=["coreml"], precisions=["fp16"])
    rows = [Example(id=text, fields={"text": text}, target=text) for text in ("hello", "x = 1")]
    (verdict,) = verify_bundle(tmp_path / "bundle", checkpoint, rows).variants
    assert 0 < verdict.parity.mean_abs_logit_difference < verdict.parity.max_abs_logit_difference < 0.1
    found = opened(tmp_path, "fp16")
    assert (found.step(TARGET, found.encode(SOURCE, MASK), found.start(2)).logprobs[..., 75] < -1e4).all()


def test_verification_elsewhere_says_that_core_ml_did_not_run(exported: Path, tmp_path: Path) -> None:
    """The variant is kept, with no figure of its own, and the manifest says why and what to do on a Mac."""
    shutil.copytree(exported / "bundle", tmp_path / "bundle")
    rows = [Example(id=text, fields={"text": text}, target=text) for text in ("hello", "x = 1")]
    found = verify_bundle(tmp_path / "bundle", exported / "checkpoint", rows)
    (verdict,) = (each for each in found.variants if each.label == "coreml/int8")
    assert (verdict.kept, verdict.parity, verdict.metrics) == (True, None, None)
    with open_bundle(tmp_path / "bundle") as bundle:
        variant = bundle.manifest.variant(runtime="coreml", precision="int8")
    assert "is run by Core ML, which needs macOS 15 or newer, found Linux" in str(variant.unchecked)
    assert "on a Mac with: python -m pocketseq_bench.coreml_check" in str(variant.unchecked)
