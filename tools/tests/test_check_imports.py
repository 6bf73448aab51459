import check_imports
import pytest
from workspace import packages


@pytest.mark.parametrize(
    ("path", "code", "fault"),
    [
        ("ds-cnn/src/ds_cnn/a.py", "from ds_rnn import RNNCell", "does not stand below"),
        ("ds-cnn/src/ds_cnn/a.py", "def f():\n    import ds_transformers.block", "does not stand below"),
        ("ds-core/src/ds_core/errors.py", "import os, ds_cnn", "does not stand below"),
        (
            "ds-core/src/ds_core/errors.py",
            "import importlib\nimportlib.import_module('ds_zoo.minigpt')",
            "does not stand below",
        ),
        ("ds-transformers/tests/test_a.py", "import ds_zoo", "does not stand below"),
        ("ds-zoo/src/ds_zoo/a.py", "from ds_core.engine.trace import _stack", "private"),
        ("ds-zoo/src/ds_zoo/a.py", "from ds_core._engine import run", "private"),
        ("ds-zoo/src/ds_zoo/a.py", "import ds_core.engine.trace as t\nt._stack.traces", "private"),
        ("ds-zoo/src/ds_zoo/a.py", "import ds_core\nds_core.trace._stack", "private"),
        ("ds-cnn/src/ds_cnn/a.py", "from tools import paired", "tools/"),
        ("ds-cnn/tests/test_a.py", "import paired", "tools/"),
    ],
)
def test_catches(plant, path, code, fault):
    root = plant({path: code})
    (root / "tools").mkdir()
    (root / "tools/paired.py").touch()
    (found,) = check_imports.check(root)
    assert found.startswith(f"packages/{path}:")
    assert fault in found


def test_lets_through_what_is_allowed(plant):
    root = plant(
        {
            "ds-zoo/src/ds_zoo/a.py": "import ds_core, ds_cnn, ds_rnn\nfrom ds_transformers import block\n",
            "ds-cnn/src/ds_cnn/a.py": "from ds_core import __version__\nfrom ds_cnn.b import _own\nimport os\nos._exit",
            "ds-cnn/benchmarks/a.py": "import paired",
        }
    )
    (root / "tools").mkdir()
    (root / "tools/paired.py").touch()
    assert list(check_imports.check(root)) == []


def test_a_new_package_must_be_given_its_floor(plant):
    (found,) = check_imports.check(plant({"ds-new/src/ds_new/a.py": ""}))
    assert "ds-new" in found


TRACE = {"ds-core/src/ds_core/engine/trace.py": "stack = []\n"}


@pytest.mark.parametrize(
    ("path", "code", "fault"),
    [
        ("engine/module.py", "from ds_core.training.trainer import fit", "ds_core.training.trainer, which does not"),
        ("engine/module.py", "import ds_core.speed.chunks", "ds_core.speed.chunks, which does not"),
        ("engine/module.py", "def f():\n    from ds_core.cli.main import main", "ds_core.cli.main, which does not"),
        ("engine/module.py", "from ..speed import chunks", "ds_core.speed.chunks, which does not"),
        (
            "engine/module.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ds_core.speed",
            "ds_core.speed, which does not",
        ),
        ("engine/module.py", "from ds_core import stack", "ds_core, which is on no floor: import the file"),
        ("losses/mse.py", "from ds_core.activations.relu import relu", "ds_core.activations.relu, which does not"),
        ("primitives.py", "import ds_core.speed", "ds_core.speed, which does not"),
        ("engine/__init__.py", "from ds_core.speed.chunks import chunks", "ds_core.speed.chunks, which does not"),
        ("testing/layer.py", "from ds_core.testing.recipe import f", "ds_core.testing.recipe, which does not"),
        ("pictures/a.py", "", "does not say on which floor pictures.a stands"),
    ],
)
def test_catches_an_import_that_runs_up(plant, path, code, fault):
    planted = {f"ds-core/src/ds_core/{path}": code, "ds-core/src/ds_core/speed/chunks.py": ""}
    (found,) = check_imports.check(plant({**TRACE, **planted}))
    assert found.startswith(f"packages/ds-core/src/ds_core/{path}:")
    assert fault in found


def test_a_name_counts_as_the_file_that_it_comes_from(plant):
    """`ds_core.testing` stands below the recipes, but its `__init__` also exports a check that stands above them."""
    exporting = "from ds_core.testing.recipe import check_recipe\n__all__ = ['check_recipe']\n"
    files = {
        "testing/__init__.py": exporting,
        "testing/recipe.py": "import ds_core.cli\n",
        "recipes/mlp.py": "from ds_core.testing import check_recipe\n",
    }
    (found,) = check_imports.check(plant({f"ds-core/src/ds_core/{path}": code for path, code in files.items()}))
    assert found.startswith(
        "packages/ds-core/src/ds_core/recipes/mlp.py:1: recipes.mlp imports ds_core.testing.recipe,"
    )


def test_lets_through_what_stands_lower(plant):
    files = {
        "__init__.py": "from ds_core.cli.main import main\n",
        "cli/main.py": "from ds_core.speed.chunks import chunks\nimport ds_core.cli.info\nfrom ds_core import errors\n",
        "cli/info.py": "",
        "errors.py": "",
        "engine/__init__.py": "from ds_core.engine.trace import stack\n",
        "engine/module.py": "from ds_core.engine import stack\nfrom .trace import stack\nimport ds_core.data.loader",
        "testing/__init__.py": "from ds_core.testing.recipe import check_recipe",
    }
    root = plant({**TRACE, **{f"ds-core/src/ds_core/{path}": code for path, code in files.items()}})
    assert list(check_imports.check(root)) == []


def test_an_exception_names_the_file_and_what_it_imports(plant, monkeypatch):
    monkeypatch.setitem(check_imports.EXCEPTIONS, ("engine/module.py", "ds_core.speed"), "a reason")
    root = plant({"ds-core/src/ds_core/engine/module.py": "import ds_core.speed\nimport ds_core.cli\n"})
    (found,) = check_imports.check(root)
    assert "ds_core.cli" in found


def test_every_room_of_the_tables_is_there():
    members = {package.module: package for package in packages()}
    assert set(" ".join(check_imports.PACKAGES).split()) == set(members)
    for module, floors in check_imports.FLOORS.items():
        for room in " ".join(floors).split():
            path = room.replace(".", "/")
            assert [*members[module].source.glob(path), *members[module].source.glob(f"{path}.py")], room
