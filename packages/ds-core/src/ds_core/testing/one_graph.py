"""`one_graph`: a function of tensors compiles, and is compiled once. Theory: docs/testing.md."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.nested_values import map_leaves
from ds_core.speed.traced_einops import trace_einops_whole
from ds_core.testing.failure import CheckFailed, name_of


def one_graph(
    step: Callable[..., Any], *, dynamic: bool = False, graphs: int = 1, backend: Any = "aot_eager"
) -> Callable[..., Any]:
    """`step` compiled by `torch.compile(fullgraph=True)`; a call that has to compile it once more fails.

        compiled = one_graph(step, dynamic=True)
        for x in (torch.randn(3, 4), torch.randn(5, 6)):
            torch.testing.assert_close(compiled(x), step(x))

    Args:
        step: what is compiled; a Python `if` on a tensor's values splits the graph, and raises.
        dynamic: whether the sizes of the given tensors may change from call to call. Those of the parameters may not.
        graphs: how often it may be compiled, for arguments that must be constants of a graph.
        backend: `"aot_eager"` traces down to primitive operations and runs these as they are, in seconds.
            `"inductor"` generates code, and needs a C++ compiler.

    Raises:
        CheckFailed: by the compiled function, at a call for which it was compiled anew.
    """
    from torch._dynamo.utils import counters  # takes seconds to import, and most checks compile nothing

    torch._dynamo.reset()  # all closures of one function share a count of compilations, which has a limit
    trace_einops_whole()
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    found = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal found
        if dynamic:
            map_leaves(_free_sizes, [*args, *kwargs.values()])
        before = counters["stats"]["unique_graphs"]
        results = compiled(*args, **kwargs)
        found += counters["stats"]["unique_graphs"] - before
        if found > graphs:
            raise CheckFailed(name_of(step), "one graph", f"compiled {found} times up to this call, expected {graphs}")
        return results

    return call


def _free_sizes(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        torch._dynamo.maybe_mark_dynamic(leaf, list(range(leaf.dim())))
    return leaf
