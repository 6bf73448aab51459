"""Moved axes as single operations for the compiler, which would trace how einops reads each pattern.

Theory: docs/compile_step.md.
"""

import einops
import torch


def trace_einops_whole() -> None:
    """Let `torch.compile` take `rearrange`, `repeat` and `reduce` as they are, from now on.

    The graph is the same. Without this the compiler follows the parser of patterns call by call, which is more than
    half of the time it takes to trace a Transformer.
    """
    for function in (einops.rearrange, einops.repeat, einops.reduce):
        torch.compiler.allow_in_graph(function)  # type: ignore[no-untyped-call]
