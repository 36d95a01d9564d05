"""Running a recipe: every stage in order, skipping those whose inputs have not changed."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pocketseq.errors import PocketSeqError, RecipeError
from pocketseq.files import digest, writing
from pocketseq.locking import take_lock
from pocketseq.pipeline.recipe import Recipe
from pocketseq.pipeline.stage import Stage, find_stages, followers, order, read_tables, require
from pocketseq.pipeline.state import STATE_FILE, RunState

Report = Callable[[str], None]
"""Takes one line of progress."""


def run_recipe(
    recipe: Recipe,
    directory: Path,
    *,
    until: str | None = None,
    restart_at: str | None = None,
    stages: Iterable[Stage] | None = None,
    report: Report | None = None,
) -> None:
    """Run the stages of a recipe in a run directory.

    A stage is skipped when it has finished with the same fingerprint: the recipe tables that it reads, what it declares as its
    inputs, and the fingerprints of the stages before it, none of which had to run again. Killed at any moment, the same call
    goes on where it stopped. A stage that finished but left something has another try at that. What a stage made that the recipe
    no longer asks for is removed.

    Args:
        recipe: What to make.
        directory: The run directory; made where there is none.
        until: Name of the last stage to run; None for all.
        restart_at: Name of a stage to run again, with all that build on it, though nothing has changed.
        stages: The stages; None for those that are installed.
        report: Takes one line of progress; None writes to standard error.

    Raises:
        RecipeError: a stage or table of that name does not exist, a table, be it of the last stage, holds what that cannot read, or
            another run works in the directory (Windows does not tell), or none of its files can be locked.
        MissingExtraError: a library that a stage needs is not installed.
        PocketSeqError: whatever a stage raises that has not finished before.
    """
    report = report or _to_stderr
    installed = order(stages) if stages is not None else find_stages()
    plan = _plan(recipe, installed, until)
    names = [stage.name for stage in plan]
    if restart_at is not None and restart_at not in names:
        raise RecipeError(f"expected a stage among {names} to start from, found {restart_at!r}")
    directory.mkdir(parents=True, exist_ok=True)
    try:
        held = take_lock(directory / STATE_FILE, wait=False)
    except BlockingIOError:
        raise RecipeError(
            f"{directory}: expected a directory that no other run works in, found one; wait for it, or choose another"
        ) from None
    except OSError as error:
        raise RecipeError(
            f"{directory}: expected a directory with files that can be locked, found: {error}; mend that, or choose another"
        ) from error
    with held:
        with writing(directory / "recipe.toml") as file:
            file.write(recipe.text)
        state = RunState.read(directory)
        if restart_at is not None:
            state.forget(restart_at)
        _run(recipe, plan, installed, state, report)


def _run(recipe: Recipe, plan: Sequence[Stage], installed: Sequence[Stage], state: RunState, report: Report) -> None:
    directory, names = state.directory, [stage.name for stage in plan]
    gone = [stage for stage in installed if not stage.applies(recipe)]
    begun = time.monotonic()
    fingerprints: dict[str, str] = {}
    for number, stage in enumerate(plan, start=1):
        place = f"[{number}/{len(plan)}] {stage.name}"
        fingerprints[stage.name] = fingerprint = _fingerprint(stage, recipe, directory, fingerprints)
        whole = all((directory / output).exists() for output in stage.outputs)
        if state.is_finished(stage.name, fingerprint) and whole:
            if left := stage.left(recipe, directory):
                report(f"{place}: unchanged but for {left}")
                if (failure := _another_try(stage, recipe, directory)) is not None:
                    report(f"{place}: stays as it was: {failure}")
            else:
                report(f"{place}: unchanged, skipped")
            continue
        _leave(gone, state)  # not sooner: inputs that are not there have been told by now, and nothing is lost to that
        resumed = state.is_started(stage.name, fingerprint)
        started = time.monotonic()
        try:
            for follower in followers(stage, installed):
                state.forget(follower)
            if not resumed:
                state.forget(stage.name)  # first: what a kill leaves of its outputs is not whole, whatever the next recipe is
                _clear(stage, directory)
            state.started(stage.name, fingerprint)
            report(f"{place}: {'resumed' if resumed else 'started'}")
            stage.run(recipe, directory)
        except KeyboardInterrupt:
            report(f"{place}: interrupted; the same command goes on from here")
            raise
        now = time.monotonic()
        state.finished(stage.name, round(now - started, 3))
        left = ", ".join(names[number:]) or "none"
        report(f"{place}: done in {_clock(now - started)} · {_clock(now - begun)} elapsed · left: {left}")
    _leave(gone, state)


def _plan(recipe: Recipe, stages: list[Stage], until: str | None) -> list[Stage]:
    sections = {section for stage in stages for section in stage.sections}
    unknown = sorted(set(recipe.tables) - sections)
    if unknown:
        raise RecipeError(f"recipe {recipe.name!r}: expected tables among {sorted(sections)}, found {unknown}")
    asked = [stage for stage in stages if stage.applies(recipe)]
    read = {section for stage in asked for section in stage.sections}
    for stage in stages:
        if unread := sorted(set(stage.sections) & set(recipe.tables) - read):
            raise RecipeError(
                f"recipe {recipe.name!r}: expected a table that asks for the stage {stage.name!r} beside {unread}, which only that "
                f"stage reads, found none among {sorted(set(stage.sections) - set(recipe.tables))}"
            )
    names = [stage.name for stage in asked]
    if until is not None and until not in names:
        raise RecipeError(f"expected a stage among {names} to stop after, found {until!r}")
    plan = asked if until is None else asked[: names.index(until) + 1]
    require(plan)
    read_tables(recipe, plan, absent=True)
    read_tables(recipe, asked[len(plan) :], absent=False)
    return plan


def _fingerprint(stage: Stage, recipe: Recipe, directory: Path, earlier: Mapping[str, str]) -> str:
    return digest(
        {
            "stage": stage.name,
            "task": recipe.task,
            "tables": {section: recipe.table(section) for section in stage.sections},
            "after": {name: earlier[name] for name in stage.after if name in earlier},
            "inputs": stage.inputs(recipe, directory),
        }
    )


def _another_try(stage: Stage, recipe: Recipe, directory: Path) -> PocketSeqError | None:
    """Let a finished stage do what it left; that it cannot now is no reason to stop a run that went on without before."""
    try:
        stage.run(recipe, directory)
    except PocketSeqError as error:
        return error
    return None


def _leave(stages: Iterable[Stage], state: RunState) -> None:
    """Remove what stages made that the recipe no longer asks for: whoever finds a file takes it for a result of this recipe."""
    for stage in stages:
        if stage.name in state.records:
            state.started(stage.name, "")  # of no inputs: killed here, it is neither whole nor forgotten
            _clear(stage, state.directory)
            state.forget(stage.name)


def _clear(stage: Stage, directory: Path) -> None:
    for output in set(stage.outputs) - set(stage.kept):
        path = directory / output
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
