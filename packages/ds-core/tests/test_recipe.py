"""Recipes are found through entry points."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints

import ds_core.recipes.recipe
import pytest
from ds_core import UserError
from ds_core.recipes import Command, Recipe
from ds_core.recipes.recipe import find_recipe, installed_commands, installed_recipes


@dataclass
class Nothing:
    pass


tiny = Recipe("tiny", "the smallest", Nothing, lambda options: None)
writer = Recipe("writer", "writes", Nothing, print, (Command("make", "continue a text", Nothing, print),))
painter = Recipe("painter", "paints", Nothing, print, (Command("make", "draw images", Nothing, print),))
no_recipe = "a string"


class Here(EntryPoint):
    """An entry point whose module is this file, wherever pytest imported it from."""

    dist = None

    def load(self):
        if self.value.startswith("here:"):
            return globals()[self.value.removeprefix("here:")]
        return super().load()


@pytest.fixture(autouse=True)
def entry_points(monkeypatch):
    points = {"tiny": "here:tiny", "odd": "here:no_recipe", "broken": "no_such_module:recipe", "half": "json:no_recipe"}
    found = EntryPoints(Here(name, value, "ds.recipes") for name, value in points.items())
    monkeypatch.setattr(ds_core.recipes.recipe, "entry_points", lambda group: found.select(group=group))


def test_found_by_name():
    assert list(installed_recipes()) == ["broken", "half", "odd", "tiny"]
    assert find_recipe("tiny") is tiny


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tny", r"unknown recipe 'tny'; did you mean tiny\? \(see ds list\)"),
        ("xyz", "unknown recipe 'xyz'; installed: broken, half, odd, tiny"),
        ("broken", r"recipe broken of .* cannot be loaded \(no_such_module:recipe\): ModuleNotFoundError: No module"),
        ("half", "recipe half of .* cannot be loaded .*has no attribute"),
        ("odd", r"here:no_recipe is not a ds_core\.recipes\.recipe\.Recipe"),
    ],
)
def test_mistakes(name, message):
    with pytest.raises(UserError, match=message):
        find_recipe(name)


def test_nothing_installed(monkeypatch):
    monkeypatch.setattr(ds_core.recipes.recipe, "entry_points", lambda group: EntryPoints())
    with pytest.raises(UserError, match=r"unknown recipe 'minigpt': no recipes are installed$"):
        find_recipe("minigpt")


def test_recipes_that_share_a_command_are_all_named(monkeypatch):
    names = ("painter", "tiny", "writer")
    points = EntryPoints(Here(name, f"here:{name}", "ds.recipes") for name in names)
    monkeypatch.setattr(ds_core.recipes.recipe, "entry_points", lambda group: points)
    assert installed_commands() == {"make": "draw images; continue a text"}
    repeated = EntryPoints(Here(name, "here:writer", "ds.recipes") for name in names)
    monkeypatch.setattr(ds_core.recipes.recipe, "entry_points", lambda group: repeated)
    assert installed_commands() == {"make": "continue a text"}
