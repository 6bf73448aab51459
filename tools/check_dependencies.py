"""What a package imports against what it declares: deptry's rules for sources and tests, and one rule more.

deptry finds imports that are undeclared, or reach the package only through a sibling, and declarations that are
unused. It does not ask when an import runs: what is imported with the package must be in `dependencies`, what only
an extra brings must wait inside a function (or `if TYPE_CHECKING`), so that the package imports without it.
"""

import ast
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from workspace import ROOT, Package, packages, parse, place, report


def check(root: Path) -> Iterator[str]:
    for package in packages(root):
        sources = _deptry(root, package, ["src"], ["--optional-dependencies-dev-groups", "test"])
        with_tests = _deptry(root, package, ["src", "tests"], ["--exclude", "nothing"])
        yield from dict.fromkeys([*sources, *with_tests])
        yield from _too_early(root, package)


def _deptry(root: Path, package: Package, folders: list[str], options: list[str]) -> list[str]:
    folders = [folder for folder in folders if (package.folder / folder).exists()]
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "faults.json"
        command = [sys.executable, "-m", "deptry", *folders, *options, "--known-first-party", package.module]
        run = subprocess.run(
            [*command, "--json-output", str(output)], cwd=package.folder, capture_output=True, text=True, check=False
        )
        if not output.exists():
            return [f"packages/{package.name}: deptry failed: {run.stderr.strip()}"]
        faults = json.loads(output.read_text("utf-8"))
    return [
        f"{place(root, package.folder / fault['location']['file'], fault['location']['line'])}: "
        f"{fault['error']['code']} {fault['error']['message']}"
        for fault in faults
    ]


def _too_early(root: Path, package: Package) -> Iterator[str]:
    """Imports at module level of what `dependencies` does not name."""
    project = package.project
    declared = {_normal(requirement) for requirement in project.get("dependencies", [])}
    extras = {
        _normal(requirement)
        for requirements in project.get("optional-dependencies", {}).values()
        for requirement in requirements
    }
    distributions = packages_distributions()
    for path in package.files("src"):
        for node in _run_on_import(parse(path).body):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and node.level:
                continue
            for module in modules:
                first = module.split(".")[0]
                names = {_normal(name) for name in distributions.get(first, [first])}
                if names & extras and not names & declared:
                    yield (
                        f"{place(root, path, node.lineno)}: {first} comes with an extra only, "
                        "so import it inside the function that needs it"
                    )


def _run_on_import(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _run_on_import(node.orelse)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for field in ("body", "orelse", "finalbody"):
                yield from _run_on_import(getattr(node, field, []))


def _normal(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else requirement


if __name__ == "__main__":
    sys.exit(report("dependencies", check, ROOT))
