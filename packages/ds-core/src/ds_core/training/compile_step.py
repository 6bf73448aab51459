"""A whole training step as one graph, from forward to the optimizer. Theory: docs/compile_step.md."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ds_core.optimizers.clipping import clip_grad_norm_
from ds_core.speed.compiled import has_compiler
from ds_core.training.gradients import Pair, backpropagate

Step = Callable[[Sequence[Pair]], tuple[Tensor, Tensor | None]]


class StepParts:
    """A step in three parts: the gradients, their clipping, and what the optimizer makes of them."""

    def __init__(self, model: Any, criterion: Any, optimizer: Any, clip_norm: float | None = None) -> None:
        self.model = model
        self.criterion = criterion
        self.optimizer = optimizer
        self.clip_norm = clip_norm

    def gradients(self, batches: Sequence[Pair], weights: Sequence[float] | None = None) -> Tensor:
        """Add to every `.grad`; see `backpropagate`. Returns the loss."""
        return backpropagate(self.model, self.criterion, batches, weights)

    def clip(self) -> Tensor | None:
        """The gradient norm before clipping, or None where nothing is clipped."""
        return None if self.clip_norm is None else clip_grad_norm_(self.model.parameters(), self.clip_norm)

    def update(self) -> None:
        """The optimizer's step; `.grad` is None afterwards."""
        self.optimizer.step()
        self.optimizer.zero_grad()


class CompiledParts(StepParts):
    """Gradients and update as a graph each; between them gradients can be looked at, or averaged over processes.

    One process is better off with `compile_step`. `.grad` has to be None before.
    """

    def __init__(self, model: Any, criterion: Any, optimizer: Any, clip_norm: float | None = None) -> None:
        super().__init__(model, criterion, optimizer, clip_norm)
        self._parameters = list(model.parameters())
        prepare_compile(optimizer)
        self._gradients = torch.compile(self._take_gradients, fullgraph=True)
        self._update = torch.compile(self._put_gradients, fullgraph=True)

    def gradients(self, batches: Sequence[Pair], weights: Sequence[float] | None = None) -> Tensor:
        # numbers that change would be compiled anew, those in a tensor are not
        given = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        loss, gradients = self._gradients(batches, given)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss

    def update(self) -> None:
        gradients = [parameter.grad for parameter in self._parameters]
        self.optimizer.zero_grad()
        self._update(gradients)

    def _take_gradients(self, batches: Sequence[Pair], weights: Tensor | None) -> tuple[Tensor, list[Tensor | None]]:
        loss = backpropagate(self.model, self.criterion, batches, weights)
        gradients = [parameter.grad for parameter in self._parameters]
        self.optimizer.zero_grad()
        return loss, gradients

    def _put_gradients(self, gradients: list[Tensor | None]) -> None:
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        super().update()


def whole_step(model: Any, criterion: Any, optimizer: Any, *, clip_norm: float | None = None) -> Step:
    """The step as a plain function: micro-batches `[(inputs, target), ...]` -> (mean loss, gradient norm or None)."""
    parts = StepParts(model, criterion, optimizer, clip_norm)

    def step(batches: Sequence[Pair]) -> tuple[Tensor, Tensor | None]:
        loss = parts.gradients(batches)
        norm = parts.clip()
        parts.update()
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
    prepare_compile(optimizer)
    return torch.compile(step, fullgraph=True)


def compile_parts(model: Any, criterion: Any, optimizer: Any, *, clip_norm: float | None = None) -> StepParts:
    """`CompiledParts`; without a C++ compiler, `StepParts` and a warning."""
    kind = CompiledParts if has_compiler() else StepParts
    return kind(model, criterion, optimizer, clip_norm)


def prepare_compile(optimizer: Any) -> None:
    """Let nothing in `optimizer` be a number that changes, and make its state; `.grad` is None afterwards."""
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], Tensor):
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float64)
    if hasattr(optimizer, "prepare_compile"):
        optimizer.prepare_compile()
    optimizer.zero_grad()
