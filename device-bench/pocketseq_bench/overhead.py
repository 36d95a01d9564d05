"""What the SDK costs beside the runtime: the share of a suggestion that is spent outside the runtime's calls.

    python -m pocketseq_bench.overhead [BUNDLE] [--inputs ROWS.jsonl] [--rounds N] [-o FILE]

Tokenising, the template, choosing tokens, confidence and results are the SDK's; encoding and decoder steps are the runtime's. Every
round opens the tokenizer anew, so that each row is answered once as text that was never seen and once more as text that was; rows'
medians over the rounds are told, by wall clock and, in rounds of their own, by the thread's processor time, which other programs
disturb less and whose reading costs more.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from pocketseq import PocketModel, open_bundle
from pocketseq.bundle import Bundle
from pocketseq.manifest import Variant
from pocketseq.runtimes.opening import choose_variant, open_runtime
from pocketseq.runtimes.protocol import AnyRuntime
from pocketseq.tokenizer import TextTokenizer
from pocketseq_bench.environment import environment
from pocketseq_bench.instrument import check_enough, measure_bundle
from pocketseq_bench.measuring.inputs import BenchInputs

FORMAT: Final = 1
ROUNDS: Final = 7
WARMUP: Final = 16
"""Rows that are asked before the others and not counted."""
_CALLS: Final = ("encode", "start", "step", "greedy", "beams", "select", "keep")
_CLOCKS: Final[Mapping[str, Callable[[], float]]] = {"wall": time.perf_counter, "cpu": time.thread_time}


class Timed:
    """A runtime that adds up what its calls take."""

    def __init__(self, runtime: Any) -> None:
        """Wrap a runtime; what it cannot do, this cannot either."""
        self.now = time.perf_counter
        """The clock that is read."""
        self.spent = 0.0
        """Seconds."""
        for name in _CALLS:
            if hasattr(runtime, name):
                setattr(self, name, self._timed(getattr(runtime, name)))

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            began = self.now()
            try:
                return call(*args, **named)
            finally:
                self.spent += self.now() - began

        return timed


@dataclass(frozen=True, slots=True)
class Call:
    """One suggestion."""

    sdk_s: float
    """Outside the runtime's calls."""
    runtime_s: float
    """Inside them."""
    encode_ms: float
    """Encoder, as the result tells it."""
    decode_ms: float
    """Decoder with what the SDK does between its steps, likewise."""


Calls: TypeAlias = Sequence[Sequence[Call]]
"""Calls by row, then by round."""
Floats: TypeAlias = NDArray[np.float64]


def overhead(source: str | Path, inputs: BenchInputs, *, precision: str | None = None, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure a bundle's suggestions, one at a time, on one thread.

    Args:
        source: See ``PocketModel.load``.
        inputs: More than ``WARMUP`` of them.
        precision: Of the variant; None takes the bundle's first that fits.
        rounds: How often each row is answered as text never seen, and as text seen before.

    Returns:
        JSON values: for each kind of text and each clock the share, and the microseconds of the SDK and of the runtime.

    Raises:
        DataError: too few inputs.
        InputError: not one round.
    """
    check_enough(inputs, warmup=WARMUP, rounds=rounds)
    rows = [row.fields for row in inputs.rows]
    with open_bundle(source) as bundle:
        manifest = bundle.manifest
        variant = choose_variant(manifest, precision=precision)
        taken = measure_calls(bundle, variant, rows, rounds=rounds)
    return {
        "format": FORMAT,
        "bundle": manifest.name,
        "variant": variant.label,
        "hash": variant.hash,
        "rows": len(rows) - WARMUP,
        "rounds": rounds,
        "inputs": inputs.origin,
        "environment": environment(),
        **{kind: {clock: _summary(found) for clock, found in places.items()} for kind, places in taken.items()},
    }


def measure_calls(
    bundle: Bundle, variant: Variant, rows: Sequence[Mapping[str, str]], *, rounds: int
) -> Mapping[str, Mapping[str, Calls]]:
    """Answer rows again and again, on one thread, the first ``WARMUP`` without counting them.

    Args:
        bundle: An open one.
        variant: One of its variants.
        rows: Fields of more than ``WARMUP`` inputs.
        rounds: How often each row is answered as text never seen, and as text seen before.

    Returns:
        Calls for ``new_text`` and ``seen_text``, by the name of the clock.
    """
    manifest = bundle.manifest
    taken: dict[str, dict[str, list[list[Call]]]] = {
        kind: {clock: [[] for _ in rows[WARMUP:]] for clock in _CLOCKS} for kind in ("new_text", "seen_text")
    }
    runtime = Timed(open_runtime(bundle, variant))
    opened: AnyRuntime = cast("AnyRuntime", runtime)
    for _, (clock, now) in product(range(rounds), _CLOCKS.items()):
        runtime.now = now
        model = PocketModel(
            manifest,
            variant,
            open_tokenizer=lambda: TextTokenizer.from_file(bundle.path(manifest.tokenizer)),
            open_runtime=lambda: opened,
        )
        for row in rows[:WARMUP]:
            model.generate(row)
        for places in taken.values():
            for place, row in zip(places[clock], rows[WARMUP:], strict=True):
                runtime.spent, began = 0.0, now()
                result = model.generate(row)
                outside = now() - began - runtime.spent
                place.append(Call(outside, runtime.spent, result.timing.encode_ms, result.timing.decode_ms))
    return taken


def row_medians(calls: Calls, number: Callable[[Call], float]) -> Floats:
    """Of each row its median over the rounds: float64 [rows]."""
    return np.array([median(map(number, row)) for row in calls])


def sdk_share(calls: Calls) -> Floats:
    """Of each row the share of its time outside the runtime's calls: float64 [rows]."""
    outside, inside = row_medians(calls, lambda call: call.sdk_s), row_medians(calls, lambda call: call.runtime_s)
    return outside / (outside + inside)


def _summary(calls: Calls) -> dict[str, float]:
    """Medians over rows of each row's medians over rounds."""
    share = sdk_share(calls)
    return {
        "share": round(float(np.median(share)), 4),
        "share_p95": round(float(np.percentile(share, 95)), 4),
        "sdk_us": round(1e6 * float(np.median(row_medians(calls, lambda call: call.sdk_s))), 1),
        "runtime_us": round(1e6 * float(np.median(row_medians(calls, lambda call: call.runtime_s))), 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    return measure_bundle(
        arguments,
        overhead,
        _lines,
        name="pocketseq_bench.overhead",
        summary="What the SDK costs beside the runtime.",
        rounds=ROUNDS,
    )


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("new_text", "seen_text"):
        for clock, one in found[kind].items():
            yield (
                f"{kind:<10} {clock:<5} SDK {one['sdk_us']:6.0f} µs of {one['sdk_us'] + one['runtime_us']:6.0f} µs, "
                f"{one['share']:.1%} (p95 {one['share_p95']:.1%})"
            )


if __name__ == "__main__":
    sys.exit(main())
