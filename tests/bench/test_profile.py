"""Where the time of a suggestion goes, on a real bundle of the exporter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.export.models import VOCAB, m2m100, t5, write_checkpoint

from pocketseq import Example, PocketModel
from pocketseq.bundle import open_bundle
from pocketseq.errors import DataError, InputError, PocketSeqError
from pocketseq.runtimes.onnx import OnnxRuntime
from pocketseq.tokenizer import TextTokenizer
from pocketseq_bench.overhead import WARMUP
from pocketseq_bench.profile import profile, profile_markdown
from pocketseq_bench.profile.findings import run_graphs
from pocketseq_bench.profile.opening import profile_opening
from pocketseq_bench.profile.operators import by_kind, by_node, multiplications, read_profile
from pocketseq_bench.profile.shortlist import profile_shortlist
from pocketseq_bench.profile.starting import PACKAGES, imports_ms, profile_start
from pocketseq_export import export_checkpoint

ROWS = [Example(id=str(number), fields={"text": ("a text", "another")[number % 2]}, target="") for number in range(WARMUP + 2)]


def event(name: str, kind: str, microseconds: int, first: list[int], output: list[int]) -> dict[str, Any]:
    shapes = {"input_type_shape": [{"float": first}], "output_type_shape": [{"float": output}]}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": microseconds, "args": {"op_name": kind, **shapes}}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("profile")
    # The package has a bundle of that name: a path means the folder, in every process too.
    export_checkpoint(write_checkpoint(folder / "checkpoint", t5()), folder / "python-fix", precisions=["int8"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return profile(Path("python-fix"), ROWS, rounds=2)


def test_every_graph_is_taken_apart(found: dict[str, Any]) -> None:
    """Shares of a graph sum to one; matrix products are counted, and there are as many of them as the model has."""
    for graph in ("encode", "greedy"):
        assert sum(one["share"] for one in found["operators"][graph]) == pytest.approx(1)
    encode = {one["kind"]: one for one in found["operators"]["encode"]}
    assert encode["DynamicQuantizeMatMul"]["nodes"] == 2 * 4 + 1
    assert found["processor"]["encoder_products"] >= encode["DynamicQuantizeMatMul"]["products"] > 0
    assert (found["inputs"]["rows"], found["inputs"]["mean_source_tokens"]) == (WARMUP + 2, 7.5)  # an end token stands behind each


def test_the_graphs_answer_as_the_sdk_does(tmp_path: Path) -> None:
    """Where a bundle forces a prefix the answers come after it, and their lengths are those of the SDK."""
    export_checkpoint(write_checkpoint(tmp_path / "checkpoint", m2m100()), tmp_path / "bundle", precisions=["fp32"])
    given: list[list[int]] = []

    class Noting(OnnxRuntime):
        def step(self, token_ids: Any, memory: Any, cache: Any) -> Any:
            given.append(token_ids[0].tolist())
            return super().step(token_ids, memory, cache)

    with open_bundle(tmp_path / "bundle") as bundle, PocketModel.load(tmp_path / "bundle") as model:
        manifest = bundle.manifest
        runtime = Noting(bundle.paths(manifest.variants[0].files), manifest.geometry)
        tokenizer = TextTokenizer.from_file(bundle.path(manifest.tokenizer))
        sources = [np.array([manifest.template.encode(tokenizer, row.fields).ids]) for row in ROWS[:2]]
        lengths = run_graphs(runtime, manifest, sources, rounds=1)
        assert lengths == [len(model.generate(row.fields).tokens) for row in ROWS[:2]]
    assert given == [[2], [2]]


def test_what_is_the_sdks_own_is_less_than_the_whole(found: dict[str, Any]) -> None:
    """Measured where it happens, in the very suggestions whose stages are told; an earlier version's, too small, is not shown."""
    stages = found["stages_ms"]
    assert 0 < stages["sdk"] < stages["suggestion"]
    assert 0 < stages["sdk_share"] < 1
    row = "| of all this the SDK itself, for text never seen |"
    assert row in profile_markdown(found)
    assert row not in profile_markdown({**found, "format": 1})


def test_the_page_tells_rare_operators_together(found: dict[str, Any]) -> None:
    """And says over how many inputs, and what the processor could do at best."""
    page = profile_markdown(found)
    assert "| a suggestion |" in page
    assert "| DynamicQuantizeMatMul | 9 |" in page
    assert " ms. The output layer takes " in page.splitlines()[-1]
    assert "; 18 inputs of 8 tokens" in page
    assert " on average, the stages medians over the last 2, which follow the warm-up. A product" in page
    before = {**found, "inputs": {name: value for name, value in found["inputs"].items() if name != "timed_rows"}}
    assert " on average. A product" in profile_markdown(before)
    assert page.endswith(" times as fast: the most that a shortlist could bring.")


