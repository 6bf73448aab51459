"""Which versions a run notes: what took part in it, by the entry points and requirements of installed packages."""

from importlib.metadata import Distribution, EntryPoint, EntryPoints, PackageNotFoundError

import ds_core.training.versions
import torch
from ds_core import __version__
from ds_core.training.versions import installed_versions


class Package(Distribution):
    def __init__(self, name, version, requires=()):
        self.package, self.number, self.needs = name, version, list(requires)

    name = property(lambda self: self.package)
    version = property(lambda self: self.number)
    requires = property(lambda self: self.needs)

    def read_text(self, filename):
        return None

    def locate_file(self, path):
        return path


def install(monkeypatch, *packages, recipes):
    found = {package.name: package for package in packages}

    def distribution(name):
        if name not in found:
            raise PackageNotFoundError(name)
        return found[name]

    class Recipes(EntryPoint):
        @property
        def dist(self):
            return found[self.value]

    points = EntryPoints([Recipes(f"recipe-{name}", name, "ds.recipes") for name in recipes])
    monkeypatch.setattr(ds_core.training.versions, "distribution", distribution)
    monkeypatch.setattr(ds_core.training.versions, "entry_points", lambda group: points)


def test_the_core_and_torch_here():
    found = installed_versions()
    names = list(found)
    assert (names[0], names[-1]) == ("ds-core", "torch")
    assert found["ds-core"] == __version__
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__


def test_packages_with_recipes_and_what_they_build_on(monkeypatch):
    install(
        monkeypatch,
        Package("ds-core", "1.0", ["torch>=2.6", "pytest>=8; extra == 'test'"]),
        Package("layers", "2.0", ["ds-core>=1,<2"]),
        Package("unused", "3.0", ["ds-core>=1"]),
        Package("numbers", "4.0"),
        Package("mine", "5.0", ["ds-core[data]>=1", "layers>=2", "numbers", 'unused>=1; extra == "test"', "gone"]),
        Package("torch", "6.0"),
        recipes=["mine", "ds-core"],
    )
    expected = {"ds-core": "1.0", "layers": "2.0", "mine": "5.0", "torch": "6.0"}
    assert list(installed_versions().items()) == list(expected.items())
