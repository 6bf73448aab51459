"""Who may import whom: packages and the folders of ds_core by their floors, and names by the shortest path.

- A package imports the packages below it, never its neighbours, and nobody's underscore names (`PACKAGES`).
- Inside ds_core a folder imports only what stands lower (`FLOORS`).
- Nothing in a package imports what is in tools/, except a benchmark, which measures with tools/paired.py.
- What a package exports is imported from there (tools/public_names.py): `hatch run imports --fix` rewrites the others.
"""

import argparse
import ast
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

import public_names
from workspace import ROOT, Package, location, packages, parse, report

# From the top. The one list that a new package is entered in; all else is derived from packages/*.
PACKAGES = (
    "ds_zoo",
    "ds_cnn ds_rnn ds_transformers",
    "ds_core",
)

# The folders and files of a package, from the top. `__init__` stands above them all. Imports inside functions and under
# TYPE_CHECKING count, and what a folder exports counts as the file that it comes from.
FLOORS = {
    "ds_core": (
        "testing.recipe*",  # what every recipe must survive, run by the command line
        "cli",
        "recipes",
        "text",
        "training layers",
        "losses activations optimizers schedules initializers metrics testing",
        "distributed",
        "speed",
        "interop primitives plotting",
        "engine",
        "data",
        "options",
        "protocols arguments atomic_files interrupts",
        "errors __about__",
    ),
}
# (importing file, imported module): why it may, though it runs up.
EXCEPTIONS: dict[tuple[str, str], str] = {}

IMPORT_BY_NAME = {"import_module", "__import__", "importorskip"}
Imported = tuple[ast.stmt | ast.Call, str, list[str]]  # node, module, names taken from it


def check(root: Path) -> Iterator[str]:
    tools = {path.stem for path in root.glob("tools/*.py")} | {"tools"}
    exported = public_names.exports(root)
    for package in packages(root):
        if _floor(PACKAGES, package.module) is None:
            yield f"packages/{package.name}: PACKAGES of tools/check_imports.py does not say on which floor it stands"
            continue
        for path in package.files():
            benchmark = path.parent.name == "benchmarks"
            for line, fault in _between_packages(package, path, set() if benchmark else tools):
                yield f"{location(root, path, line)}: {fault}"
        if package.module in FLOORS:
            for path in package.files("src"):
                for line, fault in _inside(package, path, FLOORS[package.module], exported):
                    yield f"{location(root, path, line)}: {fault}"
    yield from public_names.check(root)


def _floor(floors: Sequence[str], name: str) -> int | None:
    """The index of the highest floor with an entry that `name`, or what it is in, matches."""
    for index, floor in enumerate(floors):
        if any(fnmatch(name, entry) or fnmatch(name, f"{entry}.*") for entry in floor.split()):
            return index
    return None


def _between_packages(package: Package, path: Path, tools: set[str]) -> Iterator[tuple[int, str]]:
    tree = parse(path)
    siblings = {}  # local name -> the module of another package that it stands for
    own = _floor(PACKAGES, package.module)
    for node, module, names in _imports(tree):
        first = module.split(".")[0]
        if first in tools and not (path.parent / f"{first}.py").exists():
            yield node.lineno, f"imports {module} of tools/, which no package may"
        floor = _floor(PACKAGES, first)
        if floor is None or own is None or first == package.module:
            continue
        if floor <= own:
            yield node.lineno, f"{package.module} imports {module}, which does not stand below it"
        for name in [*module.split("."), *names]:
            if _private(name):
                yield node.lineno, f"imports {name} of {first}, which is private to it"
        siblings.update(_local_names(node, module))
    for child in ast.walk(tree):
        if isinstance(child, ast.Attribute) and _private(child.attr):
            owner = child.value
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            if isinstance(owner, ast.Name) and owner.id in siblings:
                yield child.lineno, f"uses {ast.unparse(child)} of {siblings[owner.id]}, which is private to it"


def _inside(
    package: Package, path: Path, floors: Sequence[str], exported: public_names.Exports
) -> Iterator[tuple[int, str]]:
    """What one source file imports of its own package from its own floor or above."""
    parts = path.relative_to(package.source).with_suffix("").parts
    folder = ".".join(parts[:-1]) if parts[-1] == "__init__" else None
    if folder == "":
        return  # the package's own __init__ exports from all floors
    inside = folder if folder is not None else ".".join(parts)
    own = _floor(floors, inside)
    if own is None:
        yield 1, f"FLOORS of tools/check_imports.py does not say on which floor {inside} stands"
        return
    for node, target in _own_modules(package, path, exported):
        name = target.removeprefix(f"{package.module}.")
        floor = _floor(floors, name)
        if floor is not None and floor > own:
            continue
        if floor == own and name.split(".")[0] == inside.split(".")[0]:
            continue  # a file of the same folder
        if folder is not None and name.startswith(f"{folder}."):
            continue  # a folder's __init__ exports what is in it
        if (location(package.source, path), target) not in EXCEPTIONS:
            reason = "is on no floor: import the file by its path" if floor is None else "does not stand below it"
            yield node.lineno, f"{inside} imports {target}, which {reason}"


def _own_modules(
    package: Package, path: Path, exported: public_names.Exports
) -> Iterator[tuple[ast.stmt | ast.Call, str]]:
    """Every module of its own package that a file imports, each name followed to the file that it comes from."""
    folder = path.relative_to(package.folder / "src").parts[:-1]
    for node, module, names in _imports(parse(path), folder):
        if module.split(".")[0] == package.module:
            followed = [_followed(package, module, name, exported) for name in names]
            yield from ((node, target) for target in dict.fromkeys(followed or [module]))


def _followed(package: Package, module: str, name: str, exported: public_names.Exports) -> str:
    path = (package.folder / "src").joinpath(*module.split("."), name)
    if path.is_dir() or path.with_suffix(".py").exists():
        return f"{module}.{name}"
    if module == package.module:
        return module
    return public_names.origin(exported, module, name)[0]


def _imports(tree: ast.Module, folder: Sequence[str] = ()) -> Iterator[Imported]:
    """Every import, by a constant string too; relative ones as seen from `folder`, or not at all."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name, []
        elif isinstance(node, ast.ImportFrom):
            if node.level and not folder:
                continue
            start = folder[: len(folder) - node.level + 1] if node.level else ()
            yield node, ".".join([*start, *filter(None, [node.module])]), [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and node.args:
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
            argument = node.args[0]
            if name in IMPORT_BY_NAME and isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield node, argument.value, []


def _local_names(node: ast.stmt | ast.Call, module: str) -> dict[str, str]:
    if isinstance(node, ast.Import):
        return {a.asname or a.name.split(".")[0]: module for a in node.names if a.name == module}
    if isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name: module for alias in node.names}
    return {}


def _private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fix", action="store_true", help="first rewrite imports to the shortest path")
    if parser.parse_args(arguments).fix:
        for path in public_names.fix(root):
            print(f"{location(root, path)}: rewritten")
    return report("imports", check, root)


if __name__ == "__main__":
    sys.exit(main())
