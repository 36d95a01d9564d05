"""How far a benchmark is: the time that is left, the processes that wait for their turns, and what went wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from pocketseq_bench.device import cool_down
from pocketseq_bench.document import MachineState
from pocketseq_bench.measuring.journal import Journal
from pocketseq_bench.measuring.plan import Configuration, Plan
from pocketseq_bench.measuring.processes import Process, SubjectError
from pocketseq_bench.measuring.summary import Problem

STARTS: Final = 0.2
"""Share of the time that is over when the starts must be."""
ROUNDS: Final = 0.75
"""Share of a group's time that is over when its rounds must be."""
_SAY_S: Final = 5.0


@dataclass(slots=True)
class Bench:
    """A benchmark under way."""

    plan: Plan
    journal: Journal
    report: Callable[[str], None]
    """Takes one line of progress."""
    before: MachineState
    """How the machine was at the start."""
    processes: dict[str, Process] = field(default_factory=dict)
    """Open side by side, by label: a group."""
    group: int = 0
    """Number of the group that is open; only what was measured in the same one was measured in turns."""
    problems: dict[str, Problem] = field(default_factory=dict)
    """Why configurations dropped out, by label."""
    cooldown_s: float = 0.0
    """Time spent waiting for the machine to cool down."""
    _began: float = field(default_factory=time.monotonic)
    _said: float = 0.0
    _since_s: float = 0.0
    _time_s: float = 0.0

    def __post_init__(self) -> None:
        """Until there is a group, all of the time is there for the starts."""
        self._time_s = self.plan.settings.budget_s

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began

    def begin_group(self, *, since_s: float, waiting: int) -> None:
        """Give what is open a number that no turn has yet, those of an interrupted run included, and its share of the time.

        Args:
            since_s: When its first process was started.
            waiting: Configurations that are to be measured after it, and need as much time each.
        """
        self.group = 1 + max((turn["group"] for turn in self.journal.of("turn")), default=-1)
        part = len(self.processes) / max(1, len(self.processes) + waiting)
        self._since_s, self._time_s = since_s, part * (self.plan.settings.budget_s - since_s)

    def has_time(self, share: float) -> bool:
        """Whether less than this share of the time is over: of the open group's, or of all before the first."""
        return self.seconds - self._since_s < share * self._time_s

    def say(self, line: str) -> None:
        """Report a line now and then."""
        if time.monotonic() - self._said > _SAY_S:
            self._said = time.monotonic()
            self.report(line)

    def live(self) -> list[Configuration]:
        """Configurations that nothing has happened to."""
        return [each for each in self.plan.configurations if each.label not in self.problems]

    def in_turns(self, number: int) -> Iterator[tuple[Configuration, Process]]:
        """Those that are open and alive, another one first in each round."""
        live = [each for each in self.live() if each.label in self.processes]
        for place in range(len(live)):
            configuration = live[(place + number) % len(live)]
            if configuration.label not in self.problems:
                yield configuration, self.processes[configuration.label]

    def fresh(self) -> Process:
        """A new process."""
        return Process(patience_s=self.plan.settings.patience_s)

    def cool_down(self) -> None:
        """Wait until the machine is about as cool as at the start."""
        self.cooldown_s += cool_down(self.before.temperature_c.value, limit_s=self.plan.settings.cooldown_s)

    @contextmanager
    def guarded(self, configuration: Configuration) -> Iterator[None]:
        """Let a configuration drop out when its process cannot go on; the others do."""
        try:
            yield
        except SubjectError as error:
            self.problems[configuration.label] = Problem(error.status, str(error))
            self.report(f"{configuration.label}: {error}")

    def keep(self, configuration: Configuration, process: Process, kind: str, number: int, do: str, **request: object) -> None:
        """Ask and keep the reply, unless it is known from an interrupted run."""
        if not self.journal.has(kind, configuration.label, number):
            with self.guarded(configuration):
                self.journal.add(kind, configuration.label, number, process.ask(do, **request))
