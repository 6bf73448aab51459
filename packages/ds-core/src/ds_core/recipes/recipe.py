"""A recipe: a dataclass of options and a function, found by `ds` through the entry point group `ds.recipes`."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple

from ds_core.errors import UserError, did_you_mean
from ds_core.training.versions import RECIPE_GROUP


@dataclass(frozen=True)
class Command:
    """A command that uses what a recipe has trained: `ds NAME FOLDER [options]`.

    Args:
        name: of the command; recipes that do the same kind of thing share it.
        summary: one line for `ds --help`.
        options: a dataclass of `option(...)` fields with defaults.
        run: called with the run folder and its options.
    """

    name: str
    summary: str
    options: type
    run: Callable[[Path, Any], Any]


@dataclass(frozen=True)
class Recipe:
    """Something that can be trained (and used, and checked) with one command.

    A package registers it in its pyproject.toml, the key being the name:

        [project.entry-points."ds.recipes"]
        line = "my_package.line:recipe"

    Args:
        name: what `ds train NAME` calls it; the same as the entry point's key.
        summary: one line for `ds list`.
        options: a dataclass of `option(...)` fields with defaults; it may inherit `run_folder.RunOptions`.
            Its `__post_init__` raises `UserError` if options contradict each other.
        train: `ds train NAME [options]`: called with the options, such as the `train` of a `Run`.
        commands: what can be done with a run folder of this recipe.
        check: `ds check NAME`; returns what is to be printed, such as a `testing.Report`, whose `ok` decides the exit
            status; an AssertionError is a failure too.
    """

    name: str
    summary: str
    options: type
    train: Callable[[Any], Any]
    commands: tuple[Command, ...] = ()
    check: Callable[[], Any] | None = None


class Installed(NamedTuple):
    """A recipe's entry point, and the package and version that brought it."""

    name: str
    package: str
    version: str
    entry: EntryPoint

    def load(self) -> Recipe:
        """Import the recipe.

        Raises:
            UserError: the package that brings it is broken or lacks a dependency.
        """
        try:
            recipe = self.entry.load()
        except Exception as error:  # what somebody else's module runs into while it is imported may be anything
            raise UserError(
                f"recipe {self.name} of {self.package} {self.version} cannot be loaded ({self.entry.value}): "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(recipe, Recipe):
            raise UserError(
                f"recipe {self.name} of {self.package} {self.version}: {self.entry.value} is not a "
                "ds_core.recipes.recipe.Recipe"
            )
        return recipe


def installed_recipes() -> dict[str, Installed]:
    """The recipes of all installed packages, by name."""
    found = {}
    for entry in sorted(entry_points(group=RECIPE_GROUP), key=lambda entry: entry.name):
        package = entry.dist
        name, version = (package.name, package.version) if package is not None else ("?", "?")
        found[entry.name] = Installed(entry.name, name, version, entry)
    return found


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UserError: there is none (the nearest name, or what is installed, is in the message).
    """
    recipes = installed_recipes()
    if name in recipes:
        return recipes[name].load()
    if not recipes:
        raise UserError(f"unknown recipe {name!r}: no recipes are installed")
    near = did_you_mean(name, recipes)
    raise UserError(f"unknown recipe {name!r}{near or '; installed: ' + ', '.join(recipes)} (see ds list)")


def installed_commands() -> dict[str, str]:
    """The commands that installed recipes bring, each with its summary; recipes that cannot be loaded bring none.

    If recipes share a command for different things, it says all of them: "continue a text; draw images".
    """
    found: dict[str, list[str]] = {}
    for installed in installed_recipes().values():
        try:
            recipe = installed.load()
        except UserError:
            continue
        for command in recipe.commands:
            summaries = found.setdefault(command.name, [])
            if command.summary not in summaries:
                summaries.append(command.summary)
    return {name: "; ".join(summaries) for name, summaries in found.items()}


def command_here() -> str:
    """What to type for `ds` in this environment."""
    return "hatch run ds" if os.environ.get("HATCH_ENV_ACTIVE") else "ds"
