"""Packages and their environments are found, not listed."""

import importlib.util
import sys
import types

import wheels
from workspace import ROOT


def test_builds_the_wheel_of_every_package(plant, capsys):
    root = plant({"one/src/one/a.py": "", "two-three/src/two_three/a.py": ""})
    assert wheels.main([], root) == 0
    assert sorted(path.name for path in (root / "dist").glob("*.whl")) == [
        "one-0.1.0-py3-none-any.whl",
        "two_three-0.1.0-py3-none-any.whl",
    ]


def test_catches_a_package_that_does_not_build(plant, capsys):
    root = plant({"broken/pyproject.toml": "[project]\nname = 'broken'\n"})
    assert wheels.main([str(root / "elsewhere")], root) == 1
    assert capsys.readouterr().out.startswith("broken: does not build\n$ ")


def test_hatch_gets_an_environment_for_every_package(plant, monkeypatch):
    """Without hatch, which is not in the environment that it makes: only its base class is stood in for."""

    class Interface:
        def __init__(self, root):
            self.root = root

    name = "hatch.env.collectors.plugin.interface"
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(EnvironmentCollectorInterface=Interface))
    path = ROOT / "tools/hatch_environments.py"
    spec = importlib.util.spec_from_file_location("hatch_environments", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    root = plant({"one/src/one/a.py": "", "two-three/src/two_three/a.py": ""})
    (root / "packages/none").mkdir()
    assert module.PackageEnvironments(str(root)).get_initial_config() == {
        "one": {"scripts": {"test": "pytest {args:packages/one}"}},
        "two-three": {"scripts": {"test": "pytest {args:packages/two-three}"}},
    }
