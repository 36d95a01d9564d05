"""Calls of hybrids, each in another way, and runs of many."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, get_args

from tests.sdk.cloud.faults.lateness import Lateness, Sleeper, Stopwatch
from tests.sdk.cloud.faults.memory import Broken
from tests.sdk.cloud.faults.server import Faulty
from tests.sdk.cloud.faults.tally import KEY, LOCAL, RESTORED, SECRET, SOURCE, Tally

from pocketseq.budget import Budget, Price
from pocketseq.cloud import CloudEndpoint
from pocketseq.endpoint import Endpoint
from pocketseq.errors import EndpointError, PocketSeqError
from pocketseq.hybrid import Draft, Final, Hybrid, Replace
from pocketseq.policy import Mode, Policy
from pocketseq.results import Result
from pocketseq.suggestion import Suggestion
from pocketseq.template import Input
from pocketseq.testing import FakeModel

REAL_TIME = time.time
JUMPS_S = (-5 * 86400, -60, 0, 3600, 400 * 86400)
"""By how much the wall clock is set to and fro."""


@dataclass
class Caller:
    """Calls hybrids over an endpoint, each call another way, and looks hard at what comes back."""

    endpoint: Endpoint
    tally: Tally
    budgets: Path
    """Directory in which some calls keep a budget."""
    sleeper: Sleeper
    deadlines_ms: tuple[float, ...] = (5.0, 15.0, 30.0, 60.0)
    shared: Hybrid | None = None

    def call(self, seed: int) -> None:
        """One call; everything about it follows from the seed."""
        random = Random(seed)
        watch = Stopwatch()
        hybrid = self._hybrid(random, watch)
        mode: Mode = random.choice((*get_args(Mode), "prefer_local", "prefer_local", "prefer_cloud", "prefer_cloud", "only_cloud"))
        deadline_ms = random.choice(self.deadlines_ms)
        ways = (self._suggest, self._suggest, self._stream, self._async)
        try:
            suggestion = random.choice(ways)(hybrid, mode, deadline_ms, watch)
        except PocketSeqError as error:
            self.tally.ended[type(error).__name__] += 1
            if not isinstance(error, EndpointError) or mode != "only_cloud":
                self.tally.wrong.append(f"{mode} raised {type(error).__name__}")
            self._no_secret(str(error) + repr(error))
        except BaseException as error:
            self.tally.wrong.append(f"{mode} raised {type(error).__name__}, which is not typed")
        else:
            self.tally.ended[suggestion.source] += 1
            watch.receipt_s = watch.started_s + suggestion.receipt.total_ms / 1000
            self._check(suggestion, mode)
        self.tally.late.append(Lateness.of(watch, deadline_ms, self.sleeper))

    def _hybrid(self, random: Random, watch: Stopwatch) -> Hybrid:
        """Most calls have a hybrid of their own, lest a breaker keep the faults away; some share one, and its breaker."""
        if self.shared is not None and random.random() < 0.05:
            return self.shared
        model = TimedModel(
            watch,
            LOCAL,
            confidence=random.choice((None, 0.1, 0.1, 0.9)),
            threshold=random.choice((None, 0.5, 0.5, 0.5, 2.0)),
            gate=random.choice((None, 0.05, 0.9)),
            delay_s=random.choice((0.0, 0.0, 0.002, 0.02)),
        )
        budget = None
        if random.random() < 0.1:
            file = random.choice((None, self.budgets / f"{random.randrange(4)}.json"))
            if file is not None and random.random() < 0.3:
                spoil(file, random)
            budget = Budget(requests_per_hour=random.choice((0, 3, None)), cost_per_day=random.choice((None, 0.01)), file=file)
        bound = 20 if random.random() < 0.03 else None
        policy = Policy(retries=random.choice((0, 2, 5)), budget=budget, price=Price(1, 1), cache_size=0, max_context=bound)
        jump_s = random.choice((0, 0, *JUMPS_S))
        return Hybrid(model, self.endpoint, policy, random=random, wall=lambda: REAL_TIME() + jump_s)

    def _suggest(self, hybrid: Hybrid, mode: Mode, deadline_ms: float, watch: Stopwatch) -> Suggestion:
        with watch.running():
            return hybrid.suggest(SOURCE, mode=mode, deadline_ms=deadline_ms)

    def _async(self, hybrid: Hybrid, mode: Mode, deadline_ms: float, watch: Stopwatch) -> Suggestion:
        async def suggest() -> Suggestion:
            with watch.running():
                return await hybrid.asuggest(SOURCE, mode=mode, deadline_ms=deadline_ms)

        return asyncio.run(suggest())

    def _stream(self, hybrid: Hybrid, mode: Mode, deadline_ms: float, watch: Stopwatch) -> Suggestion:
        shown = ""
        with watch.running():
            events = list(hybrid.stream(SOURCE, mode=mode, deadline_ms=deadline_ms))
        for event in events:
            if isinstance(event, Draft):
                shown += event.text
            elif isinstance(event, Replace):
                shown = event.text
            else:
                assert isinstance(event, Final)
                if event.suggestion.text != shown:
                    self.tally.wrong.append("a stream showed another text than its final one")
                return event.suggestion
        raise AssertionError("a stream without an end")

    def _check(self, suggestion: Suggestion, mode: Mode) -> None:
        expected = {"local": LOCAL, "cloud": RESTORED}[suggestion.source]
        if suggestion.text != expected:
            self.tally.wrong.append(f"{suggestion.source} gave another text")
        if suggestion.local is None and mode != "only_cloud":
            self.tally.wrong.append("a local answer was lost")
        if mode == "only_local" and suggestion.receipt.bytes_sent:
            self.tally.wrong.append("only_local sent something")
        self._no_secret(suggestion.reason + repr(suggestion.receipt) + str(suggestion.receipt.sent))

    def _no_secret(self, text: str) -> None:
        if KEY in text or SECRET in text:
            self.tally.wrong.append("a secret showed")


class TimedModel(FakeModel):
    """Writes down when it has answered."""

    def __init__(self, watch: Stopwatch, text: str, **more: Any) -> None:
        super().__init__(text, **more)
        self._watch = watch

    def generate(self, source: Input, /, **options: Any) -> Result:
        try:
            return super().generate(source, **options)
        finally:
            self._watch.local_s = time.monotonic()


def spoil(file: Path, random: Random) -> None:
    """Do to the file of a budget what disks, editors and other programs do."""
    content = random.choice((None, b"", b"{", b"[]", b'{"hour": {"started_s": 1e300}}', b"\xff\xfe", b'{"hour": 5}', "folder"))
    try:
        if file.is_dir():
            file.rmdir()
        if content is None:
            file.unlink(missing_ok=True)
        elif isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.unlink(missing_ok=True)
            file.mkdir()  # neither read nor replaced, like a file that another program has locked
    except OSError:
        pass  # another thread spoils the same one


@contextmanager
def jumping_clock(seed: int) -> Iterator[None]:
    """Set the wall clock to and fro, by days, while the block runs; the monotonic clock goes on."""
    real, random = time.time, Random(seed)
    time.time = lambda: real() + random.choice(JUMPS_S)
    try:
        yield
    finally:
        time.time = real


def run_in_memory(faults: int, *, seed: int, threads: int, budgets: Path) -> Tally:
    """Call until so many faults of an endpoint in memory were met."""
    tally = Tally()
    with Sleeper() as sleeper, jumping_clock(seed), ThreadPoolExecutor(threads) as pool:
        caller = Caller(Broken(Random(seed), tally), tally, budgets, sleeper)
        caller.shared = caller._hybrid(Random(seed), Stopwatch())
        for seeds in _batches(seed, tally, faults):
            list(pool.map(caller.call, seeds))
    return tally


def _batches(seed: int, tally: Tally, faults: int) -> Iterator[range]:
    while tally.met < faults:
        yield range(seed, seed + 200)
        seed += 200


def run_on_sockets(faults: int, *, seed: int, threads: int, budgets: Path) -> Tally:
    """Call until so many faults of a server on loopback were met; every tenth call meets a port on which nothing listens."""
    tally = Tally()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    with (
        Faulty(Random(seed), tally) as server,
        CloudEndpoint(server.url, model="m", api_key=lambda: KEY) as endpoint,
        CloudEndpoint(nobody, model="m", api_key=lambda: KEY) as refusing,
        Sleeper() as sleeper,
        ThreadPoolExecutor(threads) as pool,
    ):
        # A request takes milliseconds of work here: few threads, and time enough, lest most calls end before they begin.
        patience = (10.0, 100.0, 200.0, 300.0)
        callers = [Caller(refusing if place == 0 else endpoint, tally, budgets, sleeper, patience) for place in range(10)]
        for seeds in _batches(seed, tally, faults):
            list(pool.map(lambda number: callers[number % 10].call(number), seeds))
            tally.faults["refused"] += len(seeds) // 10
    return tally
