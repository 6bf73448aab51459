"""The ways to break a formula: each mutant is a function in which one operation, term, sign or number is another."""

import ast
import copy
from collections.abc import Iterator
from typing import NamedTuple

SWAPPED: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.Div(),
    ast.Div: ast.Mult(),
    ast.Pow: ast.Mult(),
}
# Methods and functions of torch, each with what takes the same arguments and computes something else.
CALLED = {"add": "sub", "sub": "add", "mul": "div", "div": "mul", "addcmul": "addcdiv", "addcdiv": "addcmul"}
CALLED |= {
    "exp": "neg",
    "exp2": "neg",
    "log": "neg",
    "sqrt": "square",
    "rsqrt": "sqrt",
    "reciprocal": "neg",
    "sum": "amax",
}
CALLED |= {"mean": "sum", "amax": "amin", "maximum": "minimum", "clamp_min": "clamp_max", "abs": "neg", "sign": "abs"}
# What says how something is computed rather than what: an `out`, a message, a look at the engine.
PASSED_OVER = (ast.Raise, ast.JoinedStr, ast.Assert)
FUNCTIONS_PASSED_OVER = ("__", "_check", "check", "extra_repr")


class Mutant(NamedTuple):
    """A file with one mistake in it."""

    line: int
    before: str
    after: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of the functions in `source`, in the order of their lines."""
    tree = ast.parse(source)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and not function.name.startswith(FUNCTIONS_PASSED_OVER):
            for statement in function.body:
                for node in _formulas(statement):
                    for changed in _changes(node):
                        yield _mutant(tree, node, changed)


def _formulas(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below that may be part of a formula; functions inside are taken by themselves."""
    if isinstance(node, (*PASSED_OVER, ast.FunctionDef, ast.Lambda)):
        return
    yield node
    for name, field in ast.iter_fields(node):
        if name in ("test", "annotation", "slice"):  # which branch is taken is no formula, nor is an index
            continue
        for child in field if isinstance(field, list) else [field]:
            if isinstance(child, ast.AST):
                yield from _formulas(child)


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """What `node` may be replaced by."""
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPPED:
        yield ast.BinOp(node.left, SWAPPED[type(node.op)], node.right)
        yield node.left
        if isinstance(node.op, (ast.Add, ast.Mult)):
            yield node.right
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node.operand
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        ending = "_" * node.func.attr.endswith("_")
        other = CALLED.get(node.func.attr.removesuffix("_"))
        if other is not None:
            changed = copy.deepcopy(node)
            assert isinstance(changed.func, ast.Attribute)
            changed.func.attr = other + ending
            yield changed
    elif isinstance(node, ast.keyword) and node.arg in ("value", "alpha", "beta"):
        yield ast.keyword(node.arg, ast.UnaryOp(ast.USub(), node.value))
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _is_gradient(node.targets[0].id):
        yield ast.Assign(node.targets, _negated(node.value), lineno=node.lineno)


def _is_gradient(name: str) -> bool:
    return name.startswith("d") and name not in ("dim", "dims", "dtype", "device", "denominator", "dys")


def _negated(value: ast.expr) -> ast.expr:
    if isinstance(value, ast.IfExp):
        return ast.IfExp(value.test, _negated(value.body), value.orelse)
    return ast.UnaryOp(ast.USub(), value)


def _mutant(tree: ast.Module, node: ast.AST, changed: ast.AST) -> Mutant:
    whole = _replaced(tree, node, changed)
    line = getattr(node, "lineno", getattr(getattr(node, "value", None), "lineno", 0))
    return Mutant(line, ast.unparse(node), ast.unparse(changed), ast.unparse(ast.fix_missing_locations(whole)))


def _replaced(tree: ast.Module, node: ast.AST, changed: ast.AST) -> ast.Module:
    class Replacer(ast.NodeTransformer):
        def generic_visit(self, found: ast.AST) -> ast.AST:
            return copy.deepcopy(changed) if found is node else super().generic_visit(found)

    # generic_visit writes into the tree, so that it is given a copy that shares only the node looked for
    replaced = Replacer().visit(copy.deepcopy(tree, {id(node): node}))
    assert isinstance(replaced, ast.Module)
    return replaced
