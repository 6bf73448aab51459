"""A formula that no test looks at is named; one that is tested is not."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mutate
import pytest
from mutants import mutants
from workspace import packages

TOOLS = Path(__file__).resolve().parents[1]

SOURCE = """\
def scale_backward(dy, x, weight):
    if x.dim() > 4:
        raise ValueError("at most" + " four")
    dx = dy * weight
    dweight = (dy * x).sum()
    return dx, dweight
"""
TESTS = """\
import torch
from ds_core.scale import scale_backward

def test_scale():
    x, weight, dy = torch.tensor([2.0, 3.0]), torch.tensor(5.0), torch.tensor([7.0, -1.0])
    dx, dweight = scale_backward(dy, x, weight)
    assert dx.tolist() == [35.0, -5.0]
"""


def run(root: Path, *names: str) -> subprocess.CompletedProcess[str]:
    program = f"import sys, mutate, pathlib; sys.exit(mutate.main({[*names]!r}, pathlib.Path({str(root)!r})))"
    return subprocess.run([sys.executable, "-c", program], cwd=TOOLS, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("folder", ["", "model/"])
@pytest.mark.parametrize("tested", [False, True])
def test_an_untested_gradient_is_named(plant: Callable[..., Path], tested: bool, folder: str) -> None:
    tests = TESTS.replace("ds_core", f"ds_core.{folder}".replace("/", "").rstrip("."))
    root = plant(
        {
            f"ds-core/src/ds_core/{folder}__init__.py": "",
            f"ds-core/src/ds_core/{folder}scale.py": SOURCE,
            f"ds-core/docs/{folder}scale.md": "# Scale\n",
            f"ds-core/tests/{folder}test_scale.py": tests + "    assert dweight.item() == 11.0\n" * tested,
            "ds-core/tests/other/test_scale.py": "def test_of_another_scale():\n    raise AssertionError\n",
        }
    )
    done = run(root, "scale")
    assert done.returncode == (0 if tested else 1), done.stdout + done.stderr
    named = [line for line in done.stdout.splitlines() if "->" in line]
    if tested:
        assert named == []
    else:
        assert f"packages/ds-core/src/ds_core/{folder}scale.py:5: dy * x  ->  dy / x" in named
        assert all(line.startswith(f"packages/ds-core/src/ds_core/{folder}scale.py:5:") for line in named)


def test_tests_that_fail_anyway_prove_nothing(plant: Callable[..., Path]) -> None:
    files = {
        "scale.py": ("src/ds_core", SOURCE),
        "scale.md": ("docs", ""),
        "test_scale.py": ("tests", TESTS + "    1 / 0"),
    }
    root = plant({f"ds-core/{folder}/{name}": text for name, (folder, text) in files.items()})
    done = run(root, "ds-core")
    assert done.returncode == 1
    assert "its tests fail as it is" in done.stdout


def test_an_unknown_name_is_refused(plant: Callable[..., Path]) -> None:
    root = plant({"ds-core/src/ds_core/scale.py": SOURCE})
    done = run(root, "scala")
    assert done.returncode == 2
    assert "is called scala" in done.stderr


def test_each_operation_term_sign_and_number_is_changed_once() -> None:
    found = {(mutant.before, mutant.after) for mutant in mutants("def f(a, b):\n    dx = -a + b * 2\n    return dx\n")}
    assert found == {
        ("dx = -a + b * 2", "dx = -(-a + b * 2)"),
        ("-a + b * 2", "-a - b * 2"),
        ("-a + b * 2", "-a"),
        ("-a + b * 2", "b * 2"),
        ("-a", "a"),
        ("b * 2", "b / 2"),
        ("b * 2", "b"),
        ("b * 2", "2"),
        ("2", "3"),
    }
    for mutant in mutants(SOURCE):
        compile(mutant.source, "scale.py", "exec")
        assert mutant.source != SOURCE
        assert "four" in mutant.source


def test_every_equivalent_line_is_there() -> None:
    sources = [path for package in packages() for path in package.files("src")]
    for name, line in mutate.EQUIVALENT:
        texts = [path.read_text("utf-8") for path in sources if path.name == name]
        assert any(line in map(str.strip, text.splitlines()) for text in texts), (name, line)


def test_the_tests_of_a_file_import_from_it_by_whatever_path(plant: Callable[..., Path]) -> None:
    files = {
        "src/ds_core/__init__.py": "from ds_core.scale import Scale\n__all__ = ['Scale']\n",
        "src/ds_core/scale.py": "@fast_form(plain_scale)\n@compilable\ndef scale(x): ...\n",
        "tests/test_scale.py": "",
        "tests/test_scale_grid.py": "",
        "tests/test_plain.py": "",
        "tests/test_deep.py": "from ds_core.scale import scale\n",
        "tests/test_top.py": "from ds_core import Linear, Scale\n",
        "tests/test_other.py": "from ds_core import Linear\nimport ds_core.scales\n",
        "tests/checks.py": "from ds_core.scale import scale\n",
    }
    (package,) = packages(plant({f"ds-core/{name}": text for name, text in files.items()}))
    found = [Path(test).name for test in mutate._tests_of(package, package.source / "scale.py")]
    pair = "test_plain.py::test_plain_and_fast_agree[scale]"
    assert found == ["test_scale.py", "test_scale_grid.py", pair, "test_deep.py", "test_top.py"]
