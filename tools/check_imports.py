"""Who may import whom: ds_core nobody, the middle packages only ds_core, ds_zoo all of them; nobody a private name.

An underscore name belongs to the package that it is in. Nothing in a package imports
what is in tools/, but a benchmark, which measures with tools/paired.py.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from workspace import ROOT, Package, packages, parse, place, report

MAY_IMPORT = {
    "ds_core": set[str](),
    "ds_cnn": {"ds_core"},
    "ds_rnn": {"ds_core"},
    "ds_transformers": {"ds_core"},
    "ds_zoo": {"ds_core", "ds_cnn", "ds_rnn", "ds_transformers"},
}
IMPORT_BY_NAME = {"import_module", "__import__", "importorskip"}


def check(root: Path) -> Iterator[str]:
    tools = {path.stem for path in root.glob("tools/*.py")} | {"tools"}
    for package in packages(root):
        if package.module not in MAY_IMPORT:
            yield f"packages/{package.name}: tools/check_imports.py does not say what it may import"
            continue
        for path in package.files():
            benchmark = path.parent.name == "benchmarks"
            for line, fault in _faults(package, path, set() if benchmark else tools):
                yield f"{place(root, path, line)}: {fault}"


def _faults(package: Package, path: Path, tools: set[str]) -> Iterator[tuple[int, str]]:
    tree = parse(path)
    siblings = {}  # local name -> the module of another package that it stands for
    for node, module, names in _imports(tree):
        first = module.split(".")[0]
        if first in tools and not (path.parent / f"{first}.py").exists():
            yield node.lineno, f"imports {module} of tools/, which no package may"
        if first not in MAY_IMPORT or first == package.module:
            continue
        if first not in MAY_IMPORT[package.module]:
            yield node.lineno, f"{package.module} imports {module}, which its place in the house forbids"
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


def _imports(tree: ast.Module) -> Iterator[tuple[ast.stmt | ast.Call, str, list[str]]]:
    """Every absolute import: the node, the module, the names taken from it; imports by a constant string too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name, []
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node, node.module, [alias.name for alias in node.names]
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


if __name__ == "__main__":
    sys.exit(report("imports", check, ROOT))
