"""What the stage ``corpus`` does in a run: rows out of the library, of the user's own pairs or of what was published."""

from __future__ import annotations

from pathlib import Path
from platform import python_version
from typing import Any

from pocketseq.errors import DataError
from pocketseq.files import sha256
from pocketseq.pipeline import Recipe
from pocketseq_distill.corpus.given import PairsSettings, build_pairs_corpus
from pocketseq_distill.corpus.library import LibrarySettings, build_library_corpus, library_task
from pocketseq_distill.pairs.sources import DATASET
from pocketseq_distill.published import PUBLISHED, PublishedSettings, build_published_corpus


def corpus_settings(recipe: Recipe) -> PublishedSettings | LibrarySettings:
    """The table ``[corpus]``: how much to take of what the task learns from.

    Raises:
        RecipeError: what it holds, or a task without rows.
    """
    if recipe.task in PUBLISHED:
        return recipe.settings("corpus", PublishedSettings)
    if "pairs" not in recipe.tables:
        library_task(recipe.task)
    return recipe.settings("corpus", LibrarySettings)


def pairs_settings(recipe: Recipe) -> PairsSettings | None:
    """The table ``[pairs]``; None where the rows are not the user's own."""
    return recipe.settings("pairs", PairsSettings) if "pairs" in recipe.tables else None


def build_corpus(recipe: Recipe, run: Path) -> None:
    """Write the four splits of the recipe's task."""
    settings, pairs = corpus_settings(recipe), pairs_settings(recipe)
    if isinstance(settings, PublishedSettings):
        build_published_corpus(run / "data", settings, task=recipe.task, data=recipe.data)
    elif pairs is not None:
        build_pairs_corpus(run / "data", pairs, task=recipe.task)
    else:
        build_library_corpus(run / "data", settings, task=recipe.task)


def corpus_inputs(recipe: Recipe, run: Path) -> Any:
    """Files of pairs may change under their name; the library is the interpreter's; what was published stays.

    Raises:
        DataError: a file of pairs is not there, before what was made of it goes.
    """
    del run
    if recipe.task in PUBLISHED:
        return None
    if (pairs := pairs_settings(recipe)) is None:
        return [python_version(), {}]  # as earlier versions wrote it, whose runs then go on
    names = [*pairs.train, *pairs.validation, *pairs.calibration, *pairs.test]
    files = [name for name in names if not name.startswith(DATASET)]
    if missing := [name for name in files if not Path(name).is_file()]:
        raise DataError(
            f"[pairs]: expected files at {missing}, found none; a path that does not begin at the root is taken from the folder "
            f"that the run is called in, now {Path.cwd()}"
        )
    return {name: sha256(Path(name)) for name in files}
