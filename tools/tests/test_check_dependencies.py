import check_dependencies
import pytest

TEST = 'test = ["pytest>=8"]'


@pytest.mark.parametrize(
    ("code", "dependencies", "extras", "fault"),
    [
        ("import einops", "", "", "'einops'"),
        ("def f():\n    import einops", "", "", "'einops'"),
        ("from ds_core import record", "", "", "'ds_core'"),
        ("import numpy", '"torch"', "", "numpy"),  # there, but only through torch
        ("import os", '"einops"', "", "'einops' defined as a dependency but not used"),
        ("import pytest", "", TEST, "DEP004"),
        ("import matplotlib.pyplot", "", 'plot = ["matplotlib"]', "inside the function"),
        (
            "try:\n    import matplotlib\nfinally:\n    pass",
            "",
            'plot = ["matplotlib"]',
            "inside the function",
        ),
        ("def f():\n    import matplotlib", "", 'plot = ["matplotlib"]', "matplotlib comes with the extra plot"),
        (
            'def f():\n    with needs_extra("data", "this"):\n        import matplotlib',
            "",
            'plot = ["matplotlib"]\ndata = ["packaging"]',
            "matplotlib comes with the extra plot",
        ),
        (
            "def f():\n    import matplotlib",
            "",
            'plot = ["ds-cnn[figures]"]\nfigures = ["matplotlib"]',
            "matplotlib comes with the extra figures",
        ),
    ],
)
def test_catches(plant, code, dependencies, extras, fault):
    root = plant({"ds-cnn/src/ds_cnn/a.py": code, "ds-cnn/tests/test_a.py": "import pytest"}, dependencies, extras)
    assert any(fault in found for found in check_dependencies.check(root))


def test_catches_an_undeclared_import_of_the_tests_and_an_unused_test_tool(plant):
    root = plant({"ds-cnn/tests/test_a.py": "import hypothesis"}, extras='test = ["pytest>=8", "jupytext"]')
    unused, undeclared = sorted(check_dependencies.check(root))
    assert "'jupytext' defined as a dependency but not used" in unused  # pytest runs tests that do not import it
    assert "'hypothesis'" in undeclared


@pytest.mark.parametrize("line", ["recipe = Recipe('line')", "recipe: Recipe = Recipe('line')"])
def test_catches_a_recipe_that_is_no_entry_point_and_an_entry_point_without_recipe(plant, line):
    test = 'import ds_cnn\n\n\ndef test_line():\n    check_recipe(\n        "line",\n        longer="")\n'
    root = plant({"ds-cnn/src/ds_cnn/recipes/line.py": line, "ds-cnn/tests/test_line.py": test})
    (found,) = check_dependencies.check(root)
    expected = "has no entry point in ds.recipes for the recipe ds_cnn.recipes.line:recipe"
    assert found == f"packages/ds-cnn/pyproject.toml: {expected}"
    project = root / "packages/ds-cnn/pyproject.toml"
    entry = '\n[project.entry-points."ds.recipes"]\nline = "ds_cnn.recipes.line:recipe"\n'
    whole = project.read_text()
    project.write_text(whole + entry)
    assert list(check_dependencies.check(root)) == []
    project.write_text(whole + entry + 'curve = "ds_cnn.recipes.curve:recipe"\n')
    (found,) = check_dependencies.check(root)
    assert "the entry point curve of ds.recipes leads to ds_cnn.recipes.curve:recipe, which is not there" in found
    project.write_text(whole + entry)
    (root / "packages/ds-cnn/tests/test_line.py").write_text("import ds_cnn\n")
    (found,) = check_dependencies.check(root)
    assert found == 'packages/ds-cnn/pyproject.toml: no test of the package calls check_recipe("line", ...)'


def test_lets_through_what_is_declared(plant):
    code = "import einops\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import matplotlib\n"
    plot = "def plot():\n    with needs_extra('plot', 'drawing'):\n        import matplotlib.pyplot\n"
    again = "def again():\n    import matplotlib.figure\n"
    root = plant(
        {
            "ds-cnn/src/ds_cnn/a.py": f"{code}\n{plot}\n{again}",
            "ds-cnn/tests/test_a.py": "import pytest, ds_cnn",
        },
        dependencies='"einops"',
        extras=f'{TEST}\nplot = ["matplotlib"]\nall = ["ds-cnn[plot]"]',
    )
    assert list(check_dependencies.check(root)) == []
