"""``pocketseq run``: a recipe from start to end."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

from pocketseq.commands import Command, require_one_process
from pocketseq.pipeline.recipe import Recipe, packaged_recipes
from pocketseq.pipeline.run import run_recipe


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq run``."""
    parser.add_argument("recipe", metavar="RECIPE", help="a .toml file, or the name of an installed recipe such as python-fix-demo")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="run directory (default: runs/<name of the recipe>)")
    parser.add_argument(
        "--data", metavar="DIR", type=Path, help="folder of published data, for the recipes that read it (default: $POCKETSEQ_DATA)"
    )
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage; a run names its stages as it goes")
    parser.add_argument(
        "--from", metavar="STAGE", dest="restart_at", help="run this stage again, changed or not, and all that build on it"
    )
    parser.epilog = f"Installed recipes: {', '.join(sorted(packaged_recipes())) or 'none, which come with the extra distill'}."


def run(args: Namespace) -> int:
    """Run the recipe; what is done already is skipped."""
    require_one_process("run")
    recipe = replace(Recipe.read(args.recipe), data=args.data)
    directory = args.output or Path("runs") / recipe.name
    run_recipe(recipe, directory, until=args.until, restart_at=args.restart_at)
    return 0


COMMAND = Command(name="run", summary="run a recipe: teacher to bundle to report", configure=configure, run=run)
