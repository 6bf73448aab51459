"""Every fast function has a plain one: its equations in a few lines, linked by `@fast_form(plain_...)` (docs/plain.md).

- Linked is each function marked `@compilable`, and each function of a pair, `gelu` and `gelu_backward` or
  `gelu_with_slope`, that calls what is there for speed (`SPEED`) or writes into an `out`, itself or through another
  function of its file.
- The plain function stands above the fast one, or is imported, and has nothing of that.
- An optimizer with a fast `direction` has an `update` that calls its plain function.
"""

import ast
from collections.abc import Iterator

Function = ast.FunctionDef

SPEED = {"chunks", "compilable", "elementwise", "exponential", "reuse", "widened"}
PARTNERS = ("_backward", "_with_slope", "_with_slopes")


def faults(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of each."""
    functions = {node.name: node for node in tree.body if isinstance(node, Function)}
    imported = {
        alias.asname or alias.name: node.lineno
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for name, function in functions.items():
        plain = _linked(function)
        if name.startswith(("_", "plain_")):
            continue
        if plain is not None:
            above = functions[plain].lineno if plain in functions else imported.get(plain)
            if not plain.startswith("plain_"):
                yield function.lineno, f"{name} is linked to {plain}, expected the name of a plain function, plain_..."
            elif above is None or above > function.lineno:
                yield function.lineno, f"{plain}, the plain form of {name}, does not stand above it"
            for line, used in _speed(functions[plain]) if plain in functions else ():
                yield line, f"{plain} is a plain function and has {used}"
        elif _marked(function, "compilable"):
            yield function.lineno, f"{name} is compilable and has no plain form: @fast_form(plain_{name})"
        elif _in_pair(name, functions):
            for line, used in _reached(function, functions):
                yield function.lineno, f"{name} has {used} (line {line}) and no plain form: @fast_form(plain_{name})"
                break
    yield from _optimizers(tree)


def _linked(function: Function) -> str | None:
    """The name of the plain function that it is linked to."""
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "fast_form":
            return ast.unparse(decorator.args[0])
    return None


def _marked(function: Function, name: str) -> bool:
    return any(ast.unparse(decorator) == name for decorator in function.decorator_list)


def _in_pair(name: str, functions: dict[str, Function]) -> bool:
    return name.endswith(PARTNERS) or any(f"{name}{partner}" in functions for partner in PARTNERS)


def _speed(function: Function) -> Iterator[tuple[int, str]]:
    """Line and name of what is there for speed in its body."""
    for node in (node for statement in function.body for node in ast.walk(statement)):
        if isinstance(node, ast.Name) and node.id in SPEED:
            yield node.lineno, node.id
        elif isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg == "out" and ast.unparse(keyword.value) != "None":
                    yield node.lineno, "out="


def _reached(function: Function, functions: dict[str, Function]) -> Iterator[tuple[int, str]]:
    """`_speed` of it and of every function of the file that it calls, except those that are looked at by themselves."""
    waiting = [function]
    for one in waiting:
        yield from _speed(one)
        for node in ast.walk(one):
            called = functions.get(node.id) if isinstance(node, ast.Name) else None
            if called is None or called in waiting or _linked(called):
                continue
            if called.name.startswith("_") or not _in_pair(called.name, functions):
                waiting.append(called)


def _optimizers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for owner in tree.body:
        methods = {node.name: node for node in getattr(owner, "body", []) if isinstance(node, Function)}
        if not isinstance(owner, ast.ClassDef) or "direction" not in methods:
            continue
        if isinstance(methods["direction"].body[-1], ast.Raise):
            continue  # a base class
        calls = ast.unparse(methods["update"]) if "update" in methods else ""
        if "plain_" not in calls:
            yield owner.lineno, f"{owner.name} has a fast direction and no update(...) that calls its plain function"
