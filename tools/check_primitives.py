"""No black boxes in the sources: no torch.nn, no torch.optim, no autograd, no ready-made function or method of torch.

`primitives_only()` holds the same list against what runs; this reads what stands there, run or not. Names are
followed through imports and aliases. Of torch's functions only those named here or primitive may be called, so
a new one is refused; of the methods of tensors every other one is refused, so a layer that is called like one
(`block.dropout(x)`) is called by its `forward`. The bridge to torch.nn and the oracle are exempt.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from ds_core.primitives import is_primitive
from workspace import ROOT, location, packages, parse, report

EXEMPT = re.compile(r"packages/ds-core/src/ds_core/(interop|testing)(/.+)?\.py")
# What one file alone may use. Orthogonal initialisation takes a QR from torch; `record()` refuses torch.nn's modules.
EXCEPTIONS = {
    "packages/ds-core/src/ds_core/initializers/orthogonal.py": "torch.linalg.qr",
    "packages/ds-core/src/ds_core/engine/foreign.py": "torch.nn.modules.module.register_module_forward_pre_hook",
}
BLACK_BOXES = {"nn", "optim", "autograd", "functional"}
BLACK_BOX_NAME = re.compile(r"torch\.(nn|optim|autograd)(\.\w+)*$")
FOREIGN = {"functorch", "torchvision", "torchaudio", "transformers", "timm", "jax", "tensorflow", "keras"}


def _words(text: str) -> set[str]:
    return set(text.split())


# Parts of torch that compute nothing themselves: devices, processes, the compiler.
MODULES = _words(
    "accelerator backends compiler cuda distributed fx mps overrides profiler random types utils version xpu"
)
TYPES = {"torch._ops.OpOverload", "torch._ops.HigherOrderOperator"}  # what an operation is, not what it does

# Functions that ask, set, create or convert, and those that are primitives under another name or a view of them.
FUNCTIONS = _words(
    """tensor as_tensor asarray from_numpy frombuffer compile no_grad enable_grad set_grad_enabled is_grad_enabled
    inference_mode is_inference_mode_enabled manual_seed initial_seed get_rng_state set_rng_state default_generator
    get_num_threads set_num_threads use_deterministic_algorithms are_deterministic_algorithms_enabled
    get_default_dtype get_default_device is_tensor is_floating_point is_complex promote_types result_type can_cast
    autocast is_autocast_enabled get_autocast_dtype set_float32_matmul_precision get_float32_matmul_precision
    typename get_device_module numel broadcast_shapes
    broadcast_tensors broadcast_to reshape narrow chunk flatten unflatten movedim ravel concat concatenate vstack hstack
    atleast_1d atleast_2d atleast_3d unravel_index matmul outer square subtract multiply divide clip argsort isfinite
    absolute greater less not_equal tile meshgrid"""
)
METHODS = FUNCTIONS | _words(
    """size dim ndimension nelement stride storage_offset untyped_storage data_ptr element_size is_contiguous
    contiguous get_device to type type_as float double half bfloat16 int long short byte char bool cpu cuda item
    tolist new_tensor requires_grad_ retain_grad register_hook register_post_accumulate_grad_hook backward
    is_pinned pin_memory share_memory_ record_stream is_inference reshape_as view_as expand_as
    index_fill index_fill_ swapaxes swapdims moveaxis square_ clip_"""
)
COMMON_ELSEWHERE = _words(
    "new values indices take put mode unique trace map_ apply_ numpy"
)  # as methods of dict and such
READY_MADE = (
    {
        name
        for name in dir(torch.Tensor)
        if callable(getattr(torch.Tensor, name)) and not name.startswith("_") and not is_primitive(name)
    }
    - METHODS
    - COMMON_ELSEWHERE
)


def check(root: Path) -> Iterator[str]:
    for package in packages(root):
        for path in package.files("src"):
            if EXEMPT.fullmatch(location(root, path)):
                continue
            excepted = f"{EXCEPTIONS.get(location(root, path))}:"
            for line, fault in sorted(set(_faults(parse(path)))):
                if not fault.startswith(excepted):
                    yield f"{location(root, path, line)}: {fault}"


def _faults(tree: ast.Module) -> Iterator[tuple[int, str]]:
    names = _imported(tree)
    followed = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    mathematics = any(isinstance(node, ast.FunctionDef) and _is_mathematics(node.name) for node in ast.walk(tree))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for path in _paths(node):
                if path.split(".")[0] == "torch":
                    yield from _at(node, _refused(path))
                elif path.split(".")[0] in FOREIGN:
                    yield node.lineno, f"imports {path}"
                elif path.split(".")[0] == "numpy" and mathematics:
                    yield node.lineno, "numpy in a file with a forward or backward pass: no guard sees what it does"
        elif isinstance(node, (ast.Name, ast.Attribute)) and id(node) not in followed:
            name = _dotted(node, names) or ""
            if name == "torch":
                yield node.lineno, "torch handed on as a value: what is taken from it cannot be seen"
            elif name.startswith("torch."):
                yield from _at(node, _refused(name))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and BLACK_BOX_NAME.match(node.value):
            yield node.lineno, f'"{node.value}" by name'
        if isinstance(node, ast.Call):
            yield from _call(node, names, mathematics)


def _call(node: ast.Call, names: dict[str, str], mathematics: bool) -> Iterator[tuple[int, str]]:
    function = node.func
    if (isinstance(function, ast.Name) and function.id == "getattr") or ast.unparse(function).endswith("methodcaller"):
        for argument in node.args:
            if isinstance(argument, ast.Constant) and argument.value in READY_MADE:
                yield node.lineno, f'the ready-made "{argument.value}" by name'
    if not isinstance(function, ast.Attribute):
        return
    if function.attr == "numpy" and mathematics:
        yield node.lineno, ".numpy() in a file with a forward or backward pass: no guard sees what follows"
    owner = function.value
    own_or_module = isinstance(owner, ast.Name) and (owner.id in {"self", "cls"} or owner.id in names)
    own_or_module = own_or_module or (isinstance(owner, ast.Attribute) and _dotted(owner, names) is not None)
    if function.attr in READY_MADE and not own_or_module:
        yield node.lineno, f"the ready-made method .{function.attr}()"


def _refused(path: str) -> str | None:
    """Why this dotted name of torch may not stand in a source, or None."""
    parts = path.split(".")[1:]
    if path in TYPES:
        return None
    if BLACK_BOXES & set(parts) or path.endswith("*"):
        return f"{path}: a black box"
    if parts[:1] == ["Tensor"]:
        return f"{path}: a ready-made method" if len(parts) > 1 and parts[1] in READY_MADE else None
    if not parts or parts[0] in MODULES or parts[0] in FUNCTIONS or is_primitive(parts[0]):
        return f"{path}: runs autograd" if parts[:2] == ["utils", "checkpoint"] else None
    value = getattr(torch, parts[0], None)
    if isinstance(value, (torch.dtype, torch.layout, torch.memory_format, float, str)):
        return None
    if value in (torch.Size, torch.Generator, torch.device, torch.dtype, torch.finfo, torch.iinfo, torch.SymInt):
        return None
    return f"{path}: not a primitive, so written by hand or named in tools/check_primitives.py"


def _at(node: ast.stmt | ast.expr, fault: str | None) -> Iterator[tuple[int, str]]:
    if fault is not None:
        yield node.lineno, fault


def _paths(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [] if node.level else [f"{node.module}.{alias.name}" for alias in node.names]


def _imported(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for: `import torch.nn as n` gives {"n": "torch.nn"}."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{'.' * node.level}{node.module or ''}.{alias.name}"
    return names


def _dotted(node: ast.expr, names: dict[str, str]) -> str | None:
    """The full name behind `F.relu`, if it starts at an imported name."""
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value, names)
        return None if owner is None else f"{owner}.{node.attr}"
    return names.get(node.id) if isinstance(node, ast.Name) else None


def _is_mathematics(name: str) -> bool:
    return name in {"forward", "backward", "step"} or name.endswith("_backward")


if __name__ == "__main__":
    sys.exit(report("primitives", check, ROOT))
