"""Faults by the thousand: ``python -m tests.sdk.cloud.faults [-o FILE]`` tells how late calls ended, stage by stage.

Beside it stands how late a thread of this process and another process woke that only sleep: on a busy machine all are late.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.sdk.cloud.faults.calls import run_in_memory, run_on_sockets
from tests.sdk.cloud.faults.lateness import described, quantiles
from tests.sdk.cloud.faults.tally import Tally, listening, summary

from pocketseq.files import write_json
from pocketseq_bench.environment import environment

FORMAT: Final = 1

SLEEPER = """
import json, sys, threading, time
late, over = [], threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
while not over.is_set():
    started = time.monotonic()
    time.sleep(0.02)
    late.append((time.monotonic() - started - 0.02) * 1000)
print(json.dumps(late))
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run faults by the thousand, print what came of them, and write it down."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--memory", type=int, default=9500)
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write the result as JSON")
    args = parser.parse_args(arguments)
    import openai

    # The package's hundred thousand objects are there for good: a full collection over them stops all threads for 60 to 90 ms.
    openai.AsyncOpenAI(api_key="-").chat.completions  # noqa: B018, imports what it makes late
    gc.collect()
    gc.freeze()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, run, faults in (("memory", run_in_memory, args.memory), ("sockets", run_on_sockets, args.sockets)):
            sleeper = subprocess.Popen([sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            started, used = time.monotonic(), time.process_time()
            heard = Tally()
            with listening(heard) as listener:
                tally = run(faults, seed=args.seed, threads=args.threads, budgets=Path(folder))
            tally.wrong += heard.wrong
            seconds, busy = time.monotonic() - started, time.process_time() - used
            slept = json.loads(sleeper.communicate()[0])
            found[name] = {
                **summary(tally),
                "log_records_read": listener.heard,
                "seconds": round(seconds, 1),
                "busy_seconds": round(busy, 1),
                "naps_late_ms": quantiles(slept),
            }
            print(f"{name}: {tally.met} faults in {len(tally.late)} calls, {seconds:.0f} s, {busy:.0f} s of them busy")
            print(f"  log records read: {listener.heard}")
            print(f"  ended: {dict(tally.ended)}")
            print(f"  requests: {dict(sorted(tally.faults.items()))}")
            print(f"  wrong: {dict(Counter(tally.wrong))}")
            print("  milliseconds after the deadline, quantiles:")
            for line in described(tally.late):
                print(f"    {line}")
            print(f"    another process naps: {quantiles(slept)}", flush=True)
    if args.output is not None:
        settings = {"seed": args.seed, "threads": args.threads}
        write_json(args.output, {"format": FORMAT, **settings, "environment": environment(), **found})


if __name__ == "__main__":
    main()
