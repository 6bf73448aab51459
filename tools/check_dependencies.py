"""What a package imports against what it declares: deptry's rules for sources and tests, and two rules more.

deptry finds imports that are undeclared, or reach the package only through a sibling, and declarations that are
unused. It does not ask when an import runs. What is imported with the package must be in `dependencies`. What only
an extra brings must wait inside a function (or `if TYPE_CHECKING`), so that the package imports without it, and every
file that imports it does so at least once inside `with needs_extra("data", ...)`, which says what to install.
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

from workspace import ROOT, Package, location, packages, parse, report


def check(root: Path) -> Iterator[str]:
    for package in packages(root):
        sources = _deptry(root, package, ["src"], ["--optional-dependencies-dev-groups", "test"])
        with_tests = _deptry(root, package, ["src", "tests"], ["--exclude", "nothing"])
        yield from dict.fromkeys([*sources, *with_tests])
        yield from _imports_of_extras(root, package)
        yield from _entry_points(root, package)


def _entry_points(root: Path, package: Package) -> Iterator[str]:
    """Every recipe is an entry point, or `ds` does not find it; every entry point leads to a recipe that is checked."""
    declared = package.project.get("entry-points", {}).get("ds.recipes", {})
    where, found = location(root, package.folder / "pyproject.toml"), {}
    for path in package.files("src"):
        for node in parse(path).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == "recipe" for target in targets):
                module = ".".join((package.module, *path.relative_to(package.source).with_suffix("").parts))
                found[f"{module}:recipe"] = path
    for value in sorted(set(found) - set(declared.values())):
        yield f"{where}: has no entry point in ds.recipes for the recipe {value}"
    tests = "\n".join(path.read_text("utf-8") for path in package.files("tests"))
    for name, value in declared.items():
        if value not in found:
            yield f"{where}: the entry point {name} of ds.recipes leads to {value}, which is not there"
        elif not re.search(rf'check_recipe\(\s*"{name}"', tests):
            yield f'{where}: no test of the package calls check_recipe("{name}", ...)'


def _deptry(root: Path, package: Package, folders: list[str], options: list[str]) -> list[str]:
    folders = [folder for folder in folders if (package.folder / folder).exists()]
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "faults.json"
        # deptry finds helpers of tests on its own, but not those in a folder below tests/
        own = {package.module, *(path.stem for path in package.files("tests") if path.parent.name != "tests")}
        first_party = [word for name in sorted(own) for word in ("--known-first-party", name)]
        command = [sys.executable, "-m", "deptry", *folders, *options, *first_party]
        # An extra may refer to another of its own, and pytest runs tests that do not import it.
        command += ["--per-rule-ignores", f"DEP002={package.name}|pytest"]
        run = subprocess.run(
            [*command, "--json-output", str(output)], cwd=package.folder, capture_output=True, text=True, check=False
        )
        if not output.exists():
            return [f"packages/{package.name}: deptry failed: {run.stderr.strip()}"]
        faults = json.loads(output.read_text("utf-8"))
    return [
        f"{location(root, package.folder / fault['location']['file'], fault['location']['line'])}: "
        f"{fault['error']['code']} {fault['error']['message']}"
        for fault in faults
    ]


def _imports_of_extras(root: Path, package: Package) -> Iterator[str]:
    """What only an extra brings: imported at module level, or nowhere in a file inside the right `needs_extra`."""
    brought = _modules_of_extras(root, package)
    for path in package.files("src"):
        tree = parse(path)
        early = list(_run_on_import(tree.body))
        for node in early:
            for module in _modules(node) & set(brought):
                yield (
                    f"{location(root, path, node.lineno)}: {module} comes with an extra only, "
                    "so import it inside the function that needs it"
                )
        announced = {
            module for node, extra in _announced(tree) for module in _modules(node) if extra in brought.get(module, ())
        }
        late = {module: node for node in _late_imports(tree) for module in _modules(node)}
        for module in sorted(set(late) & set(brought) - announced):
            extras = " or ".join(sorted(brought[module]))
            yield (
                f"{location(root, path, late[module].lineno)}: {module} comes with the extra {extras}, "
                "so import it inside `with needs_extra(...)` of that"
            )


def _modules_of_extras(root: Path, package: Package) -> dict[str, set[str]]:
    """Module -> the extras that bring it, those left out that come with `dependencies` too."""
    declared = {_normal(requirement.name) for requirement in package.requirements()}
    extras = {name: found for name, found in _extras(root, package).items() if name not in declared}
    modules = {name.replace("-", "_"): found for name, found in extras.items()}
    for module, distributions in packages_distributions().items():
        names = set(map(_normal, distributions))
        if names & set(extras) and not names & declared:
            modules[module] = set[str]().union(*(extras.get(name, ()) for name in names))
    return modules


def _extras(root: Path, package: Package) -> dict[str, set[str]]:
    """Distribution -> the extras that bring it, without `test`; what a sibling's extra brings counts as that one's."""
    members = {member.name: member for member in packages(root)}
    found: dict[str, set[str]] = {}
    waiting = [(package, extra) for extra in package.project.get("optional-dependencies", {}) if extra != "test"]
    for owner, extra in waiting:
        for requirement in owner.requirements(extra):
            name = _normal(requirement.name)
            if name in members:
                more = [(members[name], inner) for inner in sorted(requirement.extras)]
                waiting.extend(each for each in more if each not in waiting)
            else:
                found.setdefault(name, set()).add(extra)
    return found


def _modules(node: ast.Import | ast.ImportFrom) -> set[str]:
    """The first names of what it imports."""
    if isinstance(node, ast.ImportFrom):
        return set() if node.level else {(node.module or "").split(".")[0]}
    return {alias.name.split(".")[0] for alias in node.names}


def _announced(tree: ast.Module) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Imports inside `with needs_extra("name", ...)`, and that name."""
    for block in ast.walk(tree):
        for item in block.items if isinstance(block, ast.With) else []:
            call = item.context_expr
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "needs_extra" and isinstance(block, ast.With):
                for node in block.body:
                    if isinstance(node, (ast.Import, ast.ImportFrom)):
                        yield node, ast.literal_eval(call.args[0])


def _late_imports(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports inside functions; those for type checking alone are no imports."""
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(function):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    yield node


def _run_on_import(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _run_on_import(node.orelse)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for field in ("body", "orelse", "finalbody"):
                yield from _run_on_import(getattr(node, field, []))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(report("dependencies", check, ROOT))
