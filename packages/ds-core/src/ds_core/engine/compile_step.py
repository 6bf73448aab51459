"""A whole training step as one compiled graph, from forward to the optimizer. Theory: docs/compile_step.md."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.compiled import has_compiler
from ds_core.optimizers.clipping import clip_grad_norm_
from ds_core.training.gradients import Pair, add_gradients

Step = Callable[[Sequence[Pair]], tuple[Tensor, Tensor | None]]


def whole_step(model: Any, criterion: Any, optimizer: Any, *, clip_norm: float | None = None) -> Step:
    """The step as a plain function: micro-batches `[(inputs, target), ...]` -> (mean loss, gradient norm or None)."""

    def step(batches: Sequence[Pair]) -> tuple[Tensor, Tensor | None]:
        loss = add_gradients(model, criterion, batches)
        norm = None if clip_norm is None else clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss, norm

    return step


def compile_step(model: Any, criterion: Any, optimizer: Any, *, clip_norm: float | None = None) -> Step:
    """`whole_step` compiled with `torch.compile(fullgraph=True)`; without a C++ compiler, the eager step and a warning.

    Nothing that changes from step to step may be a Python number, which would be a constant of the
    graph: every `group["lr"]` becomes a 0-dim tensor, which a schedule fills in place, and the optimizer makes its
    state beforehand. The first call compiles: seconds for an MLP, a minute for a deep Transformer.
    Needs `.grad` to be None before a step, as it is after one.
    """
    step = whole_step(model, criterion, optimizer, clip_norm=clip_norm)
    if not has_compiler():
        return step
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], Tensor):
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float64)
    if hasattr(optimizer, "prepare_compile"):
        optimizer.prepare_compile()
    optimizer.zero_grad()
    return torch.compile(step, fullgraph=True)
