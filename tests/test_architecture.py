"""The walls between the rooms, and what the distribution is made of."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

import pocketseq
from pocketseq.commands import Command, command_targets, load_command
from pocketseq.pipeline import Recipe, find_stages, packaged_recipes
from pocketseq.pipeline.stage import read_tables

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = [ROOT / path for path in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
HEAVY = ("sklearn", "torch", "transformers", "datasets", "accelerate", "onnx", "openai", "psutil")


def heavy_after(code: str) -> list[str]:
    """Heavy libraries that a fresh process holds after running the code."""
    script = f"{code}\nimport sys\nprint('loaded:', *sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()[1:]


def test_importing_the_sdk_brings_no_heavy_library() -> None:
    """An app that embeds the SDK pays for nothing that it does not use."""
    assert heavy_after("import pocketseq; [getattr(pocketseq, name) for name in pocketseq.__all__]") == []


def test_help_brings_no_training_library() -> None:
    """The command line answers at once, with every room's commands."""
    code = "import contextlib\nfrom pocketseq.cli import main\nwith contextlib.suppress(SystemExit):\n    main(['{}'])"
    assert "torch" not in heavy_after(code.format("--help"))
    assert "transformers" not in heavy_after(code.format("--help"))


@pytest.mark.parametrize(
    "words", ["evaluate nowhere x.csv", "evaluate python-fix x.csv", "train python-fix x.csv -o s", "label nowhere x -o l"]
)
def test_a_wrong_name_is_told_before_anything_heavy_is_imported(words: str) -> None:
    """Whoever mistypes a teacher or a file need not wait for torch to hear it."""
    assert heavy_after(f"from pocketseq.cli import main\nassert main({words.split()!r}) == 2") == []


def test_what_a_stage_was_made_from_is_known_without_a_training_library() -> None:
    """So that a run in which nothing has changed is over at once, and a slip in any table is told at once."""
    read = "read_tables(recipe, stages, absent=True)\nfor stage in stages:\n    stage.inputs(recipe, Path('nowhere'))"
    code = "from pathlib import Path\nfrom pocketseq.pipeline import Recipe, find_stages\n"
    code += "from pocketseq.pipeline.stage import read_tables\n"
    code += "recipe = Recipe.read('python-fix-demo')\nstages = [stage for stage in find_stages() if stage.applies(recipe)]\n"
    assert heavy_after(code + read) == []


def test_every_command_loads_without_a_training_library() -> None:
    """A bare install has a smaller command line, not a broken one."""
    code = "from pocketseq.commands import command_targets, load_command\n[load_command(t) for t in command_targets().values()]"
    assert set(heavy_after(code)) <= {"psutil"}


def test_stages_load_without_a_training_library() -> None:
    """A run that lacks a library can say so before it has worked for minutes."""
    assert set(heavy_after("from pocketseq.pipeline import find_stages\nfind_stages()")) <= {"psutil"}


def test_the_walls_hold() -> None:
    """import-linter's contracts: upper rooms import the SDK alone, the SDK none of them, the bench no torch."""
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_outer_folders_hold_one_package_and_documents() -> None:
    """Nothing else may lie on the paths that an editable install puts into ``sys.path``."""
    for package in PACKAGES:
        outer = package.parent
        names = {path.name for path in outer.iterdir() if not path.name.startswith((".", "__pycache__"))}
        assert names <= {package.name, "README.md", "results"}, f"{outer.name} holds {sorted(names)}"
        assert (package / "py.typed").is_file()
        assert (outer / "README.md").is_file()


def test_everything_that_the_top_level_promises_is_there() -> None:
    """Every name of ``__all__`` resolves, also those that are imported when they are first asked for."""
    for name in pocketseq.__all__:
        assert getattr(pocketseq, name) is not None


def test_versions_agree() -> None:
    """The package, its metadata and the project file name one version."""
    assert pocketseq.__version__ == version("pocketseq") == PROJECT["project"]["version"]


def test_constraints_pin_what_is_declared() -> None:
    """Every pinned version names one library once, and every library of the base and of [all] is pinned."""
    lines = (ROOT / ".ci/constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==")[0] for line in lines if not line.startswith("#")]
    assert pins == sorted(set(pins))
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = PROJECT["project"]["dependencies"] + [
        line
        for extra in ("distill", "onnx", "calibrate", "cloud", "privacy", "telemetry", "bench", "test")
        for line in extras[extra]
    ]
    assert {re.match(r"[\w.-]+", line).group() for line in wanted} <= set(pins)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", sorted(command_targets()))
def test_commands_carry_their_names(name: str) -> None:
    """The word that people type is the one that the command says of itself."""
    command = load_command(command_targets()[name])
    assert isinstance(command, Command)
    assert command.name == name
    assert command.summary


def test_stages_carry_their_names() -> None:
    """Entry points and stages agree, and each comes after those that it reads from."""
    names = [stage.name for stage in find_stages()]
    assert sorted(names) == sorted(entry.name for entry in entry_points(group="pocketseq.stages"))
    usual = [name for name in names if name not in {"imagine", "plain", "table"}]
    assert usual[:9] == ["corpus", "teacher", "label", "filter", "train", "evaluate", "export", "verify", "calibrate"]
    assert set(usual[9:11]) == {"suggest", "bench"}
    assert usual[11:] == ["report"]
    assert names.index("corpus") < names.index("imagine") < names.index("label")
    assert names.index("teacher") < names.index("plain") < names.index("evaluate") < names.index("table")


@pytest.mark.parametrize("name", sorted(packaged_recipes()))
def test_packaged_recipes_can_be_read(name: str) -> None:
    """A recipe in the package parses, is called by its file's name, and holds only tables that a stage reads, and can read."""
    recipe, stages = Recipe.read(name), find_stages()
    assert recipe.name == name
    assert set(recipe.tables) <= {section for stage in stages for section in stage.sections}
    read_tables(recipe, stages, absent=False)
