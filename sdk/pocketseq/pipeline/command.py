"""``pocketseq run``: a recipe from start to end."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from dataclasses import replace
from pathlib import Path
from textwrap import fill

from pocketseq.commands import Command, require_one_process
from pocketseq.pipeline.recipe import Recipe, packaged_recipes
from pocketseq.pipeline.run import run_recipe

_STAGES = """\
stages, in their order; those in brackets where a recipe asks for them:
  corpus [imagine] teacher label [plain] filter train evaluate export verify calibrate [table] bench suggest report

A stage that has finished is skipped until its tables, its inputs or a stage before it change. A run that was killed goes on with
the same command. Every table of the recipe is read before the first stage starts. What a stage made goes when it starts over for
a changed table, and when the recipe no longer asks for it.

examples:
  pocketseq run python-fix-demo                    # into runs/python-fix-demo
  pocketseq run mine.toml -o run --until corpus    # look at the rows first
  pocketseq run mine.toml -o run                   # then all the rest
  pocketseq run mine.toml -o run --from train      # train again, and what builds on it
"""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq run``."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.add_argument("recipe", metavar="RECIPE", help="a .toml file, or the name of an installed recipe such as python-fix-demo")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="run directory (default: runs/<name of the recipe>)")
    parser.add_argument(
        "--data", metavar="DIR", type=Path, help="folder of published data, for the recipes that read it (default: $POCKETSEQ_DATA)"
    )
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage; see below")
    parser.add_argument(
        "--from", metavar="STAGE", dest="restart_at", help="run this stage again, changed or not, and all that build on it"
    )
    recipes = ", ".join(sorted(packaged_recipes())) or "none, which come with the extra distill"
    parser.epilog = f"{_STAGES}\n{fill(f'installed recipes: {recipes}', width=120, break_on_hyphens=False)}"


def run(args: Namespace) -> int:
    """Run the recipe; what is done already is skipped."""
    require_one_process("run")
    recipe = replace(Recipe.read(args.recipe), data=args.data)
    directory = args.output or Path("runs") / recipe.name
    run_recipe(recipe, directory, until=args.until, restart_at=args.restart_at)
    return 0


COMMAND = Command(name="run", summary="run a recipe: teacher to bundle to report", configure=configure, run=run)