def test_a_shortlist_is_measured_at_its_best(found: dict[str, Any], tmp_path: Path) -> None:
    """In turns with the whole vocabulary; a graph that cannot be cut is told, and no figure made up."""
    assert found["shortlist"]["reason"] is None
    assert found["shortlist"]["ratio"] > 0
    assert found["shortlist"]["tokens"] == VOCAB // 2
    export_checkpoint(write_checkpoint(tmp_path / "checkpoint", t5()), tmp_path / "bundle", precisions=["fp32"])
    with open_bundle(tmp_path / "bundle") as bundle:
        files = bundle.paths(bundle.manifest.variant(precision="fp32").files)
        whole = profile_shortlist(files, bundle.manifest.geometry, [np.array([[5, 6]])], [2], rounds=1)
    assert whole["ratio"] is None
    assert "found: expected an output layer in eight or four bits, found FusedMatMul" in whole["reason"]


def test_a_start_is_told_by_package_and_step(found: dict[str, Any]) -> None:
    """All of them take some time, and none is counted twice."""
    assert list(found["start_ms"]) == ["python", *PACKAGES, "load", "open", "answer"]
    assert all(ms > 0 for ms in found["start_ms"].values())
    report = """import time: self [us] | cumulative | imported package
import time:       100 |        100 |     json.decoder
import time:      2000 |       2100 |   numpy._core
import time:       300 |       2400 | numpy
a warning"""
    assert imports_ms(report) == {"python": 0.1, "numpy": 2.3, "onnxruntime": 0, "tokenizers": 0, "pocketseq": 0}


def test_a_start_is_held_against_its_libraries_alone(found: dict[str, Any]) -> None:
    """An interpreter, numpy, the graphs run by hand, the SDK: each does what the one before does, and more."""
    floor = found["floor_ms"]
    assert list(floor) == ["python", "numpy", "by_hand", "pocketseq", "pocketseq_kept"]
    assert all(ms > 0 for ms in floor.values())
    assert f"run once by hand from files that nobody verified, {floor['by_hand']:.0f} ms" in profile_markdown(found)
    assert f"a fresh process then takes {floor['pocketseq_kept']:.0f} ms" in profile_markdown(found)
    earlier = {name: ms for name, ms in floor.items() if name != "pocketseq_kept"}
    assert "graph_cache" not in profile_markdown({**found, "floor_ms": earlier})
    before = {name: value for name, value in found.items() if name not in ("floor_ms", "opening")}
    assert "by hand" not in profile_markdown(before)


def test_copies_of_graphs_hold_all_that_they_need(found: dict[str, Any]) -> None:
    """They open, so that their times can stand beside those of the graphs that ship."""
    opening = found["opening"]
    assert list(opening)[:3] == ["shipped_ms", "optimised_ms", "laid_out_ms"]
    assert all(value > 0 for value in opening.values())
    assert opening["kept_bytes"] < opening["shipped_bytes"]


def test_a_bundle_without_the_greedy_loop_is_refused(tmp_path: Path) -> None:
    """Bundles of before have none."""
    with open_bundle("python-fix") as bundle:
        geometry = bundle.manifest.geometry
    with pytest.raises(DataError, match="expected the graphs encode.onnx, greedy.onnx, found only"):
        profile_opening({"onnx/int8/encode.onnx": tmp_path / "encode.onnx"}, geometry, runs=1)


def test_without_inputs_there_is_nothing_to_profile(tmp_path: Path) -> None:
    """Said before anything is opened."""
    with pytest.raises(DataError, match="expected more than the 16 rows of the warm-up, found 16"):
        profile(tmp_path, ROWS[:WARMUP])
    with pytest.raises(InputError, match="rounds: expected a whole number from 1, found 0"):
        profile(tmp_path, ROWS, rounds=0)
    with pytest.raises(PocketSeqError, match="expected a process that answers, found: "):
        profile_start(tmp_path, {"text": "x"}, precision="int8", runs=1)


def test_nodes_are_summed_up_by_kind(tmp_path: Path) -> None:
    """Two nodes of a kind, one of them twice in a run, as in a loop; the loop itself and what is no node count nothing."""
    events = [
        event("a", "MatMul", 10, [1, 4, 8], [1, 4, 16]),
        event("a", "MatMul", 30, [1, 4, 8], [1, 4, 16]),
        event("b", "MatMul", 20, [1, 1, 2], [1, 1, 3]),
        event("c", "Relu", 60, [1, 4], [1, 4]),
        event("d", "Loop", 900, [1], [1]),
        {"cat": "Session", "name": "model_run", "dur": 1000},
    ]
    (tmp_path / "profile.json").write_text(json.dumps(events), encoding="utf-8")
    nodes = read_profile(tmp_path / "profile.json")
    relu, product = sorted(by_kind(nodes, runs=1), key=lambda one: one.kind, reverse=True)
    assert (relu.kind, relu.nodes, relu.products) == ("Relu", 1, 0)
    assert (product.nodes, product.products) == (2, 2 * 4 * 16 * 8 + 3 * 2)
    assert [relu.ms, relu.share, product.ms] == pytest.approx([0.06, 0.5, 0.06])
    assert {node.name: node.ms for node in by_node(nodes, runs=2)} == pytest.approx({"a": 0.02, "b": 0.01, "c": 0.03})
    assert multiplications(events[3]["args"]) == 0
