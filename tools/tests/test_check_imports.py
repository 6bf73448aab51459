import check_imports
import pytest


@pytest.mark.parametrize(
    ("place", "code", "fault"),
    [
        ("ds-cnn/src/ds_cnn/a.py", "from ds_rnn import RNNCell", "forbids"),
        ("ds-cnn/src/ds_cnn/a.py", "def f():\n    import ds_transformers.block", "forbids"),
        ("ds-core/src/ds_core/a.py", "import os, ds_cnn", "forbids"),
        ("ds-core/src/ds_core/a.py", "import importlib\nimportlib.import_module('ds_zoo.minigpt')", "forbids"),
        ("ds-transformers/tests/test_a.py", "import ds_zoo", "forbids"),
        ("ds-zoo/src/ds_zoo/a.py", "from ds_core.engine.trace import _stack", "private"),
        ("ds-zoo/src/ds_zoo/a.py", "from ds_core._engine import run", "private"),
        ("ds-zoo/src/ds_zoo/a.py", "import ds_core.engine.trace as t\nt._stack.traces", "private"),
        ("ds-zoo/src/ds_zoo/a.py", "import ds_core\nds_core.trace._stack", "private"),
        ("ds-cnn/src/ds_cnn/a.py", "from tools import paired", "tools/"),
        ("ds-cnn/tests/test_a.py", "import paired", "tools/"),
    ],
)
def test_catches(plant, place, code, fault):
    root = plant({place: code})
    (root / "tools").mkdir()
    (root / "tools/paired.py").touch()
    (found,) = check_imports.check(root)
    assert found.startswith(f"packages/{place}:")
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


def test_a_new_package_must_be_given_its_place(plant):
    (found,) = check_imports.check(plant({"ds-new/src/ds_new/a.py": ""}))
    assert "ds-new" in found
