r"""The theory pages against the code: docs/conv2d.md explains src/ds_cnn/conv2d.py, with the same equation numbers.

Pages and tests may stand in folders: the test of what docs/minigpt/model.md explains is tests/minigpt/test_model.py.

- Every source file with mathematics has a page, by its name (whatever folder it is in) or as its docstring names it
  (`Theory: docs/linear.md`), and every page that a docstring names is there. Mathematics is a function `..._backward`,
  a method `step`, an optimizer's `update` or `direction`, a schedule's `rate` or `factor`, and a method `backward`
  that accumulates or calls `self.saved()`.
- Every equation number that a comment of the code cites, `(3)`, or `(3) of tanh.md`, stands on the page, as a `\tag{3}`
  or at a line's end; no page numbers an equation that neither the code nor its own text cites.
- The page has a section "Worked example" (but for `NO_EXAMPLE`), and every decimal number in it stands in
  `test_worked_example` of the tests of that file. Whether the test asserts it or merely mentions it is left
  to the reader.
- Every fast function has its plain one (tools/plain_pairs.py).
- Every link from one file of the repository to another leads somewhere, and docs/README.md, if there is one, to every
  page.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

import plain_pairs
from workspace import ROOT, Package, location, packages, parse, report

NAMED_PAGE = re.compile(r"docs/([\w/]+\.md)")
CITED = re.compile(r"\((\d{1,2})\)(?: of (?:docs/)?(\w+\.md))?")
TAG = re.compile(r"\\tag\{(\d+)\}")
LINE_END = re.compile(r"\((\d{1,2})\)\s*\$*\s*$", re.MULTILINE)
HEADING = re.compile(r"^#+ .*worked.*example.*$", re.MULTILINE | re.IGNORECASE)
DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+")
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)[^)]*\)")
WORKED = "test_worked_example"
# Methods that say a formula, by the folder they are in: an optimizer's, a schedule's
FORMULAS = {"optimizers": {"step", "update", "direction"}, "schedules": {"step", "rate", "factor"}}
# Their pages need no worked example that is held number by number. The first three hand gradients or steps on and have
# no formula of their own; the tests of the last assert the results of its examples, not each step on the way.
NO_EXAMPLE = {
    "ds-core/src/ds_core/interop/from_torch.py",
    "ds-core/src/ds_core/interop/torch_optimizer.py",
    "ds-core/src/ds_core/engine/recompute.py",
    "ds-zoo/src/ds_zoo/minigpt/model.py",
}


def check(root: Path) -> Iterator[str]:
    for package in packages(root):
        cited: dict[Path, set[int]] = {}
        for path in package.files("src"):
            yield from _source(root, package, path, cited)
            yield from _plain_pairs(root, package, path)
        pages = sorted((package.folder / "docs").rglob("*.md"))
        for page in pages:
            yield from _page(root, page, cited.get(page, set()))
        yield from _index(root, package.folder / "docs" / "README.md", pages)
        for page in [*package.folder.glob("*.md"), *pages]:
            yield from _links(root, page)
    yield from _links(root, root / "README.md")


def _source(root: Path, package: Package, path: Path, cited: dict[Path, set[int]]) -> Iterator[str]:
    """What is wrong with a source file's page; adds the equations that it cites to `cited`."""
    tree = parse(path)
    inside = path.relative_to(package.source)
    named = NAMED_PAGE.findall(ast.get_docstring(tree) or "")
    pages = [package.folder / "docs" / name for name in named or [f"{path.stem}.md"]]
    mathematics = _has_mathematics(tree, FORMULAS.get(inside.parts[0], {"step"})) and "testing" not in inside.parts
    missing = [page for page in pages if not page.exists()] if named or mathematics else []
    for page in missing:
        yield f"{location(root, path)}: its page {location(root, page)} is not there"
    example = path.relative_to(root / "packages").as_posix() not in NO_EXAMPLE
    if mathematics and example and pages[0].exists():
        yield from _worked_example(root, package, path, pages[0])
    for line, number, other in _citations(path):
        page = pages[0].with_name(other) if other else pages[0]
        cited.setdefault(page, set()).add(number)
        if page not in missing and not (page.exists() and number in _numbered(page)):
            yield f"{location(root, path, line)}: cites equation ({number}), not on {location(root, page)}"


def _plain_pairs(root: Path, package: Package, path: Path) -> Iterator[str]:
    """What speed itself is made of, and what tests it, needs no plain form."""
    if not {"speed", "testing"} & set(path.relative_to(package.source).parts):
        for line, fault in plain_pairs.faults(parse(path)):
            yield f"{location(root, path, line)}: {fault}"


