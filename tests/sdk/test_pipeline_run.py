"""Runs: order, skipping, resuming, and what makes a stage run again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pocketseq.errors import MissingExtraError, RecipeError
from pocketseq.pipeline import Recipe, Stage, run_recipe

Work = Callable[[Recipe, Path], None]
Table = dict[str, int]


@dataclass(frozen=True)
class Minutes:
    minutes: int = 20


MINUTES = f"{__name__}:Minutes"


def recipe(**tables: Table) -> Recipe:
    return Recipe(name="tiny", task="echo", description="", tables=tables, text="# tiny\n")


class Kitchen:
    """Three stages in a row that write down what they did."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.lines: list[str] = []
        self.data = "flour"
        self.fail: BaseException | None = None

    def work(self, name: str) -> Work:
        def run(recipe: Recipe, directory: Path) -> None:
            self.log.append(name)
            with (directory / f"{name}.txt").open("a", encoding="utf-8") as file:
                file.write(name)
            if name == "bake" and self.fail is not None:
                raise self.fail

        return run

    def stages(self) -> list[Stage]:
        return [
            Stage("serve", ("bake",), self.work("serve"), outputs=("serve.txt",)),
            Stage("bake", ("mix",), self.work("bake"), sections={"bake": MINUTES}, outputs=("bake.txt",)),
            Stage("mix", (), self.work("mix"), sections={"mix": MINUTES}, inputs=lambda *_: self.data, outputs=("mix.txt",)),
        ]

    def run(
        self, directory: Path, *, until: str | None = None, restart_at: str | None = None, **tables: dict[str, int]
    ) -> list[str]:
        self.log.clear()
        self.lines.clear()
        run_recipe(recipe(**tables), directory, until=until, restart_at=restart_at, stages=self.stages(), report=self.lines.append)
        return list(self.log)


def test_stages_run_in_the_order_of_what_they_read(tmp_path: Path) -> None:
    """The order comes from the stages themselves, whatever order they are found in."""
    kitchen = Kitchen()
    assert kitchen.run(tmp_path) == ["mix", "bake", "serve"]
    assert (tmp_path / "recipe.toml").read_text(encoding="utf-8") == "# tiny\n"


def test_unchanged_stages_are_skipped(tmp_path: Path) -> None:
    """The second run does nothing and says so."""
    kitchen = Kitchen()
    kitchen.run(tmp_path)
    assert kitchen.run(tmp_path) == []
    assert kitchen.lines == [f"[{n}/3] {name}: unchanged, skipped" for n, name in enumerate(["mix", "bake", "serve"], start=1)]


def test_a_changed_table_reruns_its_stage_and_what_comes_after(tmp_path: Path) -> None:
    """A stage before it stays as it is."""
    kitchen = Kitchen()
    kitchen.run(tmp_path, bake={"minutes": 30})
    assert kitchen.run(tmp_path, bake={"minutes": 40}) == ["bake", "serve"]


def test_a_changed_input_reruns_its_stage_and_what_comes_after(tmp_path: Path) -> None:
    """Inputs that a stage declares count like tables."""
    kitchen = Kitchen()
    kitchen.run(tmp_path)
    kitchen.data = "rye"
    assert kitchen.run(tmp_path) == ["mix", "bake", "serve"]


def test_a_missing_output_reruns_its_stage_and_what_comes_after(tmp_path: Path) -> None:
    """A file that somebody removed is made again, and what was read from it too: it need not be the same to the last bit."""
    kitchen = Kitchen()
    kitchen.run(tmp_path)
    (tmp_path / "bake.txt").unlink()
    assert kitchen.run(tmp_path) == ["bake", "serve"]


def test_a_stage_that_a_recipe_does_not_ask_for_is_left_out(tmp_path: Path) -> None:
    """What comes after it does without, and runs again once it is asked for."""
    kitchen = Kitchen()
    stages = [
        replace(stage, applies=lambda recipe: "bake" in recipe.tables) if stage.name == "bake" else stage
        for stage in kitchen.stages()
    ]
    run_recipe(recipe(), tmp_path, stages=stages, report=kitchen.lines.append)
    assert kitchen.log == ["mix", "serve"]
    assert kitchen.lines[-1].startswith("[2/2] serve: done")
    run_recipe(recipe(bake={"minutes": 30}), tmp_path, stages=stages, report=kitchen.lines.append)
    assert kitchen.log == ["mix", "serve", "bake", "serve"]
    with pytest.raises(RecipeError, match="expected a stage among .*'mix', 'serve'.* to stop after, found 'bake'"):
        run_recipe(recipe(), tmp_path, until="bake", stages=stages, report=kitchen.lines.append)


