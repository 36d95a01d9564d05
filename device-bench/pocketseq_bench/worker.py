"""The process that is measured: opens one variant and answers in turns, as the parent asks over its pipes.

    python -m pocketseq_bench.worker   # one JSON request a line on standard input, one reply a line on standard output

Nothing heavy is imported before the parent asks, so that the time of the imports can be taken: hence it lies in the package that
imports nothing itself.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocketseq import PocketModel, Result

LOOP = 120_000
"""Turns of the fixed loop: some milliseconds."""


class Subject:
    """One variant under measurement."""

    def __init__(self) -> None:
        self._source = ""
        self._variant: Mapping[str, Any] = {}
        self._rows: Sequence[Mapping[str, str]] = ()
        self._model: PocketModel | None = None

    def open(
        self, source: str, variant: Mapping[str, Any], cores: Sequence[int], rows: Sequence[Mapping[str, str]]
    ) -> dict[str, Any]:
        """Import the SDK, load the variant, answer once; the times of each, and the memory after."""
        started = time.perf_counter()
        from pocketseq import PocketModel

        imported = time.perf_counter()
        from pocketseq_bench.device.pinning import pin
        from pocketseq_bench.device.processes import resident_bytes

        reason, before = pin(cores), resident_bytes()
        self._source, self._variant, self._rows = source, variant, rows
        ready = time.perf_counter()
        model = PocketModel.load(source, **variant)
        model.warm_up()
        loaded = time.perf_counter()
        after = resident_bytes()
        asked = time.perf_counter()
        model.generate(rows[0])
        answered = time.perf_counter()
        self._model = model
        return {
            "import_ms": 1000 * (imported - started),
            "load_ms": 1000 * (loaded - ready),
            "first_ms": 1000 * (answered - asked),
            "not_pinned": reason,
            "imported_bytes": [before.value, before.reason],
            "loaded_bytes": [after.value, after.reason],
        }

    def loop(self) -> dict[str, Any]:
        """Time a fixed piece of work, and clear away what the last turn has left; both before a turn, and no part of it."""
        loop_ms = _loop()
        gc.collect()
        return {"loop_ms": loop_ms}

    def turn(self, rows: Sequence[int], warmup: int) -> dict[str, Any]:
        """Answer inputs one at a time; natural lengths."""
        from pocketseq_bench.latency import time_calls

        model = self._opened()
        timed = time_calls(lambda row: model.generate(self._rows[row]), rows, warmup=warmup)
        results: Sequence[Result] = timed.answers
        return {
            "total": timed.latency.samples_ms,
            "processor": timed.latency.processor_ms,
            "tokenize": [result.timing.tokenize_ms for result in results],
            "encode": [result.timing.encode_ms for result in results],
            "decode": [result.timing.decode_ms for result in results],
            "detokenize": [_rest(result) for result in results],
            "tokens": [len(result.tokens) for result in results],
            "answers": [result.text for result in results],
        }

    def overhead(self, rows: Sequence[int], timed_first: bool) -> dict[str, Any]:
        """Processor time of the same calls in a bare loop and as a turn makes them, each as a whole, in either order."""
        from pocketseq_bench.latency import time_calls

        model = self._opened()
        inputs = [self._rows[row] for row in rows]

        def bare() -> None:
            for fields in inputs:
                model.generate(fields)

        def timed() -> None:
            time_calls(lambda row: model.generate(self._rows[row]), rows, warmup=0)

        model.generate(inputs[0])
        spent = {}
        for name, run in sorted({"bare_ms": bare, "timed_ms": timed}.items(), reverse=timed_first):
            began = time.process_time()
            run()
            spent[name] = 1000 * (time.process_time() - began)
        return spent

    def batch(self, rows: Sequence[int], size: int) -> dict[str, Any]:
        """Answer inputs so many at once."""
        from pocketseq_bench.latency import time_calls

        model = self._opened()
        groups = [[self._rows[row] for row in rows[first : first + size]] for first in range(0, len(rows), size)]
        return {"calls": time_calls(model.generate_batch, groups, warmup=1).latency.samples_ms}

    def memory(self) -> dict[str, Any]:
        """Resident memory now and at its peak."""
        from pocketseq_bench.device.processes import peak_bytes, resident_bytes

        gc.collect()
        now, peak = resident_bytes(), peak_bytes()
        # The kernel counts in batches, and may put the peak a little below what is there now.
        highest = None if peak.value is None else max(peak.value, now.value or 0)
        return {"steady_bytes": [now.value, now.reason], "peak_bytes": [highest, peak.reason]}

    def endless(self, rows: Sequence[int]) -> dict[str, Any]:
        """Open the model again so that no answer ends by itself; lengths can then be forced."""
        from pocketseq_bench.endless import open_endless

        self._opened().close()
        self._model = open_endless(self._source, **self._variant)
        for row in rows:
            self._model.generate(self._rows[row])
        return {}

    def forced(self, rows: Sequence[int], tokens: int) -> dict[str, Any]:
        """Answer inputs one at a time, each with so many tokens; after ``endless``."""
        from pocketseq_bench.latency import time_calls

        model = self._opened()
        gc.collect()
        timed = time_calls(lambda row: model.generate(self._rows[row], max_new_tokens=tokens), rows, warmup=2)
        lengths = [len(result.tokens) for result in timed.answers]
        return {
            "total": timed.latency.samples_ms,
            "per_token": [result.timing.decode_ms / length for result, length in zip(timed.answers, lengths, strict=True)],
            "lengths": lengths,
        }

    def _opened(self) -> PocketModel:
        if self._model is None:
            raise RuntimeError("expected an opened variant")
        return self._model


def _rest(result: Result) -> float:
    timing = result.timing
    return max(0.0, timing.total_ms - timing.tokenize_ms - timing.encode_ms - timing.decode_ms)


def _loop() -> float:
    """A fixed piece of work that has nothing to do with the model."""
    started = time.perf_counter()
    total = 0
    for number in range(LOOP):
        total += number & 7
    return 1000 * (time.perf_counter() - started)


def serve(requests: IO[str], replies: IO[str]) -> None:
    """Answer requests until there are no more."""
    subject = Subject()
    for line in requests:
        request = json.loads(line)
        try:
            reply = getattr(subject, request.pop("do"))(**request)
        except Exception as error:  # whatever goes wrong is the parent's to report
            reply = {"error": type(error).__name__, "message": str(error) or type(error).__name__}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main() -> None:
    """Serve the parent."""
    # Libraries print to standard output as they please: replies take another way, and what is printed goes to standard error.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, channel)


if __name__ == "__main__":
    main()
