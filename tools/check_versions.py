"""Versions that must agree: changelog with package, siblings with each other, one requires-python for all.

What is supported is said in four places: the metadata's bounds, its classifiers, CI's matrix and the README.
And the files that every package has: changelog, README, license, the mark that it is typed.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version
from workspace import ROOT, Package, location, packages, report

CI = ".github/workflows/ci.yml"

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
    torches = {str(need.specifier) for package in members for need in package.requirements() if need.name == "torch"}
    if len(torches) > 1:
        yield f"packages/*/pyproject.toml: torch's range differs: {', '.join(sorted(torches))}"
    elif torches and len(pythons) == 1 and (root / CI).exists():
        yield from _supported(root, members, pythons.pop(), torches.pop())


def _supported(root: Path, members: list[Package], pythons: str, torches: str) -> Iterator[str]:
    """What CI tries begins at the bounds, and is what the classifiers and the README say."""
    tried = _tried(root)
    versions = sorted({python for python, _ in tried}, key=Version)
    for package in members:
        found = re.findall(r"Python :: (3\.\d+)", "\n".join(package.project.get("classifiers", [])))
        if found != versions:
            where = location(root, package.folder / "pyproject.toml")
            yield f"{where}: classifiers name Python {', '.join(found) or 'of no version'}, {CI} {', '.join(versions)}"
    for name, bound, oldest in (
        ("Python", pythons, versions[0]),
        ("torch", torches, str(min(Version(torch) for _, torch in tried))),
    ):
        if not re.fullmatch(r">=[\d.]+", bound) or (_of_two(bound[2:]) != _of_two(oldest)):
            yield f"{CI}: the oldest {name} is {oldest}, the packages declare {bound}"
    readme = " ".join((root / "README.md").read_text("utf-8").split())
    for said in (f"Python {pythons[2:]} or later", f"torch ({torches[2:]} or later)"):
        if said not in readme:
            yield f"README.md: expected {said!r}, as in the packages' metadata"
    named = {(python, torch) for torch, python in re.findall(r"(\d+\.\d+\.\d+) on Python (\d+\.\d+)", readme)}
    for python, torch in sorted(named ^ tried):
        yield f"torch {torch} on Python {python}: only one of README.md and {CI} names it"


def _tried(root: Path) -> set[tuple[str, str]]:
    """Pairs of Python and torch: CI's matrix, and the development environment."""
    text = (root / CI).read_text("utf-8")
    tried = set(re.findall(r'\{ python: "([\d.]+)", torch: "([\d.]+)" \}', text))
    pinned = re.search(r"^torch==([\d.]+)$", (root / "tools/constraints.txt").read_text("utf-8"), re.MULTILINE)
    for python in re.findall(r'python-version: "([\d.]+)" \}\n +- run: bash \.ci/run', text):
        tried.add((python, pinned[1] if pinned else "0"))
    return tried


def _of_two(version: str) -> tuple[int, ...]:
    """2.6.0 and 2.6 are the same bound."""
    return Version(version).release[:2]


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
