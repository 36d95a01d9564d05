"""The profile of a bundle's ONNX variant on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from pocketseq.bundle import Bundle, open_bundle
from pocketseq.decoding.greedy import greedy_answer
from pocketseq.examples import Example
from pocketseq.manifest import Manifest
from pocketseq.records import plain
from pocketseq.runtimes.onnx import OnnxRuntime
from pocketseq.runtimes.processor import product_session
from pocketseq.runtimes.protocol import Ids
from pocketseq.tokenizer import TextTokenizer
from pocketseq_bench.environment import environment
from pocketseq_bench.instrument import check_enough
from pocketseq_bench.measuring.inputs import BenchInputs
from pocketseq_bench.overhead import WARMUP, Call, Calls, measure_calls, row_medians, sdk_share
from pocketseq_bench.profile.floor import profile_floor
from pocketseq_bench.profile.opening import profile_opening
from pocketseq_bench.profile.operators import by_kind, by_node, read_profile
from pocketseq_bench.profile.shortlist import profile_shortlist
from pocketseq_bench.profile.starting import profile_start

FORMAT: Final = 2
"""In the first one the SDK's share was measured with a runtime that answered from memory, which made it too small."""
ROUNDS: Final = 10
_LONGEST: Final = 8
"""Nodes of a graph that are told by name."""
_OUTPUT: Final = "output.product"
"""Name of the node that gives every token of the vocabulary its score."""
_STARTS: Final = 5
"""Fresh processes of each kind."""
_OPENINGS: Final = 9
"""How often the graphs are opened."""
_SQUARE: Final = 512
"""Rows and columns of the product by which the processor is measured: they fit into its cache."""


def profile(source: str | Path, examples: Sequence[Example], *, precision: str = "int8", rounds: int = ROUNDS) -> dict[str, Any]:
    """Find where the time of a suggestion goes, on one thread.

    Args:
        source: A bundle with an ONNX variant.
        examples: Inputs, more than ``overhead.WARMUP``.
        precision: Of the variant.
        rounds: How often each input is answered.

    Returns:
        JSON values: medians in milliseconds; operators by kind with their multiplications; what the processor could do at best.

    Raises:
        BundleError: no bundle, or no such variant in it.
        DataError: too few inputs.
        InputError: not one round.
    """
    inputs = BenchInputs.of_examples(examples, origin="the rows to profile")
    check_enough(inputs, warmup=WARMUP, rounds=rounds)
    with open_bundle(source) as bundle:
        manifest = bundle.manifest
        variant = manifest.variant(runtime="onnx", precision=precision)
        files = bundle.paths(variant.files)
        stages = _stages(measure_calls(bundle, variant, [row.fields for row in examples], rounds=rounds)["new_text"]["wall"])
        tokenizer = bundle.path(manifest.tokenizer)
        floor = profile_floor(
            source,
            examples[0].fields,
            ids=manifest.template.encode(TextTokenizer.from_file(tokenizer), examples[0].fields).ids,
            files=files,
            tokenizer=tokenizer,
            geometry=manifest.geometry,
            precision=precision,
            limit=manifest.generation.max_new_tokens,
            runs=_STARTS,
        )
        opening = profile_opening(files, manifest.geometry, runs=_OPENINGS)
        sources = _sources(manifest, bundle, examples)
        with tempfile.TemporaryDirectory() as folder:
            runtime = OnnxRuntime(files, manifest.geometry, profile=Path(folder))
            lengths = run_graphs(runtime, manifest, sources, rounds=rounds)
            written = runtime.end_profiles()
            profiles = {name: read_profile(file) for name, file in written.items()}
        shortlist = profile_shortlist(files, manifest.geometry, sources, lengths, rounds=rounds)
    runs = rounds * len(examples)
    operators = {name: by_kind(nodes, runs=runs) for name, nodes in profiles.items()}
    at_best = _int8_products_per_s()
    encoder = sum(kind.products for kind in operators["encode"])
    return {
        "format": FORMAT,
        "bundle": manifest.name,
        "variant": variant.label,
        "inputs": {
            "rows": len(examples),
            "timed_rows": len(examples) - WARMUP,
            "mean_source_tokens": float(np.mean([ids.size for ids in sources])),
            "mean_answer_tokens": float(np.mean(lengths)),
        },
        "environment": environment(),
        "stages_ms": stages,
        "start_ms": profile_start(source, examples[0].fields, precision=precision, runs=_STARTS),
        "floor_ms": floor,
        "opening": opening,
        "operators": {name: plain(tuple(found)) for name, found in operators.items()},
        "longest_nodes": {name: plain(tuple(by_node(nodes, runs=runs)[:_LONGEST])) for name, nodes in profiles.items()},
        "output_layer_share": next((node.share for node in by_node(profiles["greedy"], runs=runs) if node.name == _OUTPUT), None),
        "shortlist": shortlist,
        "processor": {
            "int8_products_per_s": at_best,
            "encoder_products": encoder,
            "encoder_ms_at_best": 1000 * encoder / at_best,
        },
    }


def _stages(calls: Calls) -> dict[str, float]:
    """A whole suggestion to text never seen, its stages, and what of it was spent outside the runtime: medians over rows."""
    numbers: dict[str, Callable[[Call], float]] = {
        "suggestion": lambda call: 1000 * (call.sdk_s + call.runtime_s),
        "encode": lambda call: call.encode_ms,
        "decode": lambda call: call.decode_ms,
        "sdk": lambda call: 1000 * call.sdk_s,
    }
    stages = {name: float(np.median(row_medians(calls, number))) for name, number in numbers.items()}
    return {**stages, "sdk_share": float(np.median(sdk_share(calls)))}


def _sources(manifest: Manifest, bundle: Bundle, examples: Sequence[Example]) -> list[Ids]:
    """Token ids of the inputs, int64 [1, source] each."""
    tokenizer = TextTokenizer.from_file(bundle.path(manifest.tokenizer))
    encoded = (manifest.template.encode(tokenizer, example.fields, overflow="truncate") for example in examples)
    return [np.array([one.ids], dtype=np.int64) for one in encoded]


def run_graphs(runtime: OnnxRuntime, manifest: Manifest, sources: Sequence[Ids], *, rounds: int) -> list[int]:
    """Answer inputs one after the other, greedily.

    Args:
        runtime: With the graphs.
        manifest: Of their bundle.
        sources: Token ids of the inputs, int64 [1, source] each.
        rounds: How often each is answered.

    Returns:
        Tokens of the answer to each.
    """
    prompt = np.array([[manifest.geometry.start_id, *manifest.generation.forced_prefix]], dtype=np.int64)
    end_id, limit = manifest.geometry.end_id, manifest.generation.max_new_tokens
    lengths: list[int] = []
    for _ in range(rounds):
        lengths = []
        for ids in sources:
            memory = runtime.encode(ids, np.ones_like(ids))
            lengths.append(len(greedy_answer(runtime, memory, prompt=prompt, end_id=end_id, max_new_tokens=limit).ids))
    return lengths


def _int8_products_per_s() -> float:
    """Multiplications of 8 bits that ONNX Runtime does in a second on this processor at best, on one thread."""
    session = product_session()
    feeds = {"a": np.ones((_SQUARE, _SQUARE), dtype=np.uint8), "b": np.ones((_SQUARE, _SQUARE), dtype=np.int8)}
    taken = []
    for _ in range(60):
        started = perf_counter()
        session.run(["c"], feeds)
        taken.append(perf_counter() - started)
    return _SQUARE**3 / min(taken)
