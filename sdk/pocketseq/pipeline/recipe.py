"""Recipes: the TOML files that configure a run, and the only configuration there is."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

from pocketseq.errors import RecipeError
from pocketseq.records import read_record

RECIPES_GROUP: Final = "pocketseq.recipes"
"""Entry-point group whose values are packages that hold recipes as ``<name>.toml``."""

FORMAT: Final = 1

Settings = TypeVar("Settings")


@dataclass(frozen=True, slots=True)
class _Head:
    name: str
    task: str
    format: int
    description: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a run is made of, table by table."""

    name: str
    """Name of the recipe, and of the bundle that it makes."""
    task: str
    """Name of the task, such as ``python-fix``."""
    description: str
    """One sentence for people."""
    tables: Mapping[str, Mapping[str, Any]]
    """Every table but ``[recipe]``, of JSON values; each is read by the stages that name it among their sections."""
    text: str
    """The TOML as it was written, comments included."""
    data: Path | None = None
    """Folder of data that this run is told of; what lies there decides, not where it is, so no fingerprint knows it."""

    @classmethod
    def read(cls, source: str | Path) -> Recipe:
        """Read a recipe from a file or by the name of one that is installed.

        Args:
            source: A path, or a name such as ``"python-fix-demo"``.

        Raises:
            RecipeError: no such recipe, not TOML, or a head that is not ``name``, ``task`` and ``format``.
        """
        path = Path(source)
        if path.suffix == ".toml" or path.is_file():
            try:
                return cls.parse(path.read_text(encoding="utf-8"), where=str(path))
            except OSError as error:
                raise RecipeError(f"expected a recipe file at {path}, found none: {error.strerror}") from None
            except UnicodeDecodeError as error:
                raise RecipeError(f"{path}: expected TOML in UTF-8, found: {error}") from None
        packaged = packaged_recipes()
        if str(source) not in packaged:
            raise RecipeError(f"expected a .toml file or one of the installed recipes {sorted(packaged)}, found {str(source)!r}")
        return cls.parse(packaged[str(source)], where=f"{source}.toml")

    @classmethod
    def parse(cls, text: str, *, where: str) -> Recipe:
        """Read a recipe from TOML text.

        Args:
            text: The TOML.
            where: Names the text in a message.

        Raises:
            RecipeError: see ``read``.
        """
        try:
            tables = tomllib.loads(text)
            moment = _moment(tables)
        except (ValueError, RecursionError) as error:  # TOMLDecodeError is the first, and so is a number of too many digits
            raise RecipeError(f"{where}: expected TOML: {error}") from None
        if moment is not None:
            raise RecipeError(
                f"{where}: expected texts, numbers, true and false, lists and tables, found the date or time {moment}"
            )
        loose = sorted(key for key, table in tables.items() if not isinstance(table, dict))
        if loose:
            raise RecipeError(f"{where}: expected every key inside a table such as [recipe], found {loose} outside")
        version = tables.get("recipe", {}).get("format", FORMAT)
        if isinstance(version, int) and version > FORMAT:
            raise RecipeError(f"{where}: expected format {FORMAT} or older, found {version}; update pocketseq")
        head = read_record(_Head, tables.pop("recipe", {}), where=f"{where}: [recipe]", error=RecipeError)
        return cls(name=head.name, task=head.task, description=head.description, tables=tables, text=text)

    def table(self, name: str) -> Mapping[str, Any]:
        """One table as TOML gave it; empty where the recipe has none of that name."""
        return self.tables.get(name, {})

    def settings(self, name: str, kind: type[Settings]) -> Settings:
        """One table as a dataclass.

        Args:
            name: Name of the table.
            kind: The dataclass; its field names are the keys, its defaults stand for absent ones.

        Raises:
            RecipeError: an unknown or missing key, or a value of another type.
        """
        return read_record(kind, self.table(name), where=f"recipe {self.name!r}: [{name}]", error=RecipeError)


def _moment(value: object) -> date | time | None:
    """A date or a time among TOML's values, for which no setting has use and JSON no word."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (
        value if isinstance(value, date | time) else next((found for item in inner if (found := _moment(item)) is not None), None)
    )


def packaged_recipes() -> dict[str, str]:
    """TOML text of every installed recipe, by name."""
    found = {}
    for entry in entry_points(group=RECIPES_GROUP):
        for file in files(entry.value).iterdir():
            if file.name.endswith(".toml"):
                found[file.name.removesuffix(".toml")] = file.read_text(encoding="utf-8")
    return found
