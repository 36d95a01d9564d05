"""Recipes and the stages that they run through."""

from pocketseq.pipeline.recipe import Recipe, packaged_recipes
from pocketseq.pipeline.run import run_recipe
from pocketseq.pipeline.stage import Stage, find_stages

__all__ = ["Recipe", "Stage", "find_stages", "packaged_recipes", "run_recipe"]
