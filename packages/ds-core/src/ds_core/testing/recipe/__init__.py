"""The check of a whole recipe. It stands above all other floors: it runs the command `ds`."""

from ds_core.testing.recipe.check import RECIPE_PARTS, check_recipe
from ds_core.testing.recipe.mishaps import damaged_checkpoints

__all__ = ["RECIPE_PARTS", "check_recipe", "damaged_checkpoints"]
