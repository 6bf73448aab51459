"""No black boxes, by measurement: the operations that count as primitive, and a guard that lets no other run.

Theory and limits: docs/primitives.md.
"""

import os
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ds_core.engine.trace import describe


class Group(NamedTuple):
    """Primitive operations of one kind, and why they are primitive."""

    reason: str
    operations: frozenset[str]


def _group(reason: str, operations: str) -> Group:
    return Group(reason, frozenset(operations.split()))


# Names of aten packets, without a trailing underscore (`add_` is `add`) and without overload.
PRIMITIVES: dict[str, Group] = {
    "elementwise": _group(
        "one formula of arithmetic or of a school calculator, number by number",
        """add sub mul div neg reciprocal rsub pow abs sign exp exp2 expm1 log log1p sqrt rsqrt sin cos erf
        floor floor_divide remainder addcmul addcdiv lerp""",
    ),
    "choice and logic": _group(
        "picks or compares numbers, element by element",
        """eq ne lt le gt ge where minimum maximum clamp clamp_min clamp_max
        logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_not
        bitwise_left_shift bitwise_right_shift any all isnan isinf equal""",
    ),
    "products": _group("sums of products, nothing else", "mm bmm mv dot addmm addmv baddbmm"),
    "reductions": _group(
        "one number out of many by a single named rule",
        "sum mean amax amin max min argmax argmin cumsum prod",
    ),
    "sorting": _group("order, with no arithmetic", "sort topk searchsorted"),
    "indexing": _group(
        "reads or writes numbers at given indices; the adjoint of reading is adding",
        """index index_put index_select index_add index_copy gather scatter scatter_add scatter_reduce
        nonzero bincount""",
    ),
    "views and copies": _group(
        "moves or repeats numbers and changes none",
        """view select slice split split_with_sizes unbind permute transpose t expand unsqueeze squeeze diagonal
        as_strided unfold clone copy cat stack flip roll repeat masked_fill fill zero tril triu""",
    ),
    "writes into views": _group(
        "what `x[...] = y` becomes in a compiled graph, where nothing is changed in place",
        "slice_scatter select_scatter diagonal_scatter as_strided_scatter",
    ),
    "creation": _group(
        "new tensors of given numbers",
        """empty zeros ones full arange eye empty_like zeros_like ones_like full_like empty_strided
        new_empty new_zeros new_ones new_full new_empty_strided""",
    ),
    "random": _group(
        "draws from one named distribution",
        "rand randn randint randperm rand_like randn_like randint_like random bernoulli uniform normal multinomial",
    ),
    "plumbing": _group(
        "asks for a size or number, or hands the same numbers over in another type or on another device",
        """lift_fresh scalar_tensor _to_copy _unsafe_view _reshape_alias _local_scalar_dense detach alias
        is_same_size sym_size sym_stride sym_numel sym_storage_offset""",
    ),
}

# Functions that the operations they run would not give away.
COMPOSED = _group(
    "PyTorch composes them of primitive operations, so they are known by name",
    """dropout alpha_dropout feature_dropout feature_alpha_dropout rms_norm kl_div hinge_embedding_loss
    margin_ranking_loss cosine_embedding_loss triplet_margin_loss poisson_nll_loss
    cov corrcoef trapz trapezoid matrix_power chain_matmul""",
)

_ALLOWED = frozenset[str]().union(*(group.operations for group in PRIMITIVES.values()))
_OUR_FILE = os.path.abspath(__file__)
_TORCH_FOLDER = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep


# What a primitive operation becomes in a compiled graph: `addcmul` with a factor is a multiplication and an addition.
_DECOMPOSED = frozenset({("prims", "fma")})


class BlackBoxError(RuntimeError):
    """An operation ran, or stands in a graph, that is not on the list of primitives."""


def is_primitive(name: str) -> bool:
    """Whether an aten packet name such as `add_`, `_foreach_mul_` or `mm` is on the list.

    `_foreach_` applies one operation to a list of tensors, so it counts as that operation.
    """
    return name.removeprefix("_foreach_").removesuffix("_") in _ALLOWED


