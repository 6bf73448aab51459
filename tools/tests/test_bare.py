"""In the Python of the tests: what `bare.py` does with a package whose metadata is written here."""

import json
import subprocess
import sys

import bare
import pytest

METADATA = """\
Metadata-Version: 2.4
Name: small-package
Version: 1.0
Requires-Dist: torch>=2.6

# Small

```sh
false
```

```python
{}
```

Text.

```python
x = 2
```
"""
RECIPES = "[ds.recipes]\none = small_package.one:recipe\ntwo = small_package.two:recipe\n[console_scripts]\nds = a:b\n"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """`small(example, recipes)` installs it, with a README and entry points -> where it is."""

    def install(example="check_layer = print; check_layer(1)", recipes="", code=""):
        information = tmp_path / "small_package-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(METADATA.format(example))
        (information / "entry_points.txt").write_text(recipes)
        (information / "RECORD").write_text("small_package/__init__.py,,\nsmall_package/data.bin,,\ngone.txt,,\n")
        (tmp_path / "small_package").mkdir()
        (tmp_path / "small_package/__init__.py").write_text("")
        (tmp_path / "small_package/data.bin").write_bytes(bytes(250_000))
        (tmp_path / "small_package/module.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        for name in [name for name in sys.modules if name.startswith("small_package")]:
            monkeypatch.delitem(sys.modules, name)
        return str(tmp_path)

    return install


def test_the_last_line_tells_what_is_installed(small, capfd):
    assert bare.main(["small_package", small(), "not_there"]) == 0
    installed = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert installed["small-package"] == [0.25, ["torch>=2.6"]]
    assert "torch" in installed


@pytest.mark.parametrize(
    ("given", "arguments", "fault"),
    [
        ({"code": "import nothing_of_that_name"}, [], "No module named 'nothing_of_that_name'"),
        ({}, ["torch"], r"\['torch'\] are there"),
        ({"example": "x = 1"}, [], "no example of small_package's README calls check_layer"),
    ],
)
def test_catches(small, given, arguments, fault):
    with pytest.raises((ImportError, AssertionError), match=fault):
        bare.main(["small_package", small(**given), *arguments])


def test_catches_another_package_of_the_same_name(small):
    small()
    with pytest.raises(AssertionError, match="small_package comes from "):
        bare.main(["small_package", "/elsewhere"])


def test_catches_an_example_that_fails(small, capfd):
    with pytest.raises(subprocess.CalledProcessError):
        bare.main(["small_package", small("1 / 0")])
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_every_recipe_is_checked_and_shows_its_options(small, monkeypatch):
    commands = []
    monkeypatch.setattr(bare.subprocess, "run", lambda command, check: commands.append(command[2:]))
    assert bare.main(["small_package", small("x = 1", RECIPES)]) == 0
    assert commands == [
        ["-c", "x = 1\n"],
        ["-c", "x = 2\n"],
        ["-m", "ds_core.cli", "check", "one"],
        ["-m", "ds_core.cli", "train", "one", "--help"],
        ["-m", "ds_core.cli", "check", "two"],
        ["-m", "ds_core.cli", "train", "two", "--help"],
    ]


def test_catches_a_recipe_that_fails_its_check(small, capfd):
    with pytest.raises(subprocess.CalledProcessError, match="'check', 'one'"):
        bare.main(["small_package", small(recipes=RECIPES)])
    assert "one" in capfd.readouterr().err