def _page(root: Path, page: Path, cited: set[int]) -> Iterator[str]:
    text = page.read_text("utf-8")
    tags = [int(number) for number in TAG.findall(text)]
    if tags != sorted(set(tags)):
        yield f"{location(root, page)}: equation numbers repeat or are out of order: {tags}"
    mentioned = {int(number) for number, _ in CITED.findall(text)}
    for number in sorted(set(tags) - mentioned - cited):
        yield f"{location(root, page)}: equation ({number}) is cited nowhere"


def _index(root: Path, index: Path, pages: Sequence[Path]) -> Iterator[str]:
    if not index.exists():  # a package of a few pages has its README to list them
        return
    linked = {(index.parent / link).resolve() for link in LINK.findall(index.read_text("utf-8"))}
    for page in pages:
        if page != index and page.resolve() not in linked:
            yield f"{location(root, index)}: has no link to {page.relative_to(index.parent)}"


def _links(root: Path, page: Path) -> Iterator[str]:
    if page.exists():
        for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1):
            for link in LINK.findall(line):
                if not (page.parent / link).exists():
                    yield f"{location(root, page, number)}: links to {link}, which is not there"


def _has_mathematics(tree: ast.Module, formulas: set[str]) -> bool:
    """Whether it holds a function `..._backward` or `..._with_slope`, or one of these methods that does something."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    methods = [node for owner in classes for node in owner.body if isinstance(node, ast.FunctionDef)]
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    backwards = [ast.unparse(node) for node in methods if node.name == "backward"]
    if any("accumulate(" in text or "self.saved()" in text for text in backwards):
        return True
    return any(node.name in formulas and not _is_abstract(node) for node in methods) or any(
        node.name.endswith(("_backward", "_with_slope")) and not node.name.startswith("_") for node in functions
    )


def _is_abstract(method: ast.FunctionDef) -> bool:
    """Whether it is left to a subclass: `...`, or an error."""
    return isinstance(method.body[-1], ast.Raise) or ast.unparse(method.body[-1]) == "..."


def _citations(path: Path) -> Iterator[tuple[int, int, str]]:
    """Line, number and other page of each equation that a comment cites."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
        if token.type == tokenize.COMMENT:
            for number, other in CITED.findall(token.string):
                yield token.start[0], int(number), other


def _numbered(page: Path) -> set[int]:
    text = page.read_text("utf-8")
    return {int(number) for number in [*TAG.findall(text), *LINE_END.findall(text)]}


def _worked_example(root: Path, package: Package, path: Path, page: Path) -> Iterator[str]:
    text = page.read_text("utf-8")
    heading = HEADING.search(text)
    if heading is None:
        yield f"{location(root, page)}: has no worked example"
        return
    level = len(heading[0]) - len(heading[0].lstrip("#"))
    section = re.split(rf"^#{{1,{level}}} ", text[heading.end() :], maxsplit=1, flags=re.MULTILINE)[0]
    numbers = DECIMAL.findall(section)
    inside = page.relative_to(package.folder / "docs").parent
    test = package.folder / "tests" / inside / f"test_{path.stem}.py"
    tested = _numbers_tested(test)
    if tested is None:
        fault = f"has no {WORKED}" if test.exists() else f"is not there, with a {WORKED}"
        yield f"{location(root, test)}: {fault}, which recomputes the one of {location(root, page)}"
        return
    for number in dict.fromkeys(numbers):
        half_a_digit = 0.5 * 10 ** -len(number.split(".")[1])
        if not any(abs(abs(value) - float(number)) <= half_a_digit * 1.001 for value in tested):
            yield f"{location(root, page)}: {number} of the worked example is not in {WORKED} of {location(root, test)}"


def _numbers_tested(test: Path) -> list[float] | None:
    """The numbers written in `test_worked_example...`, or None if there is no such test."""
    if not test.exists():
        return None
    functions = [
        node for node in ast.walk(parse(test)) if isinstance(node, ast.FunctionDef) and node.name.startswith(WORKED)
    ]
    if not functions:
        return None
    constants = [node.value for function in functions for node in ast.walk(function) if isinstance(node, ast.Constant)]
    return [float(value) for value in constants if isinstance(value, (int, float)) and not isinstance(value, bool)]


if __name__ == "__main__":
    sys.exit(report("docs", check, ROOT))