@contextmanager
def primitives_only() -> Iterator[Counter[str]]:
    """Let only primitive operations run; gives a Counter of the names of those that did.

        with primitives_only() as ran, record():
            loss = criterion(model(x), y)
            model.backward(criterion.backward())
        print(ran.most_common(3))       # [('mul', 40), ('view', 32), ('mm', 18)]

    Around the handwritten engine in eager mode. Compiled graphs run no operation that
    could be seen here: `check_graph` looks at them instead. Autograd's own backward is
    not handwritten and raises.

    Raises:
        BlackBoxError: from the line that ran any other operation, naming the operation, the line and the layer.
        RuntimeError: under `torch.inference_mode`, which dispatches composite operations whole.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError("primitives_only() under torch.inference_mode(): use no_record() and leave that out")
    guard = _Guard()
    with guard, _FunctionGuard():
        yield guard.ran


class _FunctionGuard(TorchFunctionMode):
    """Sees functions by name, before they dissolve into operations."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        module, name = getattr(func, "__module__", None) or "", getattr(func, "__name__", "")
        # a method of Tensor has no module
        is_composed = module in ("torch", "") and name.removesuffix("_") in COMPOSED.operations
        if is_composed or module.startswith(("torch.nn.", "torch._C._nn")):
            raise BlackBoxError(f"{module}.{name} ran {_origin()}: {_ADVICE}")
        return func(*args, **(kwargs or {}))


class _Guard(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ran: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        namespace, name = _packet(func)
        if namespace == "profiler":  # labels, as torch.optim sets them: no tensor is touched
            return func(*args, **(kwargs or {}))
        if namespace != "aten" or not is_primitive(name):
            raise BlackBoxError(f"{namespace}.{name} ran {_origin()}: {_ADVICE}")
        self.ran[name.removesuffix("_")] += 1
        return func(*args, **(kwargs or {}))


_ADVICE = "not a primitive operation, so its formula is hidden; write it out in those of ds_core.primitives.PRIMITIVES"


def check_graph(graph_module: fx.GraphModule) -> Counter[str]:
    """Check every operation of an aten graph, such as a compiler's backend is given, against the same list.

    Python's own functions on sizes and tuples (`operator.getitem`) are let through. Graphs inside it are checked too.

    Returns:
        Counter of the names that stand in the graph.

    Raises:
        BlackBoxError: naming each node whose operation is not primitive, and the line it came from where known.
        TypeError: where the graph is not an aten graph (Dynamo's own graph holds calls of torch functions
            and methods: compile with `torch._dynamo.backends.common.aot_autograd(fw_compiler=...)`).
    """
    found: Counter[str] = Counter()
    faults = []
    for module in graph_module.modules():
        for node in module.graph.nodes if isinstance(module, fx.GraphModule) else []:
            if node.op in ("call_method", "call_module"):
                raise TypeError(f"check_graph: node {node.name} ({node.op} {node.target}) stands in no aten graph")
            if node.op != "call_function" or _is_python(node.target):
                continue
            namespace, name = _packet(node.target)
            if (namespace == "aten" and is_primitive(name)) or (namespace, name) in _DECOMPOSED:
                found[name.removesuffix("_")] += 1
            else:
                faults.append(f"{namespace}.{name} at node {node.name}{_source_line(node)}")
    if faults:
        raise BlackBoxError("; ".join(faults) + f": {_ADVICE}")
    return found


def _packet(operation: Any) -> tuple[str, str]:
    """Namespace and packet name of an operator, whatever its overload."""
    if isinstance(operation, torch._ops.OpOverload):
        namespace, name, _ = str(operation).split(".")
        return namespace, name
    if isinstance(operation, torch._ops.HigherOrderOperator):
        return "higher_order", str(operation)
    raise TypeError(f"check_graph: {operation!r} stands in no aten graph")


def _is_python(target: Any) -> bool:
    """Arithmetic on sizes and picking from tuples: Python's operators, `math` and torch's symbolic forms of them."""
    is_symbolic = getattr(target, "__module__", None) == "torch" and target.__name__.startswith("sym_")
    return is_symbolic or getattr(target, "__module__", None) in ("_operator", "builtins", "math")


def _source_line(node: fx.Node) -> str:
    lines = [line.strip() for line in (node.stack_trace or "").splitlines()]
    lines = [line for line in lines if line.strip("^~ ")]
    return f", from {' '.join(lines[-2:])}" if lines else ""


def _origin() -> str:
    """Where the operation was called: the innermost line outside torch and this file, and the layer around it."""
    frame: types.FrameType | None = sys._getframe(1)
    line = layer = None
    while frame is not None and layer is None:
        path = os.path.abspath(frame.f_code.co_filename)
        if line is None and path != _OUR_FILE and not path.startswith(_TORCH_FOLDER):
            line = f"at {path}:{frame.f_lineno} in {frame.f_code.co_name}"
        owner = frame.f_locals.get("self")
        if line is not None and hasattr(owner, "forward") and hasattr(owner, "backward"):
            layer = f", layer {describe(owner)}"
        frame = frame.f_back
    return f"{line or 'at an unknown line'}{layer or ''}"
