"""Faults by the thousand: ``python -m tests.sdk.cloud.faults`` prints how late calls ended, stage by stage.

Beside it stands how late a thread of this process and another process woke that only sleep: on a busy machine all are late.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.sdk.cloud.faults.calls import run_in_memory, run_on_sockets
from tests.sdk.cloud.faults.lateness import described, quantiles

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


def main() -> None:
    """Run faults by the thousand and print what came of them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--memory", type=int, default=9500)
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # of budgets whose files were spoilt
    with tempfile.TemporaryDirectory() as folder:
        for name, run, faults in (("memory", run_in_memory, args.memory), ("sockets", run_on_sockets, args.sockets)):
            sleeper = subprocess.Popen([sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            started, used = time.monotonic(), time.process_time()
            tally = run(faults, seed=args.seed, threads=args.threads, budgets=Path(folder))
            seconds, busy = time.monotonic() - started, time.process_time() - used
            slept, _ = sleeper.communicate()
            print(f"{name}: {tally.met} faults in {len(tally.late)} calls, {seconds:.0f} s, {busy:.0f} s of them busy")
            print(f"  ended: {dict(tally.ended)}")
            print(f"  requests: {dict(sorted(tally.faults.items()))}")
            print(f"  wrong: {dict(Counter(tally.wrong))}")
            print("  milliseconds after the deadline, quantiles:")
            for line in described(tally.late):
                print(f"    {line}")
            print(f"    another process naps: {quantiles(json.loads(slept))}", flush=True)


if __name__ == "__main__":
    main()
