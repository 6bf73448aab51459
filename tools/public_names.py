"""Names are imported from where they are exported: `from ds_core import Linear`, not from the file that it is in.

A package, and a folder of it, exports what its `__init__` imports and names in `__all__`. Everybody else imports such a
name by the shortest path that exports it: other packages, tests, notebooks, benchmarks, tools and the examples of
Markdown pages. Deep paths are for what is not exported, and for a package's own sources.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from workspace import ROOT, location, packages, parse

# package or folder -> exported name -> what its __init__ imports it from: a module, and the name there
Exports = dict[str, dict[str, tuple[str, str]]]

IMPORTS_IN_TEXT = re.compile(r"^(?P<indent> *)(?:from|import) .*\n(?:(?P=indent)(?:from|import) .*\n)*", re.MULTILINE)


class Part(NamedTuple):
    """Python code: a whole file, or the imports of an example in a page."""

    start: int  # index of its first character in the file
    line: int  # number of its first line, from 1
    indent: str
    code: str


def exports(root: Path = ROOT) -> Exports:
    found: Exports = {}
    for package in packages(root):
        for path in package.source.rglob("__init__.py"):
            tree = parse(path)
            module = ".".join(path.relative_to(package.folder / "src").parts[:-1])
            names = {
                alias.asname or alias.name: (node.module or "", alias.name)
                for node in tree.body
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
            }
            found[module] = {name: names[name] for name in _all(tree) if name in names}
    return found


def _all(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def origin(exported: Exports, module: str, name: str) -> tuple[str, str]:
    """The file that a name comes from if it is imported from `module`, and what it is called there."""
    while name in exported.get(module, {}):
        module, name = exported[module][name]
    return module, name


def shortest(exported: Exports, module: str, name: str) -> str:
    """The shortest path in the package of `module` that exports the same thing under the same name, or `module`."""
    parts = module.split(".")
    for length in range(1, len(parts)):
        outer = ".".join(parts[:length])
        if name in exported.get(outer, {}) and origin(exported, outer, name) == origin(exported, module, name):
            return outer
    return module


def check(root: Path) -> Iterator[str]:
    exported = exports(root)
    for path, own in _files(root):
        for part in _parts(path):
            for node, moved in _too_deep(part.code, exported, own):
                for name, outer in moved.items():
                    line = part.line + node.lineno - 1
                    yield f"{location(root, path, line)}: imports {name} of {node.module}, which {outer} exports"


def fix(root: Path) -> Iterator[Path]:
    """Rewrite what `check` finds; the files that have changed."""
    exported = exports(root)
    for path, own in _files(root):
        text = path.read_text("utf-8")
        for part in reversed(list(_parts(path))):
            code = _rewritten(part.code, exported, own)
            if code != part.code:
                code = "".join(part.indent + line for line in _sorted(code, path).splitlines(keepends=True))
                text = text[: part.start] + code + text[part.start + len(part.code) + _indents(part) :]
        if text != path.read_text("utf-8"):
            path.write_text(text, "utf-8")
            yield path
            if path.parent.name == "notebooks" and path.suffix == ".py":
                from notebooks import take_over

                take_over(path)


def _files(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file that is looked at, with the package whose source it is, or nothing."""
    for package in packages(root):
        for path in package.files():
            yield path, package.module if path.is_relative_to(package.folder / "src") else ""
        yield from ((page, "") for page in sorted(package.folder.rglob("*.md")))
    yield from ((path, "") for path in sorted((root / "tools").rglob("*.py")))
    yield from ((page, "") for page in root.glob("*.md"))


def _parts(path: Path) -> Iterator[Part]:
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        yield Part(0, 1, "", text)
        return
    for found in IMPORTS_IN_TEXT.finditer(text):
        indent = found["indent"]
        code = "".join(line.removeprefix(indent) for line in found[0].splitlines(keepends=True))
        try:
            ast.parse(code)
        except SyntaxError:
            continue  # a sentence that begins with "from"
        yield Part(found.start(), text.count("\n", 0, found.start()) + 1, indent, code)


def _indents(part: Part) -> int:
    """How many characters of the file its code lacks."""
    return len(part.indent) * part.code.count("\n")


def _too_deep(code: str, exported: Exports, own: str) -> Iterator[tuple[ast.ImportFrom, dict[str, str]]]:
    """Each import by too long a path, with the names that have a shorter one and which."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0 and node.module.split(".")[0] != own:
            paths = {alias.name: shortest(exported, node.module, alias.name) for alias in node.names}
            moved = {name: outer for name, outer in paths.items() if outer != node.module}
            if moved:
                yield node, moved


def _rewritten(code: str, exported: Exports, own: str) -> str:
    lines = code.splitlines(keepends=True)
    for node, moved in sorted(_too_deep(code, exported, own), key=lambda found: -found[0].lineno):
        taken: dict[str, list[str]] = {}
        for alias in node.names:
            taken.setdefault(moved.get(alias.name, node.module or ""), []).append(ast.unparse(alias))
        statements = [f"from {module} import {', '.join(names)}" for module, names in taken.items()]
        last = node.end_lineno or node.lineno
        before, after = lines[node.lineno - 1][: node.col_offset], lines[last - 1][node.end_col_offset :]
        lines[node.lineno - 1 : last] = [before + f"\n{before}".join(statements) + after]
    return "".join(lines)


def _sorted(code: str, path: Path) -> str:
    """The code with its imports joined and sorted by ruff."""
    options = ["--select", "I", "--fix", "--quiet", "--stdin-filename", str(path.with_suffix(".py")), "-"]
    command = [sys.executable, "-m", "ruff", "check", *options]
    return subprocess.run(command, input=code, capture_output=True, text=True, check=True, cwd=path.parent).stdout
