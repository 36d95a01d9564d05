"""Benchmarks without a machine: documents made by hand, small enough to check."""

from __future__ import annotations

from typing import Any

from pocketseq_bench.document import BenchDocument, BundleCard, Conduct, DeviceCard, InputsCard, MachineState
from pocketseq_bench.intervals import samples
from pocketseq_bench.row import Forced, Memory, Reading, Relative, Row, Startup, Throughput

STAGES = ("tokenize", "encode", "decode", "detokenize", "per_token")
UNTOLD = Reading(None, "no sensor")
DEVICE = DeviceCard(
    processor="A <fast> processor",
    machine="x86_64",
    extensions=("avx2",),
    physical_cores=1,
    logical_cores=2,
    memory_bytes=8_000_000_000,
    os="Linux 6",
    power_mode=UNTOLD,
    python="3.11.9",
    libraries={"numpy": "2.0"},
)


def row(precision: str, size_bytes: int, exact_match: float, *, ms: float = 20.0, **changes: Any) -> Row:
    """A configuration whose suggestions take about so long, in six rounds."""
    total = samples([[ms, ms, ms * 1.5]] * 6)
    values: dict[str, Any] = {
        "runtime": "onnx",
        "precision": precision,
        "threads": 1,
        "hash": "0" * 16,
        "size_bytes": size_bytes,
        "status": "measured",
        "startup": Startup(samples([[100.0]]), samples([[50.0]]), samples([[25.0]])),
        "stages_ms": {"total": total, **{name: samples([[ms / 4]]) for name in STAGES}},
        "tokens": 4.0,
        "forced": Forced(16, total, total),
        "throughput": (Throughput(1, 50.0, total), Throughput(8, 120.0, total)),
        "memory": Memory(*(Reading(size) for size in (40e6, 60e6, 70e6, 80e6))),
        "cpu_ms": ms,
        "quality": {"exact_match": exact_match, "edit_similarity": 0.95, "parses": 0.98, "repaired": 0.68, "false_alarms": 0.04},
        "quality_n": 4,
        "parity": {"inputs": 200, "identical_generations": 0.995, "max_abs_logit_difference": 1e-4},
        "stop": "precise",
        "spread": 0.01,
        "halves": 1.01,
        "processor_ms": total,
        "by_processor": True,
        "relative": Relative(ms / 20, "against onnx/fp32, by processor time", low=ms / 20.2, high=ms / 19.8),
    }
    return Row(**(values | changes))


def document(*rows: Row, **changes: Any) -> BenchDocument:
    """A benchmark of these rows on a quiet machine."""
    state = MachineState(UNTOLD, Reading(2000.0))
    values: dict[str, Any] = {
        "made_at": "2026-01-01T00:00:00+00:00",
        "bundle": BundleCard("tiny", "1", "python-fix", "1" * 16),
        "inputs": InputsCard("rows.jsonl", 4, labelled=True, hash="2" * 16),
        "settings": {"tolerance": 0.03},
        "device": DEVICE,
        "conduct": Conduct(
            12.0, True, "quiet: all well", samples([[5.0]]), 0.01, Reading(0.0), Reading(0.02), 0.001, state, state, 0.0
        ),
        "rows": rows,
    }
    return BenchDocument(**(values | changes))
