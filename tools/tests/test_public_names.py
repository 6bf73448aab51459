import json

import check_imports
import notebooks
import public_names
import pytest

FILES = {
    "ds-core/src/ds_core/__init__.py": "from ds_core.layers.linear import Linear\n__all__ = ['Linear']\n",
    "ds-core/src/ds_core/layers/linear.py": "from ds_core.data.loader import Loader\nLinear = linear = 1\n",
    "ds-core/src/ds_core/data/__init__.py": (
        "from ds_core.data.loader import Loader, hidden\nfrom ds_core.layers.linear import Linear\n"
        "__all__ = ['Linear', 'Loader']\n"
    ),
    "ds-core/src/ds_core/data/loader.py": "Loader = hidden = Linear = 1\n",
}


@pytest.mark.parametrize(
    "path",
    [
        "ds-core/tests/test_a.py",
        "ds-core/benchmarks/a.py",
        "ds-core/notebooks/a.py",
        "ds-cnn/src/ds_cnn/a.py",
        "ds-cnn/README.md",
        "ds-core/docs/a.md",
        "../tools/a.py",
        "../README.md",
    ],
)
def test_catches_in(plant, path):
    root = plant(FILES)
    (root / "packages" / path).parent.mkdir(parents=True, exist_ok=True)
    planted = "from ds_core.layers.linear import linear\n\nfrom ds_core.layers.linear import Linear\n"
    text = f"Text.\n\n```python\n{planted}```\n" if path.endswith("md") else f"\n\n\n{planted}"
    (root / "packages" / path).write_text(text)
    if not (root / "packages/ds-cnn/pyproject.toml").exists():
        plant({"ds-cnn/docs/a.md": ""})
    (found,) = public_names.check(root)
    expected = f"packages/{path}".removeprefix("packages/../")
    assert found == f"{expected}:6: imports Linear of ds_core.layers.linear, which ds_core exports"


@pytest.mark.parametrize(
    ("code", "exporting"),
    [
        ("from ds_core.data.loader import Loader", "ds_core.data"),
        ("from ds_core.data import Linear", "ds_core"),  # exported twice: the shortest path counts
        ("def f():\n    from ds_core.layers.linear import Linear as L", "ds_core"),
    ],
)
def test_catches(plant, code, exporting):
    (found,) = public_names.check(plant({**FILES, "ds-core/tests/test_a.py": code}))
    assert found.endswith(f"which {exporting} exports")


@pytest.mark.parametrize(
    "code",
    [
        "from ds_core import Linear",
        "from ds_core.layers.linear import linear",
        "from ds_core.data.loader import hidden",  # imported there, not exported
        "from ds_core.data.loader import Linear",  # another thing of the same name
        "import ds_core.layers.linear as module",
        "from ds_core.layers import linear",
    ],
)
def test_lets_through(plant, code):
    assert list(public_names.check(plant({**FILES, "ds-core/tests/test_a.py": code}))) == []


def test_sentences_are_no_imports(plant):
    page = "It goes\nfrom ds_core.layers.linear import Linear and back\nfrom there.\n\nimport nothing else, ever\n"
    assert list(public_names.check(plant({**FILES, "ds-core/docs/a.md": page}))) == []


CODE = """\
import torch
from ds_core.data.loader import Loader, hidden  # noqa: F401
from ds_core.layers.linear import Linear, linear


def f():
    from ds_core.data.datasets import load
    from ds_core.layers.linear import Linear as Other

    return load, Other, linear, Loader, Linear, torch
"""
FIXED = """\
import torch
from ds_core import Linear
from ds_core.data import Loader
from ds_core.data.loader import hidden  # noqa: F401
from ds_core.layers.linear import linear


def f():
    from ds_core import Linear as Other
    from ds_core.data.datasets import load

    return load, Other, linear, Loader, Linear, torch
"""


def test_fix_rewrites_the_imports_and_nothing_else(plant, capsys):
    page = (
        "```python\nfrom ds_core.layers.linear import Linear\nx = 1\n```\n\n"
        "    from ds_core.data.loader import Loader\n    from ds_core.layers.linear import Linear\n"
    )
    root = plant({**FILES, "ds-core/tests/test_a.py": CODE, "ds-core/docs/a.md": page})
    assert check_imports.main([], root) == 1
    own = (root / "packages/ds-core/src/ds_core/layers/linear.py").read_text()
    capsys.readouterr()
    check_imports.main(["--fix"], root)
    printed = capsys.readouterr().out
    assert "packages/ds-core/tests/test_a.py: rewritten" in printed
    assert (root / "packages/ds-core/tests/test_a.py").read_text() == FIXED
    assert (root / "packages/ds-core/docs/a.md").read_text() == (
        "```python\nfrom ds_core import Linear\nx = 1\n```\n\n"
        "    from ds_core import Linear\n    from ds_core.data import Loader\n"
    )
    assert (root / "packages/ds-core/src/ds_core/layers/linear.py").read_text() == own
    assert list(public_names.check(root)) == []
    assert list(public_names.fix(root)) == []


def test_fix_keeps_a_notebook_in_step_with_its_source(plant):
    source = "# %% [markdown]\n# # Title\n\n# %%\nfrom pathlib import PurePath\n\nprint(PurePath('a'))\n"
    root = plant({**FILES, "ds-core/notebooks/first.py": source})
    assert notebooks.main([], root) == 0
    path = root / "packages/ds-core/notebooks/first.ipynb"
    executed = json.loads(path.read_text())
    for file in (path, path.with_suffix(".py")):  # as if it had been executed with the long path
        long = "from ds_core.layers.linear import Linear"
        file.write_text(file.read_text().replace("from pathlib import PurePath", long))
    assert list(public_names.fix(root)) == [path.with_suffix(".py")]
    cells = json.loads(path.read_text())["cells"]
    assert cells[1]["source"][0] == "from ds_core import Linear\n"
    assert cells[1]["outputs"] == executed["cells"][1]["outputs"] != []
