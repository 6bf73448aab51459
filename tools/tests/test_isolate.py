"""Small packages without torch, so that a fresh environment takes a second or two."""

import isolate
import pytest
from workspace import packages

TEST = 'test = ["pytest>=8"]'
TESTED = "def test_a():\n    pass\n"


@pytest.fixture(autouse=True)
def one_cache(tmp_path_factory, monkeypatch):
    """Shared by the tests of this file: hatchling and pytest are fetched once."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "uv-cache"))


def test_catches(plant, tmp_path, capsys):
    """One good package and one for each fault, each alone in its environment."""
    packages_and_faults = {
        "wrong": ({"src/wrong/a.py": "VALUE = 2\n"}, "assert 2 == 1"),
        "undeclared-tool": ({"tests/test_b.py": "import hypothesis\n"}, "No module named 'hypothesis'"),
        "sibling-in-test": ({"tests/test_b.py": "def test_b():\n    import good\n"}, "No module named 'good'"),
        "sibling-in-module": ({"src/sibling_in_module/b.py": "import good\n"}, "No module named 'good'"),
        "checkout": (
            {"notebooks/a.md": "", "tests/test_b.py": "def test_b():\n    open('notebooks/a.md')\n"},
            "FileNotFoundError",
        ),
        "untested": ({"tests/test_a.py": ""}, "no tests ran"),
        "with-sibling": ({"src/good/a.py": ""}, "['good'] are there"),
        "elsewhere": ({"away.pth": str(tmp_path / "packages/elsewhere/src")}, "elsewhere comes from "),
    }
    wheels = {
        "with-sibling": 'packages = ["src/with_sibling", "src/good"]',
        "elsewhere": 'only-include = ["away.pth"]',
    }
    for name, (files, _) in {"good": ({}, ""), **packages_and_faults}.items():
        module = name.replace("-", "_")
        whole = {
            f"src/{module}/a.py": "VALUE = 1\n",
            "tests/test_a.py": f"from {module}.a import VALUE\n\n\ndef test_value():\n    assert VALUE == 1\n",
        }
        planted = {f"{name}/{path}": text for path, text in {**whole, **files}.items()}
        root = plant(planted, extras=TEST, wheel=wheels.get(name, ""))
    assert isolate.main([], root) == 1
    printed = capsys.readouterr().out
    assert "good: 1 passed" in printed
    for name, (_, fault) in packages_and_faults.items():
        assert fault in f"\n{printed}".split(f"\n{name}: FAILED")[1]
    assert printed.endswith("1 passed, 8 failed\n")


def test_catches_requirements_that_contradict_each_other(plant, monkeypatch, capsys):
    """uv resolves none; but whoever has overrides set, as for another project, would test what nobody installs."""
    root = plant({"small/src/small/a.py": ""})
    plant({"large/src/large/a.py": "", "large/tests/test_a.py": TESTED}, dependencies='"small>=2"', extras=TEST)
    (root / "overrides.txt").write_text("small\n")
    monkeypatch.setenv("UV_OVERRIDE", str(root / "overrides.txt"))
    assert isolate.main(["large"], root) == 1
    assert "`large` requires `small>=2`" in capsys.readouterr().out


def test_one_package_that_is_whole(plant, capsys):
    files = {"good/src/good/a.py": "", "good/tests/test_a.py": "def test_a():\n    import good.a\n"}
    assert isolate.main(["good"], plant(files, extras=TEST)) == 0
    assert capsys.readouterr().out.endswith("1 passed, 0 failed\n")


def test_the_constraints_of_the_workspace_hold(plant, capsys):
    root = plant({"good/src/good/a.py": "", "good/tests/test_a.py": "def test_a():\n    pass\n"}, extras=TEST)
    (root / "tools").mkdir()
    (root / "tools/constraints.txt").write_text("pytest<8\n")
    assert isolate.main([], root) == 1
    assert "pytest<8" in capsys.readouterr().out


def test_another_torch_takes_the_place_of_the_pinned_one(tmp_path):
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/constraints.txt").write_text("pytest<9\ntorch==2.13.0\n")
    (tmp_path / "torch-2.13.0+cpu-cp311.whl").touch()
    for torch, expected in [
        ("2.6.0", "pytest<9\ntorch==2.6.0\n"),
        (None, "pytest<9\ntorch==2.13.0\n\nnvidia-cublas<0\ncuda-toolkit<0\ntriton<0\n"),
    ]:
        isolate._write_constraints(tmp_path, tmp_path, {"UV_FIND_LINKS": str(tmp_path)}, torch)
        assert (tmp_path / "constraints.txt").read_text() == expected


def test_catches_a_package_that_does_not_build(plant, capsys):
    root = plant({"broken/pyproject.toml": "[project]\nname = 'broken'\n"})
    assert isolate.main([], root) == 1
    assert "broken: does not build" in capsys.readouterr().out


def test_catches_what_may_only_come_with_an_extra(plant, capsys):
    files = {"heavy/src/heavy/a.py": "", "heavy/tests/test_a.py": TESTED}
    assert isolate.main([], plant(files, dependencies='"packaging>=24"', extras=TEST)) == 1
    assert "installed without an extra it brings packaging: " in capsys.readouterr().out


def test_what_may_come_is_what_the_light_packages_require():
    installed = {
        "torch": (
            200.0,
            ["filelock", "mpmath-helper; extra == 'more'", "Jinja2>=3", "colorama; sys_platform == 'none'"],
        ),
        "filelock": (0.1, []),
        "jinja2": (0.5, ["MarkupSafe"]),
        "markupsafe": (0.1, []),
        "ds-core": (1.0, ["torch", "scikit-learn; extra == 'data'"]),
    }
    assert isolate.surplus(installed, ["ds_core"]) == set()
    surplus = {"scikit-learn": (30.0, []), "mpmath": (1.0, []), "colorama": (0.1, []), "ds-zoo": (1.0, [])}
    assert isolate.surplus({**installed, **surplus}, ["ds-core"]) == set(surplus)


def test_siblings_are_those_declared_by_it_or_by_a_declared_one(plant):
    plant({"ds-core/src/ds_core/a.py": "", "ds-rnn/src/ds_rnn/a.py": ""})
    plant({"ds-cnn/src/ds_cnn/a.py": ""}, dependencies='"ds-core"', extras='test = ["pytest", "ds-rnn"]')
    members = packages(plant({"ds-zoo/src/ds_zoo/a.py": ""}, dependencies='"torch", "ds-cnn>=0.1,<0.2"'))
    needed = {package.name: isolate.needed_siblings(package, members) for package in members}
    assert isolate.needed_siblings(members[0], members, extra=None) == {"ds-core"}
    assert needed == {
        "ds-core": set(),
        "ds-rnn": set(),
        "ds-cnn": {"ds-core", "ds-rnn"},
        "ds-zoo": {"ds-cnn", "ds-core"},
    }


def test_unknown_package(plant, capsys):
    with pytest.raises(SystemExit):
        isolate.main(["ds-cor"], plant({"ds-core/src/ds_core/a.py": ""}))
    assert "no such package: ds-cor" in capsys.readouterr().err
