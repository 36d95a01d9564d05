"""The cache of optimised graphs: the same answers, nothing loaded that is not whole, nothing written into a package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pocketseq import Beams, Constraints, PocketModel, packaged_bundles
from pocketseq.bundle import open_bundle, pack, write_manifest
from pocketseq.confidence import Scoring
from pocketseq.runtimes import graphs, sessions
from pocketseq.runtimes.graphs import GraphCache, graph_cache
from pocketseq.runtimes.inlining import SMALL_BYTES, inlined
from pocketseq.runtimes.onnx import OnnxRuntime
from pocketseq.runtimes.opening import open_runtime
from pocketseq.runtimes.processor import sums_overflow

LINES = ("for i in rnage(10):", "    retrun self.name", "x = y")
GRAPHS = ("encode", "step")
"""Those that are opened first: its scorer looks at every token."""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX variant of the bundle that ships, elsewhere; its graphs share a file of weights."""
    with open_bundle("python-fix") as bundle:
        variant = bundle.manifest.variant(runtime="onnx")
        files = bundle.paths([bundle.manifest.tokenizer, *variant.files])
        manifest = bundle.path(bundle.manifest.tokenizer).parent / "manifest.json"
    directory = tmp_path_factory.mktemp("bundles") / "fix"
    for name, path in {"manifest.json": manifest, **files}.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, directory / name)
    return directory


def answers(source: Path, **options: Any) -> list[object]:
    """Everything that four ways to ask tell of three lines, times left out; opens all four graphs."""
    with PocketModel.load(source, runtime="onnx", **options) as model:
        results = [
            model.generate(line, **ways)
            for line in LINES
            for ways in (
                {"pooled": True},
                {"beams": Beams(3, answers=2)},
                {"constraints": Constraints(suppressed=(9,)), "alternatives": 3},
            )
        ]
        results += [model.scored_by(Scoring()).generate(line) for line in LINES]  # by the greedy graph
        scores: list[object] = [model.score(line, line) for line in LINES]
    return [*(replace(result, timing=None, evidence=None) for result in results), *scores]  # type: ignore[arg-type]


def opened(source: Path, folder: Path) -> Any:
    with open_bundle(source) as bundle:
        runtime: Any = open_runtime(bundle, bundle.manifest.variant(runtime="onnx"), graph_cache=folder)
    runtime.open_decoder(greedy=False)
    return runtime


def kept(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.rglob("*") if path.is_file()}


def test_answers_are_the_same_to_the_last_bit(shipped: Path, tmp_path: Path) -> None:
    """Tokens, log-probabilities, states, beams and scores: without a cache, as it is written, and as it is read."""
    plain = answers(shipped)
    assert answers(shipped, graph_cache=tmp_path) == plain
    written = {name: path.stat().st_mtime_ns for name, path in kept(tmp_path).items()}
    assert set(written) == {"encode", "greedy", "step", "beams"}
    assert answers(shipped, graph_cache=tmp_path) == plain
    assert {name: path.stat().st_mtime_ns for name, path in kept(tmp_path).items()} == written


def test_warming_up_opens_what_answers_need_and_nothing_else(shipped: Path, tmp_path: Path) -> None:
    """Single steps where the scorer looks at every token, the loop where it does not; then no way to ask opens another."""
    for scoring, needed in ((None, {"encode", "step"}), (Scoring(), {"encode", "greedy"})):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        with PocketModel.load(shipped, runtime="onnx", graph_cache=folder) as loaded:
            model = loaded if scoring is None else loaded.scored_by(scoring)
            assert not folder.exists()
            model.warm_up()
            assert set(kept(folder)) == needed
            model.generate(LINES[0], deadline_s=60)
            model.generate_batch(list(LINES))
            list(model.stream(LINES[0]))
            assert set(kept(folder)) == needed


def test_graphs_without_a_file_of_weights_are_kept_too(pristine_bundle: Path, tmp_path: Path) -> None:
    """Old bundles hold their weights in the graphs."""
    plain = answers(pristine_bundle)
    for _ in range(2):
        assert answers(pristine_bundle, graph_cache=tmp_path) == plain
    assert kept(tmp_path)


def test_what_is_kept_is_what_is_opened(shipped: Path, tmp_path: Path) -> None:
    """A note written into the kept graph is found in the session; without the cache it is not there."""
    opened(shipped, tmp_path)
    with open_bundle(shipped) as bundle:
        cache = graph_cache(bundle, bundle.manifest.variant(runtime="onnx"), tmp_path)
    assert cache is not None
    key = sessions._key(cache)
    graph = onnx.load_from_string(cache.read("encode", key) or b"")
    graph.doc_string = "kept"
    cache.write("encode", key, graph.SerializeToString())
    assert opened(shipped, tmp_path)._encode.get_modelmeta().description == "kept"
    assert opened(shipped, tmp_path / "other")._encode.get_modelmeta().description == ""