def test_what_a_recipe_no_longer_asks_for_is_removed(tmp_path: Path) -> None:
    """A result that was made for another recipe is not taken for one of this, and is made anew when it is asked for again."""
    kitchen = Kitchen()
    stages = [
        replace(stage, applies=lambda recipe: "bake" in recipe.tables) if stage.name == "bake" else stage
        for stage in kitchen.stages()
    ]
    run_recipe(recipe(bake={}), tmp_path, stages=stages, report=kitchen.lines.append)
    (tmp_path / "mine.txt").touch()
    run_recipe(recipe(), tmp_path, until="mix", stages=stages, report=kitchen.lines.append)
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["mine.txt", "mix.txt", "serve.txt"]
    run_recipe(recipe(bake={}), tmp_path, stages=stages, report=kitchen.lines.append)
    assert kitchen.log == ["mix", "bake", "serve", "bake", "serve"]


def test_inputs_that_are_not_there_cost_nothing(tmp_path: Path) -> None:
    """Not even what the recipe no longer asks for: the mistake is mended, and perhaps the recipe too."""
    kitchen = Kitchen()

    def missing(recipe: Recipe, directory: Path) -> None:
        if "bake" not in recipe.tables:
            raise RecipeError("no flour")

    stages = [
        replace(stage, applies=lambda recipe: "bake" in recipe.tables)
        if stage.name == "bake"
        else replace(stage, inputs=missing)
        if stage.name == "mix"
        else stage
        for stage in kitchen.stages()
    ]
    run_recipe(recipe(bake={}), tmp_path, stages=stages, report=kitchen.lines.append)
    with pytest.raises(RecipeError, match="no flour"):
        run_recipe(recipe(), tmp_path, stages=stages, report=kitchen.lines.append)
    run_recipe(recipe(bake={}), tmp_path, stages=stages, report=kitchen.lines.append)
    assert kitchen.log == ["mix", "bake", "serve"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows holds no file")
def test_two_runs_never_work_in_one_directory(tmp_path: Path) -> None:
    """The second is refused before it touches anything, and the directory is free when the first ends, however that is."""
    kitchen, another = Kitchen(), Kitchen()

    def call_another(recipe: Recipe, directory: Path) -> None:
        with pytest.raises(RecipeError, match="expected a directory that no other run works in, found one; wait for it"):
            another.run(directory)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe(), tmp_path, stages=[Stage("first", (), call_another)], report=kitchen.lines.append)
    assert another.log == []
    assert (tmp_path / "recipe.toml").is_file()
    assert another.run(tmp_path) == ["mix", "bake", "serve"]


def test_a_directory_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    """A run there would not be alone: nothing is run, and the sentence says where."""
    (tmp_path / ".state.json.lock").mkdir()
    kitchen = Kitchen()
    with pytest.raises(RecipeError, match=r"expected a directory with files that can be locked, found: .*\.lock.*; mend that"):
        kitchen.run(tmp_path)
    assert kitchen.log == []


def test_an_interrupted_stage_goes_on_with_what_it_left(tmp_path: Path) -> None:
    """What a stage wrote before it was killed is there when it is called again; stages before it are skipped."""
    kitchen = Kitchen()
    kitchen.fail = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        kitchen.run(tmp_path)
    assert kitchen.lines[-1] == "[2/3] bake: interrupted; the same command goes on from here"
    kitchen.fail = None
    assert kitchen.run(tmp_path) == ["bake", "serve"]
    assert kitchen.lines[1] == "[2/3] bake: resumed"
    assert (tmp_path / "bake.txt").read_text(encoding="utf-8") == "bakebake"


def test_left_overs_of_other_inputs_are_removed(tmp_path: Path) -> None:
    """A half-done stage never goes on from work on another recipe."""
    kitchen = Kitchen()
    kitchen.fail = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        kitchen.run(tmp_path, bake={"minutes": 30})
    kitchen.fail = None
    kitchen.run(tmp_path, bake={"minutes": 40})
    assert (tmp_path / "bake.txt").read_text(encoding="utf-8") == "bake"


