"""A training step: written out, for several micro-batches, and compiled as one graph. Theory: docs/compile_step.md."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.trace import record
from ds_core.optimizers.clipping import clip_grad_norm_
from ds_core.speed.compiled import can_compile
from ds_core.speed.traced_einops import trace_einops_whole
from ds_core.training.gradients import Pair, backpropagate
from ds_core.training.trainer_parts import check_parts

Step = Callable[[Sequence[Pair]], tuple[Tensor, Tensor | None]]


def eager_step(
    model: Any, criterion: Any, optimizer: Any, inputs: Any, target: Any, *, clip_norm: float | None = None
) -> Tensor:
    """One training step, line by line. `whole_step` is the same for several micro-batches. Returns the loss."""
    with record():  # remember what backward will need
        loss: Tensor = criterion(model(inputs), target)
        model.backward(criterion.backward())  # adds to the .grad of every parameter
    if clip_norm is not None:
        clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()  # changes every parameter
    optimizer.zero_grad()
    return loss


class StepParts:
    """`eager_step` in three parts: gradients, clipping, update."""

    def __init__(self, model: Any, criterion: Any, optimizer: Any, clip_norm: float | None = None) -> None:
        self.model = model
        self.criterion = criterion
        self.optimizer = optimizer
        self.clip_norm = clip_norm

    def gradients(self, batches: Sequence[Pair], denominator: Any = None) -> Tensor:
        """Forward, loss and backward of every micro-batch; see `backpropagate`. Returns the loss."""
        return backpropagate(self.model, self.criterion, batches, denominator)

    def clip(self) -> Tensor | None:
        """Returns the gradient norm before clipping, or None if nothing is clipped."""
        return None if self.clip_norm is None else clip_grad_norm_(self.model.parameters(), self.clip_norm)

    def update(self) -> None:
        """The optimizer's step. Every `.grad` is None afterwards."""
        self.optimizer.step()
        self.optimizer.zero_grad()


class CompiledParts(StepParts):
    """Gradients and update compiled as a graph each. Between them, processes can average their gradients.

    For one process `compile_step` is faster. Every `.grad` must be None before a step.
    """

    def __init__(self, model: Any, criterion: Any, optimizer: Any, clip_norm: float | None = None) -> None:
        super().__init__(model, criterion, optimizer, clip_norm)
        self._parameters = list(model.parameters())
        prepare_compile(optimizer)
        trace_einops_whole()
        self._gradients = torch.compile(self._take_gradients, fullgraph=True)
        self._update = torch.compile(self._put_gradients, fullgraph=True)

    def gradients(self, batches: Sequence[Pair], denominator: Any = None) -> Tensor:
        loss, gradients = self._gradients(batches, denominator)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss

    def update(self) -> None:
        gradients = [parameter.grad for parameter in self._parameters]
        self.optimizer.zero_grad()
        self._update(gradients)

    def _take_gradients(self, batches: Sequence[Pair], denominator: Any) -> tuple[Tensor, list[Tensor | None]]:
        loss = backpropagate(self.model, self.criterion, batches, denominator)
        gradients = [parameter.grad for parameter in self._parameters]
        self.optimizer.zero_grad()
        return loss, gradients

    def _put_gradients(self, gradients: list[Tensor | None]) -> None:
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        super().update()


def whole_step(model: Any, criterion: Any, optimizer: Any, *, clip_norm: float | None = None) -> Step:
    """`eager_step` for micro-batches: a function of `[(inputs, target), ...]` that returns (loss, norm or None).

    The norm is that of the gradient before clipping.
    """
    parts = StepParts(model, criterion, optimizer, clip_norm)

    def step(batches: Sequence[Pair]) -> tuple[Tensor, Tensor | None]:
        loss = parts.gradients(batches)
        norm = parts.clip()
        parts.update()
        return loss, norm

    return step


def compile_step(model: Any, criterion: Any, optimizer: Any, *, clip_norm: float | None = None) -> Step:
    """`whole_step` compiled by `torch.compile(fullgraph=True)`; if that cannot work, a warning and `whole_step`.

    The compiler would bake a Python number into the graph. So every `group["lr"]` becomes a 0-dim tensor, which a
    schedule fills in place, and the optimizer makes its state beforehand. The first call compiles: seconds for an MLP,
    a minute for a deep Transformer. Every `.grad` must be None before a step, as it is after one.
    """
    check_parts("compile_step", model, criterion, optimizer)
    step = whole_step(model, criterion, optimizer, clip_norm=clip_norm)
    if not can_compile():
        return step
    prepare_compile(optimizer)
    trace_einops_whole()
    return torch.compile(step, fullgraph=True)


def compile_parts(model: Any, criterion: Any, optimizer: Any, *, clip_norm: float | None = None) -> StepParts:
    """`CompiledParts`; if compiling cannot work (`can_compile`), a warning and `StepParts`."""
    kind = CompiledParts if can_compile() else StepParts
    return kind(model, criterion, optimizer, clip_norm)


def prepare_compile(optimizer: Any) -> None:
    """Turn the learning rates of `optimizer` into tensors and make its state. Every `.grad` is None afterwards."""
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], Tensor):
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float64)
    if hasattr(optimizer, "prepare_compile"):
        optimizer.prepare_compile()
    optimizer.zero_grad()
