"""The packages of this workspace as their own metadata describe them, and how the checks report."""

import ast
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Package:
    """One folder of packages/: `name` is ds-core, `module` is ds_core."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    @property
    def project(self) -> dict[str, Any]:
        """The [project] table of its pyproject.toml."""
        table: dict[str, Any] = read_toml(self.folder / "pyproject.toml")["project"]
        return table

    def requirements(self, extra: str | None = None) -> list[Requirement]:
        """What it declares to need, or what one of its extras adds."""
        project = self.project
        texts = project["dependencies"] if extra is None else project.get("optional-dependencies", {}).get(extra, [])
        return [Requirement(text) for text in texts]

    @property
    def source(self) -> Path:
        return self.folder / "src" / self.module

    def files(self, *folders: str) -> list[Path]:
        """Its Python files, in these folders of it or everywhere."""
        return sorted(path for folder in folders or (".",) for path in (self.folder / folder).rglob("*.py"))


def packages(root: Path = ROOT) -> list[Package]:
    return [Package(path.parent) for path in sorted(root.glob("packages/*/pyproject.toml"))]


def read_toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8"))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def location(root: Path, path: Path, line: int | None = None) -> str:
    """`tools/isolate.py:12`, as a fault names it, so that editors and terminals can jump there."""
    return f"{path.relative_to(root).as_posix()}{'' if line is None else f':{line}'}"


def report(what: str, check: Callable[[Path], Iterable[str]], root: Path = ROOT) -> int:
    """Print the faults that `check` finds under `root`; the exit status."""
    faults = list(check(root))
    for fault in faults:
        print(fault)
    print(f"{what}: {f'{len(faults)} fault(s)' if faults else 'ok'}")
    return 1 if faults else 0
