"""Recipes: strict, and with messages that name the place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from pocketseq.errors import RecipeError
from pocketseq.pipeline import Recipe

HEAD = '[recipe]\nname = "tiny"\ntask = "echo"\nformat = 1\n'


@dataclass(frozen=True)
class Training:
    steps: int
    lr: float = 0.5
    kinds: tuple[str, ...] = ()
    device: Literal["cpu", "cuda"] = "cpu"
    resume: bool = True
    seed: int | None = None


def parse(text: str) -> Recipe:
    return Recipe.parse(HEAD + text, where="tiny.toml")


def test_a_table_becomes_the_dataclass_of_its_stage() -> None:
    """Whole numbers serve as numbers, lists as tuples, and absent keys take their defaults."""
    recipe = parse('[train]\nsteps = 10\nlr = 1\nkinds = ["a", "b"]\nseed = 3\n')
    assert recipe.settings("train", Training) == Training(steps=10, lr=1.0, kinds=("a", "b"), seed=3)
    assert (recipe.name, recipe.task) == ("tiny", "echo")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stesp = 1", r"recipe 'tiny': \[train\]: expected keys among .*'steps'.*, found also \['stesp'\]"),
        ("lr = 1.0", r"\[train\]: expected the keys .*, found none of the name 'steps'"),
        ("steps = 1.5", r"steps: expected a whole number, found 1.5"),
        ("steps = true", r"steps: expected a whole number, found True"),
        ("steps = 1\nlr = false", r"lr: expected a finite number, found False"),
        ('steps = 1\ndevice = "tpu"', r"device: expected one of \['cpu', 'cuda'\], found 'tpu'"),
        ("steps = 1\nkinds = [1]", r"kinds\[0\]: expected a string, found 1"),
        ('steps = 1\nkinds = "a"', r"kinds: expected a list, found 'a'"),
        ('steps = 1\nseed = "x"', r"seed: expected a whole number, found 'x'"),
    ],
)
def test_a_bad_value_names_table_key_expected_and_found(text: str, message: str) -> None:
    """A slip in a recipe is found before anything runs, with its place."""
    with pytest.raises(RecipeError, match=message):
        parse("[train]\n" + text).settings("train", Training)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[recipe", "tiny.toml: expected TOML"),
        pytest.param("x = " + "[" * 100_000, "tiny.toml: expected TOML: maximum recursion depth", id="deep"),
        pytest.param("x = " + "9" * 5000, "tiny.toml: expected TOML: Exceeds the limit", id="too many digits"),
        ("x = 1", r"expected every key inside a table such as \[recipe\], found \['x'\] outside"),
        ("[train]\nwhen = {since = [2024-01-01]}", r"tiny.toml: expected texts, numbers, .* found the date or time 2024-01-01"),
        ("[train]\nwhen = 07:32:00", "found the date or time 07:32:00"),
        ("", r"\[recipe\]: expected the keys .*, found none of the name 'name', 'task', 'format'"),
        ('[recipe]\nname = "a"\ntask = "b"\nformat = 2', "expected format 1 or older, found 2; update pocketseq"),
    ],
)
def test_what_is_no_recipe_is_refused(text: str, message: str) -> None:
    """A recipe needs TOML, tables, a head, and a format that this version knows."""
    with pytest.raises(RecipeError, match=message):
        Recipe.parse(text, where="tiny.toml")


def test_a_recipe_is_read_from_a_file_with_its_comments(tmp_path: Path) -> None:
    """The text is kept as written, so that a run directory can show it."""
    path = tmp_path / "mine.toml"
    path.write_text("# why\n" + HEAD, encoding="utf-8")
    assert Recipe.read(path).text.startswith("# why\n")
    with pytest.raises(RecipeError, match=r"expected a recipe file at .*none\.toml, found none"):
        Recipe.read(tmp_path / "none.toml")
    path.write_bytes(HEAD.replace("tiny", "naïve").encode("latin-1"))
    with pytest.raises(RecipeError, match=r"mine\.toml: expected TOML in UTF-8, found: .* can't decode byte 0xef"):
        Recipe.read(path)


def test_an_unknown_name_lists_the_installed_recipes() -> None:
    """Whoever mistypes a name sees the right ones."""
    with pytest.raises(RecipeError, match="one of the installed recipes .*, found 'no-such-recipe'"):
        Recipe.read("no-such-recipe")
