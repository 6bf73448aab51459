"""What a recipe is made of, and the recipes of ds-core. How to write one: docs/recipes.md."""

from ds_core.recipes.recipe import Command, Recipe
from ds_core.recipes.run import Run
from ds_core.training.run_options import PrecisionOptions, RunOptions

__all__ = ["Command", "PrecisionOptions", "Recipe", "Run", "RunOptions"]
