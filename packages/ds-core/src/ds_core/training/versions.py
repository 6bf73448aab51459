"""Which versions a run was made with."""

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution, entry_points

# The entry points by which packages register their recipes
RECIPE_GROUP = "ds.recipes"
_CORE = "ds-core"


def installed_versions() -> dict[str, str]:
    """The versions of ds-core, of the packages that bring recipes, of what these build on ds-core, and of torch."""
    packages = {_CORE}
    for entry in entry_points(group=RECIPE_GROUP):
        if entry.dist is not None:
            packages.add(entry.dist.name)
            packages |= {name for name in _requirements(entry.dist) if _CORE in _requirements(_find(name))}
    found = {name: _find(name) for name in (_CORE, *sorted(packages - {_CORE}), "torch")}
    return {name: package.version for name, package in found.items() if package is not None}


def _find(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _requirements(package: Distribution | None) -> set[str]:
    """The names of the packages that one needs, without its extras."""
    lines = () if package is None else package.requires or ()
    needed = (re.match(r"[\w.-]+", line) for line in lines if "extra ==" not in line)
    return {found[0].lower() for found in needed if found}
