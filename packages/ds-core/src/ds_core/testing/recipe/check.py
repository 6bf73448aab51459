"""`check_recipe`: what every recipe must survive. What the parts are for: docs/recipes.md."""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from torch import Tensor

from ds_core.recipes.recipe import Recipe, find_recipe
from ds_core.testing.recipe.parts import (
    check_damaged,
    check_folder,
    check_full_disk,
    check_gradients,
    check_in_use,
    check_interrupt,
    check_killed,
    check_longer,
    check_lost,
    check_mistakes,
    check_refused,
)
from ds_core.testing.recipe.together import check_together
from ds_core.testing.recipe.under_test import RecipeUnderTest, Words

RECIPE_PARTS = (
    "gradients",
    "mistakes",
    "folder",
    "refused",
    "damaged",
    "lost",
    "in use",
    "longer",
    "full disk",
    "interrupt",
    "killed",
    "together",
)


def check_recipe(
    recipe: str | Recipe,
    words: Words = (),
    *,
    longer: Words,
    shorter: Words,
    changed: Mapping[str, str],
    other_data: Words = (),
    mistakes: Mapping[str, str] | None = None,
    together: Words | None = (),
    comparable: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor,
    tolerance: float | None = None,
    parts: Iterable[str] = RECIPE_PARTS,
) -> None:
    """Run a recipe with small options, and let happen to it what happens to runs.

        check_recipe(
            "mlp",
            "--dataset iris --hidden 8 --epochs 3 --evaluate-every 1",
            longer="--epochs 4",
            shorter="--epochs 1",
            changed={"--hidden 4": "--hidden: given [4], the run began with [8]"},
        )

    Each part of the check calls `ds train` in child processes forked from this one (Linux, macOS), so a recipe that
    no package has registered can be checked as well. `parts=["killed"]` runs one part; the run that nothing happens
    to is made once for all of them.

    Args:
        recipe: its name, or the recipe itself.
        words: options for a run of a few steps, with two checkpoints at least.
        longer, shorter: options with which a finished run has more steps to take, or fewer than it has taken.
        changed: options that a resumed run must not change, and what the error says.
        other_data: options that lead a resumed run to other data. They must be options that may change, such as the
            path of a file; a run that began with another `--seed` is refused for that.
        mistakes: options that cannot be used, and what the error says.
        together: more options for the run of two processes, which has to be the run of one: no dropout, and float64
            if there is a choice. None leaves the part out.
        comparable: called with the name and value of each of the model's tensors, returns what the data decide of it:
            Adam moves a weight whose gradient is zero but for rounding, and one process rounds unlike two.
        tolerance: how far two processes may be from one, absolutely and relatively. By default 1e-9 if all of the
            model's tensors are float64, otherwise 1e-4: two processes round unlike one.
        parts: of `RECIPE_PARTS`.

    Raises:
        CheckFailed: the message names the recipe and the part.
        UserError: there is no recipe of that name.
    """
    found = find_recipe(recipe) if isinstance(recipe, str) else recipe
    checks: dict[str, Callable[[RecipeUnderTest], None]] = {
        "gradients": check_gradients,
        "mistakes": lambda run: check_mistakes(run, mistakes or {}),
        "folder": check_folder,
        "refused": lambda run: check_refused(run, shorter, changed, other_data),
        "damaged": check_damaged,
        "lost": check_lost,
        "in use": check_in_use,
        "longer": lambda run: check_longer(run, longer),
        "full disk": lambda run: check_full_disk(run, longer),
        "interrupt": check_interrupt,
        "killed": check_killed,
    }
    if together is not None:
        checks["together"] = lambda run: check_together(run, together, comparable, tolerance)
    for part in parts:
        if part not in RECIPE_PARTS:
            raise ValueError(f"check_recipe: given the part {part!r}, expected one of {', '.join(RECIPE_PARTS)}")
        if part in checks:
            with tempfile.TemporaryDirectory(prefix="ds-check-") as folder:
                run = RecipeUnderTest(found, words, part, Path(folder))
                run.finished()  # imports what all sessions need
                checks[part](run)