def test_half_of_what_was_removed_never_passes_as_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is interrupted while it removes old outputs makes them anew, though its recipe is again as it was."""
    kitchen = Kitchen()
    kitchen.run(tmp_path, bake={"minutes": 30})

    unlink = Path.unlink

    def interrupt(self: Path, missing_ok: bool = False) -> None:
        if self.name == "bake.txt":
            raise KeyboardInterrupt
        unlink(self, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", interrupt)
        with pytest.raises(KeyboardInterrupt):
            kitchen.run(tmp_path, bake={"minutes": 40})
    assert kitchen.run(tmp_path, bake={"minutes": 30}) == ["bake", "serve"]
    assert (tmp_path / "bake.txt").read_text(encoding="utf-8") == "bake"


def test_what_is_bound_by_itself_is_kept(tmp_path: Path) -> None:
    """A stage that can tell what fits, such as answers that were paid for, finds what it left for other inputs."""

    class Larder(Kitchen):
        def stages(self) -> list[Stage]:
            return [replace(stage, kept=stage.outputs) if stage.name == "bake" else stage for stage in super().stages()]

    kitchen = Larder()
    kitchen.run(tmp_path)
    kitchen.run(tmp_path, bake={"minutes": 5})
    assert (tmp_path / "bake.txt").read_text(encoding="utf-8") == "bakebake"
    assert (tmp_path / "serve.txt").read_text(encoding="utf-8") == "serve"


def test_what_builds_on_a_stage_that_ran_again_is_stale_even_after_a_kill(tmp_path: Path) -> None:
    """A run that is killed after making a missing file again does not forget that its followers have to follow."""
    kitchen = Kitchen()
    kitchen.run(tmp_path)
    (tmp_path / "bake.txt").unlink()
    assert kitchen.run(tmp_path, until="bake") == ["bake"]
    assert kitchen.run(tmp_path) == ["serve"]


class Market(Kitchen):
    """A kitchen that does not always get all it wants to bake with; what it has decides what is served."""

    missing = 0
    fewer = 0

    def stages(self) -> list[Stage]:
        serve, bake, mix = super().stages()
        return [
            replace(serve, inputs=lambda *_: self.missing),
            replace(bake, left=lambda *_: f"{self.missing} eggs" if self.missing else "", run=self.bake),
            mix,
        ]

    def bake(self, recipe: Recipe, directory: Path) -> None:
        self.work("bake")(recipe, directory)
        self.missing -= self.fewer


def test_a_finished_stage_tries_again_what_it_left(tmp_path: Path) -> None:
    """What builds on it is made anew if something came of that, and only then."""
    kitchen = Market()
    kitchen.missing = 6
    assert kitchen.run(tmp_path) == ["mix", "bake", "serve"]
    assert kitchen.run(tmp_path) == ["bake"]
    assert kitchen.lines[1:] == ["[2/3] bake: unchanged but for 6 eggs", "[3/3] serve: unchanged, skipped"]
    kitchen.fewer = 6
    assert kitchen.run(tmp_path, until="bake") == ["bake"]
    assert kitchen.run(tmp_path) == ["serve"]
    assert kitchen.run(tmp_path) == []


def test_a_try_that_fails_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    """A finished run goes on though what it left cannot be had now, such as from an endpoint that is down for good."""
    kitchen = Market()
    kitchen.missing = 6
    kitchen.run(tmp_path)
    kitchen.fail = RecipeError("no market today")
    assert kitchen.run(tmp_path) == ["bake"]
    assert kitchen.lines[2] == "[2/3] bake: stays as it was: no market today"
    kitchen.fail = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        kitchen.run(tmp_path)
    kitchen.fail, kitchen.fewer = None, 6
    assert kitchen.run(tmp_path) == ["bake", "serve"]


def test_until_and_from_narrow_and_force(tmp_path: Path) -> None:
    """``until`` stops after a stage; ``from`` runs a stage and its followers again though nothing changed."""
    kitchen = Kitchen()
    assert kitchen.run(tmp_path, until="bake") == ["mix", "bake"]
    assert kitchen.run(tmp_path, restart_at="bake") == ["bake", "serve"]


@pytest.mark.parametrize("option", ["until", "restart_at"])
def test_an_unknown_stage_is_an_error_that_lists_the_known(tmp_path: Path, option: str) -> None:
    """A mistyped stage name stops the run before it starts."""
    with pytest.raises(RecipeError, match=r"expected a stage among \['mix', 'bake', 'serve'\].*found 'bkae'"):
        Kitchen().run(tmp_path, **{option: "bkae"})  # type: ignore[arg-type]


def test_a_table_that_no_stage_reads_is_an_error(tmp_path: Path) -> None:
    """A mistyped table would otherwise be passed over in silence."""
    with pytest.raises(RecipeError, match=r"expected tables among \['bake', 'mix'\], found \['bkae'\]"):
        Kitchen().run(tmp_path, bkae={"minutes": 1})


def test_a_table_whose_stage_is_not_asked_for_is_an_error(tmp_path: Path) -> None:
    """Settings of a stage without the table that asks for it would do nothing."""
    stages = [
        Stage("mix", (), lambda *_: None, sections={"mix": MINUTES}),
        Stage(
            "plate",
            ("mix",),
            lambda *_: None,
            sections={"plate": MINUTES, "garnish": MINUTES},
            applies=lambda made: "plate" in made.tables,
        ),
    ]
    with pytest.raises(RecipeError, match=r"asks for the stage 'plate' beside \['garnish'\].*found none among \['plate'\]"):
        run_recipe(recipe(mix={}, garnish={"minutes": 2}), tmp_path, stages=stages)
    run_recipe(recipe(mix={}, garnish={"minutes": 2}, plate={}), tmp_path, stages=stages)


@pytest.mark.parametrize("until", [None, "mix", "serve"])
def test_a_slip_in_any_table_is_found_before_anything_runs(tmp_path: Path, until: str | None) -> None:
    """What a run has made stays as it is, though the slip is in a table of a stage that is not to run yet."""
    kitchen = Kitchen()
    kitchen.run(tmp_path)
    state = (tmp_path / "state.json").read_bytes()
    for bake, message in (
        ({"minuets": 30}, r"\[bake\]: expected keys .* found also \['minuets'\]"),
        ({"minutes": 0.5}, "minutes: "),
    ):
        kitchen.data = "rye"
        with pytest.raises(RecipeError, match=message):
            kitchen.run(tmp_path, until=until, bake=bake)  # type: ignore[arg-type]
    assert kitchen.log == []
    assert (tmp_path / "bake.txt").is_file()
    assert (tmp_path / "state.json").read_bytes() == state
    kitchen.data = "flour"
    assert kitchen.run(tmp_path) == []


def test_a_table_that_must_be_there_is_missed_before_anything_runs(tmp_path: Path) -> None:
    """It need not be before its stage is asked for; and a function reads what a dataclass alone cannot judge."""

    def hot(recipe: Recipe) -> None:
        if "oven" not in recipe.tables:
            raise RecipeError("expected a table [oven]")

    first, second = Stage("mix", (), lambda *_: None), Stage("bake", ("mix",), lambda *_: None, sections={"oven": hot})
    run_recipe(recipe(), tmp_path / "mixed", until="mix", stages=[first, second])
    with pytest.raises(RecipeError, match=r"expected a table \[oven\]"):
        run_recipe(recipe(), tmp_path / "baked", stages=[first, second])
    assert not (tmp_path / "baked").exists()


def test_a_missing_library_is_found_before_anything_runs(tmp_path: Path) -> None:
    """Nobody waits for early stages to hear that a later one cannot run; the message ends in the pip line."""
    ran = []
    first = Stage("first", (), lambda *_: ran.append("first"))
    second = Stage("second", ("first",), lambda *_: None, needs=("no_such_module",), extra="distill")
    with pytest.raises(MissingExtraError, match=r"'no_such_module'.*pip install \"pocketseq\[distill\]\"$"):
        run_recipe(recipe(), tmp_path, stages=[first, second], report=ran.append)
    assert ran == []


def test_what_several_extras_would_bring_is_asked_for_at_once(tmp_path: Path) -> None:
    """One line mends everything; nobody installs extra after extra."""
    first = Stage("first", (), lambda *_: None, needs=("no_such_module",), extra="distill")
    second = Stage("second", ("first",), lambda *_: None, needs=("another",), extra="export")
    with pytest.raises(MissingExtraError, match=r"pip install \"pocketseq\[all\]\"$"):
        run_recipe(recipe(), tmp_path, stages=[first, second])


def test_stages_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    """A circle, a missing predecessor and a name used twice are said plainly."""

    def stage(name: str, *after: str) -> Stage:
        return Stage(name, after, lambda *_: None)

    for stages, message in (
        ([stage("a", "b"), stage("b", "a")], "found a circle"),
        ([stage("a", "b")], r"expected the stages \['b'\] before stage 'a'"),
        ([stage("a"), stage("a")], "found two called 'a'"),
    ):
        with pytest.raises(RecipeError, match=message):
            run_recipe(recipe(), tmp_path, stages=stages)


def test_a_newer_or_broken_state_is_refused(tmp_path: Path) -> None:
    """A state that cannot be read is never overwritten."""
    for text, message in (
        (json.dumps({"format": 9, "stages": {}}), "expected format 1, found 9"),
        ("{", "expected the state of a run"),
        ("[" * 100_000, "expected the state of a run"),
    ):
        (tmp_path / "state.json").write_text(text, encoding="utf-8")
        with pytest.raises(RecipeError, match=message):
            Kitchen().run(tmp_path)