def test_weights_are_not_copied(shipped: Path, tmp_path: Path) -> None:
    """What is kept is a fiftieth of the weights: large tensors stay where they are, small ones stand in the graph.

    An encoder whose weights were made unsigned, since sums of int8 products overflow here, keeps those that were.
    """
    opened(shipped, tmp_path)
    copies = [path for name, path in kept(tmp_path).items() if name != "encode" or not sums_overflow()]
    assert sum(path.stat().st_size for path in copies) < 0.02 * (shipped / "onnx/int8/weights.bin").stat().st_size
    with open_bundle(shipped) as bundle:
        cache = graph_cache(bundle, bundle.manifest.variant(runtime="onnx"), tmp_path)
    assert cache is not None
    graph = onnx.load_from_string(cache.read("encode", sessions._key(cache)) or b"").graph
    outside = [int(pair.value) for tensor in graph.initializer for pair in tensor.external_data if pair.key == "length"]
    assert outside
    assert min(outside) >= SMALL_BYTES


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "noise", "renamed", "of an older format"])
def test_a_damaged_or_foreign_file_is_never_loaded(shipped: Path, tmp_path: Path, damage: str) -> None:
    """The answer is the one of the bundle, and the file is whole again afterwards."""
    opened(shipped, tmp_path)
    files = kept(tmp_path)
    whole = {name: path.read_bytes() for name, path in files.items()}
    assert set(whole) == set(GRAPHS)
    for name, path in files.items():
        content = bytearray(whole[name])
        if damage == "flipped":
            content[-9] ^= 1
        elif damage == "of an older format":
            content[:1] = b"P"
        other: bytes = whole["step" if name == "encode" else "encode"]
        spoiled: dict[str, bytes] = {"cut": bytes(content[:-1]), "empty": b"", "noise": os.urandom(len(content)), "renamed": other}
        path.write_bytes(spoiled.get(damage, bytes(content)))
    with open_bundle(shipped) as bundle:
        cache = graph_cache(bundle, bundle.manifest.variant(runtime="onnx"), tmp_path)
    assert cache is not None
    assert [cache.read(name, sessions._key(cache)) for name in GRAPHS] == [None, None]
    assert answers(shipped, graph_cache=tmp_path) == answers(shipped)
    assert {name: kept(tmp_path)[name].read_bytes() for name in GRAPHS} == whole


def test_a_file_that_onnxruntime_refuses_is_written_anew(shipped: Path, tmp_path: Path) -> None:
    """Whole by its digest, and no graph, or another graph than the contract's: the original is opened."""
    opened(shipped, tmp_path)
    with open_bundle(shipped) as bundle:
        cache = graph_cache(bundle, bundle.manifest.variant(runtime="onnx"), tmp_path)
    assert cache is not None
    key = sessions._key(cache)
    step = cache.read("step", key)
    assert step
    for content in (b"no graph", step):
        cache.write("encode", key, content)
        memory = opened(shipped, tmp_path).encode(np.array([[70, 71]]), np.ones((1, 2), dtype=np.int64))
        assert memory.pooled.shape[0] == 1
        assert cache.read("encode", key) not in (None, content)


