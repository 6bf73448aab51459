"""Versions that must agree: changelog with package, siblings with each other, one requires-python for all.

And the files that every package has: changelog, README, license, the mark that it is typed.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version
from workspace import ROOT, Package, location, packages, report

ENTRY = re.compile(r"^## \[?(?P<version>[^\]\s]+)\]?(?: - (?P<date>\S+))?\s*$", re.MULTILINE)


def check(root: Path) -> Iterator[str]:
    members = packages(root)
    versions = {package.name: _version(package) for package in members}
    for package in members:
        yield from _files(root, package)
        yield from _changelog(root, package, versions[package.name])
        project = package.project
        for extra, requirements in {"": project["dependencies"], **project.get("optional-dependencies", {})}.items():
            for text in requirements:
                requirement = Requirement(text)
                where = f"{location(root, package.folder / 'pyproject.toml')}{f' [{extra}]' if extra else ''}"
                if requirement.name.replace("_", "-") in versions and "_" in requirement.name:
                    yield f"{where}: {text}: write the sibling with dashes"
                elif requirement.name in versions and requirement.name != package.name:
                    yield from _sibling(where, requirement, versions[requirement.name])
    pythons = {package.project["requires-python"] for package in members}
    if len(pythons) > 1:
        yield f"packages/*/pyproject.toml: requires-python differs: {', '.join(sorted(pythons))}"


def _version(package: Package) -> Version:
    path = package.source / "__about__.py"
    text = path.read_text("utf-8") if path.exists() else ""
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    return Version(found[1] if found else "0")


def _files(root: Path, package: Package) -> Iterator[str]:
    """What every package has beside its modules."""
    own = [package.folder / name for name in ("CHANGELOG.md", "README.md", "LICENSE")]
    for path in (*own, package.source / "__about__.py", package.source / "py.typed"):
        if not path.exists():
            yield f"{location(root, path)}: is not there"


def _changelog(root: Path, package: Package, version: Version) -> Iterator[str]:
    path = package.folder / "CHANGELOG.md"
    if not path.exists():
        return
    entries = [entry for entry in ENTRY.finditer(path.read_text("utf-8")) if entry["version"] != "Unreleased"]
    if not entries or Version(entries[0]["version"]) != version:
        top = entries[0]["version"] if entries else "nothing"
        yield f"{location(root, path)}: its top entry is {top}, the package is {version}"
    for entry in entries:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", entry["date"] or ""):
            expected = f"## [{entry['version']}] - YYYY-MM-DD"
            yield f"{location(root, path)}: {entry['version']} has no date, expected {expected}"
    released = [Version(entry["version"]) for entry in entries]
    if released != sorted(released, reverse=True):
        yield f"{location(root, path)}: entries are not newest first"


def _sibling(where: str, requirement: Requirement, version: Version) -> Iterator[str]:
    if version not in requirement.specifier:
        yield f"{where}: {requirement} does not admit the sibling's version {version}"
    if not any(part.operator in ("<", "~=", "==") for part in requirement.specifier):
        yield f"{where}: {requirement} has no upper end, and the sibling's next protocol may break it"


if __name__ == "__main__":
    sys.exit(report("versions", check, ROOT))
