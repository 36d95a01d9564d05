"""Stages: the steps of a run, found through entry points and put into order."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Final, TypeAlias

from pocketseq.errors import MissingExtraError, RecipeError
from pocketseq.pipeline.recipe import Recipe

STAGES_GROUP: Final = "pocketseq.stages"
"""Entry-point group whose values are ``module:STAGE``."""

Reading: TypeAlias = str | Callable[[Recipe], object]
"""How a recipe's table is read: as the dataclass ``module:Settings``, imported when a run begins, so that ``--help`` need not wait;
or by a function, where more than the table itself decides what may stand in it, or whether it must be there."""


def nothing(recipe: Recipe, directory: Path) -> None:
    """The inputs of a stage that depends on earlier stages and its tables alone."""
    del recipe, directory


def done(recipe: Recipe, directory: Path) -> str:
    """What is left of a stage that finishes all that it begins."""
    del recipe, directory
    return ""


def always(recipe: Recipe) -> bool:
    """Whether a recipe asks for a stage that all of them ask for."""
    del recipe
    return True


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a run: reads and writes files in the run directory."""

    name: str
    """What people call it on the command line."""
    after: tuple[str, ...]
    """Names of the stages whose files it reads."""
    run: Callable[[Recipe, Path], None]
    """Does the work in the run directory; interrupted and called again, it goes on or starts over, as it sees fit."""
    sections: Mapping[str, Reading] = field(default_factory=dict)
    """Recipe tables that it reads, and how each is read: all of them are before the first stage of a run starts, so that nobody
    waits for early stages to hear of a slip in a table of a later one."""
    inputs: Callable[[Recipe, Path], Any] = nothing
    """JSON value of what its result depends on beyond earlier stages and its tables, such as the hash of a data file."""
    left: Callable[[Recipe, Path], str] = done
    """What it could not do when it finished, in words; empty where nothing is left. It is called again for that, and what builds on
    it stays unless its own ``inputs`` have changed by it, so that a try in vain makes nothing anew."""
    outputs: tuple[str, ...] = ()
    """Files and folders in the run directory that it owns: they must be there for it to be skipped, and they go before it
    starts over for other inputs, so that nothing left over from them is taken for its own."""
    kept: tuple[str, ...] = ()
    """Those of the outputs that are bound to what they were made from, by themselves, and so need not go."""
    applies: Callable[[Recipe], bool] = always
    """Whether a recipe asks for it; the stages after one that it does not ask for do without its files."""
    needs: tuple[str, ...] = ()
    """Modules beyond the base install; checked before the first stage starts."""
    extra: str = "all"
    """The extra that brings these modules."""


def find_stages() -> list[Stage]:
    """Every installed stage, each after those that it reads from.

    Raises:
        RecipeError: the installed stages do not fit together.
        MissingExtraError: a stage's module imports what is not installed.
    """
    return order(_load(entry) for entry in entry_points(group=STAGES_GROUP))


def order(stages: Iterable[Stage]) -> list[Stage]:
    """Sort stages so that each comes after those that it reads from.

    Raises:
        RecipeError: a stage follows one that is not there, two have one name, or they go in a circle.
    """
    by_name: dict[str, Stage] = {}
    for stage in stages:
        if stage.name in by_name:
            raise RecipeError(f"expected stages with names of their own, found two called {stage.name!r}")
        by_name[stage.name] = stage
    for stage in by_name.values():
        missing = sorted(set(stage.after) - set(by_name))
        if missing:
            raise RecipeError(f"expected the stages {missing} before stage {stage.name!r}, found only {sorted(by_name)} installed")
    try:
        names = list(TopologicalSorter({stage.name: stage.after for stage in by_name.values()}).static_order())
    except CycleError as error:
        raise RecipeError(f"expected stages in an order, found a circle: {' -> '.join(error.args[1])}") from None
    return [by_name[name] for name in names]


def followers(stage: Stage, stages: Sequence[Stage]) -> list[str]:
    """Names of all stages, among these in order, that build on one."""
    reached = [stage.name]
    for later in stages:
        if not set(reached).isdisjoint(later.after):
            reached.append(later.name)
    return reached[1:]


def require(stages: Sequence[Stage]) -> None:
    """Check that what the stages import is installed, before any of them has worked for minutes.

    Raises:
        MissingExtraError: with the pip line that mends it.
    """
    missing = {stage.extra: module for stage in stages for module in stage.needs if importlib.util.find_spec(module) is None}
    if missing:
        extra, module = next(iter(missing.items()))
        raise MissingExtraError(extra if len(missing) == 1 else "all", module)


def read_tables(recipe: Recipe, stages: Iterable[Stage], *, absent: bool) -> None:
    """Read the tables of stages, to see that they can be.

    Args:
        recipe: Whose tables.
        stages: Whose sections.
        absent: Whether also those that the recipe does not have, in which a key may be missing that has no default.

    Raises:
        RecipeError: an unknown or missing key, or a value that a table does not take.
    """
    for stage in stages:
        for section, reading in stage.sections.items():
            if section not in recipe.tables and not absent:
                continue
            if isinstance(reading, str):
                recipe.settings(section, resolve_name(reading))
            else:
                reading(recipe)


def _load(entry: EntryPoint) -> Stage:
    try:
        stage: Stage = entry.load()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("pocketseq"):
            raise
        raise MissingExtraError("all", error.name) from error
    return stage