def test_another_bundle_library_or_processor_replaces_what_is_stale(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file for each graph, however often anything changed."""
    cache = GraphCache(tmp_path, "a")
    keys = {cache.key(["1.31"]), cache.key(["1.32"]), GraphCache(tmp_path, "b").key(["1.31"])}
    monkeypatch.setattr(graphs, "_processor", lambda: "another")
    keys.add(cache.key(["1.31"]))
    assert len(keys) == 4
    for key in keys:
        assert cache.read("encode", key) is None
        cache.write("encode", key, b"graph")
        assert cache.read("encode", key) == b"graph"
    assert [path.name for path in tmp_path.iterdir()] == ["encode.graph"]


def test_many_at_once_leave_whole_files(shipped: Path, tmp_path: Path) -> None:
    """Threads and processes that open one bundle with one empty cache: all answer, nothing is left half-written."""
    program = "import sys; from pocketseq import PocketModel; PocketModel.load(sys.argv[1], graph_cache=sys.argv[2]).warm_up()"
    processes = [subprocess.Popen([sys.executable, "-c", program, str(shipped), str(tmp_path)]) for _ in range(2)]
    with ThreadPoolExecutor(4) as threads:
        assert all(isinstance(one, OnnxRuntime) for one in threads.map(lambda _: opened(shipped, tmp_path), range(8)))
    assert [process.wait() for process in processes] == [0, 0]
    with open_bundle(shipped) as bundle:
        cache = graph_cache(bundle, bundle.manifest.variant(runtime="onnx"), tmp_path)
    assert cache is not None
    assert all(cache.read(name, sessions._key(cache)) for name in GRAPHS)
    assert sorted(path.name for path in cache.folder.iterdir()) == [f"{name}.graph" for name in GRAPHS]


def test_it_lies_beside_the_bundle(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a directory and beside a file, never in it; without the argument nothing is written anywhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    directory, file = tmp_path / "fix", tmp_path / "fix.pocketseq"
    shutil.copytree(shipped, directory)
    with open_bundle(directory) as bundle:
        one = replace(bundle.manifest, variants=(bundle.manifest.variant(runtime="onnx"),))
    write_manifest(directory, one)
    pack(directory, file)
    before = sorted(tmp_path.rglob("*"))
    for source in (directory, file):
        with PocketModel.load(source) as model:
            model.warm_up()
    assert sorted(tmp_path.rglob("*")) == before
    for source in (directory, file):
        with PocketModel.load(source, graph_cache=True) as model:
            model.warm_up()
        assert set(kept(source.with_name(f"{source.name}.graphs"))) == set(GRAPHS)
    assert [path for path in sorted(tmp_path.rglob("*")) if not any(part.endswith(".graphs") for part in path.parts)] == before


def test_nothing_is_written_inside_a_package(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the bundle that ships, and of one in another installed package, the graphs go to the user's cache."""
    if sys.platform in ("darwin", "win32"):
        monkeypatch.setattr(graphs, "_user_caches", lambda: tmp_path / "caches")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    installed = Path(shutil.copytree(shipped, tmp_path / "site-packages" / "app" / "fix"))
    with open_bundle(packaged_bundles()[0]) as bundle:
        package = bundle.path(bundle.manifest.tokenizer).parent.parent
    before = sorted([*package.rglob("*"), *(tmp_path / "site-packages").rglob("*")])
    sources: tuple[str | Path, ...] = ("python-fix", installed)
    for number, source in enumerate(sources, 1):
        with PocketModel.load(source, runtime="onnx", graph_cache=True) as model:
            model.warm_up()
        assert len(list((tmp_path / "caches").rglob("*.graph"))) == number * len(GRAPHS)
    assert sorted([*package.rglob("*"), *(tmp_path / "site-packages").rglob("*")]) == before


def test_what_cannot_be_written_is_done_without(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where the folder should be, no home, a full disk: the model opens and answers."""
    place = tmp_path / "file"
    place.write_text("in the way")
    with PocketModel.load(shipped, runtime="onnx", graph_cache=place) as model:
        assert model.generate(LINES[1]).text == "    return self.name"
    assert place.read_text() == "in the way"

    def homeless() -> Path:
        raise RuntimeError("no home")

    with monkeypatch.context() as patched, PocketModel.load("python-fix", graph_cache=True) as model:
        patched.setattr(graphs, "_user_caches", homeless)
        model.warm_up()

    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with PocketModel.load(shipped, runtime="onnx", graph_cache=tmp_path / "full") as model:
        assert model.generate(LINES[1]).text == "    return self.name"
    assert not kept(tmp_path / "full")


def test_small_tensors_are_inlined_as_onnx_reads_them(shipped: Path) -> None:
    """The walk over the message's fields gives the graph that onnx's own reader gives, tensor by tensor."""
    folder = shipped / "onnx" / "int8"
    for name in ("encode", "greedy", "step", "beams"):
        written = (folder / f"{name}.onnx").read_bytes()
        found = onnx.load_from_string(inlined(written, folder))
        expected = onnx.load_from_string(written)
        assert found.graph.node == expected.graph.node
        onnx.load_external_data_for_model(expected, str(folder))
        for tensor, before in zip(found.graph.initializer, expected.graph.initializer, strict=True):
            large = len(before.raw_data) >= SMALL_BYTES
            assert (tensor.data_location == onnx.TensorProto.EXTERNAL) == large
            assert (tensor.name, tensor.dims, tensor.data_type) == (before.name, before.dims, before.data_type)
            assert large or onnx.numpy_helper.to_array(tensor).tobytes() == onnx.numpy_helper.to_array(before).tobytes()


@pytest.mark.parametrize("message", [b"\x08", b"\x3a\x05ab", b"\x0b", b"\xff" * 4])
def test_a_message_that_is_none_is_refused(message: bytes, tmp_path: Path) -> None:
    """Cut numbers, cut fields and unknown kinds are no graph."""
    with pytest.raises(ValueError, match="expected a"):
        inlined(message, tmp_path)


def test_weights_that_are_cut_are_refused(shipped: Path, tmp_path: Path) -> None:
    """A tensor that its file no longer holds is not kept as zeros."""
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="expected 8224 bytes|expected \\d+ bytes of a tensor, found 0"):
        inlined((shipped / "onnx/int8/encode.onnx").read_bytes(), tmp_path)
