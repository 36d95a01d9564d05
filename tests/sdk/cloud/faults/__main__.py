"""Faults by the thousand: ``python -m tests.sdk.cloud.faults`` prints by how much calls ended after their deadlines.

Beside it stands what the machine itself did to another process that only sleeps: on a busy one both are late.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.sdk.cloud.faults.calls import run_in_memory, run_on_sockets

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


def quantiles(late_ms: Sequence[float]) -> str:
    """How late things were."""
    ordered = sorted(late_ms)
    at = {share: round(ordered[int(share * (len(ordered) - 1))], 1) for share in (0.5, 0.9, 0.99, 0.999, 1.0)}
    return f"{at}; later than 50 ms: {sum(ms > 50 for ms in ordered)} of {len(ordered)}"


def main() -> None:
    """Run faults by the thousand and print what came of them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--memory", type=int, default=9500)
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, run, faults in (("memory", run_in_memory, args.memory), ("sockets", run_on_sockets, args.sockets)):
            sleeper = subprocess.Popen([sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            started, used = time.monotonic(), time.process_time()
            tally = run(faults, seed=args.seed, threads=args.threads, budgets=Path(folder))
            seconds, busy = time.monotonic() - started, time.process_time() - used
            slept, _ = sleeper.communicate()
            print(f"{name}: {tally.met} faults in {len(tally.overruns_ms)} calls, {seconds:.0f} s, {busy:.0f} s of them busy")
            print(f"  ended: {dict(tally.ended)}")
            print(f"  requests: {dict(sorted(tally.faults.items()))}")
            print(f"  wrong: {dict(Counter(tally.wrong))}")
            print(f"  ms after the deadline, quantiles: {quantiles(tally.overruns_ms)}")
            print(f"  a process that only sleeps:       {quantiles(json.loads(slept))}", flush=True)


if __name__ == "__main__":
    main()
