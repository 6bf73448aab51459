"""`check_optimizer`: two optimizers walk the same way, step by step, and can take over from each other."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ds_core.primitives import BlackBoxError, primitives_only
from ds_core.testing.failure import CheckFailed, compare

Make = Callable[[list[Tensor]], Any]


def check_optimizer(
    make_ours: Make,
    make_theirs: Make,
    steps: int = 10,
    *,
    shapes: Sequence[tuple[int, ...]] = ((3, 4), (5,), (), (2, 3, 2), (0,)),
    none_gradients: bool = True,
    before_step: Callable[[Any, int], None] | None = None,
    rtol: float = 1e-9,
    atol: float = 1e-12,
    seed: int = 0,
) -> None:
    """Hold an optimizer against its PyTorch twin over `steps` steps, in float64.

        check_optimizer(lambda p: AdamW(p, lr=0.1, amsgrad=True), lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True))

    The gradients are random. Half way `state_dict`s are exchanged: an optimizer of ours takes
    theirs and one of theirs takes ours, and all four walk on. Gradients must not be changed by a
    step, and our steps run primitive operations only.

    Args:
        make_ours, make_theirs: make an optimizer of a list of parameters (or of groups of them).
        steps: how many.
        shapes: of the parameters.
        none_gradients: whether some gradients are missing in some steps, and those of the last
            parameter in the first half, so that its state is made late.
        before_step: called with each optimizer and the number of the step, to change `param_groups`.
        rtol, atol: allowed is atol + rtol * (largest number of PyTorch's parameter).

    Raises:
        CheckFailed: naming step, parameter, the largest difference and where.
    """
    walk = _Walk(make_ours, make_theirs, shapes, rtol, atol, seed)
    for step in range(steps):
        if step == steps // 2:
            walk.exchange()
        missing = [False] * len(shapes)
        if none_gradients:
            missing = (torch.rand(len(shapes), generator=walk.generator) < 0.2).tolist()
            missing[-1] = step < steps // 2
        walk.step(step, missing, before_step)


class _Walker:
    def __init__(self, make: Make, start: Sequence[Tensor]) -> None:
        self.parameters = [tensor.detach().clone().requires_grad_() for tensor in start]
        self.optimizer = make(self.parameters)


class _Walk:
    def __init__(
        self, make_ours: Make, make_theirs: Make, shapes: Sequence[tuple[int, ...]], rtol: float, atol: float, seed: int
    ) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.makers = {"ours": make_ours, "PyTorch's": make_theirs}
        start = [self.draw(shape) for shape in shapes]
        self.walkers = {name: _Walker(make, start) for name, make in self.makers.items()}
        self.name = type(self.walkers["ours"].optimizer).__name__
        self.rtol, self.atol = rtol, atol

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def exchange(self) -> None:
        """Two more walkers, each with the state of the other side's optimizer."""
        for name, other in (("ours", "PyTorch's"), ("PyTorch's", "ours")):
            source = self.walkers[other]
            walker = _Walker(self.makers[name], source.parameters)
            try:
                walker.optimizer.load_state_dict(copy.deepcopy(source.optimizer.state_dict()))
            except Exception as error:
                message = f"{name} cannot load the state_dict of {other}: {type(error).__name__}: {error}"
                raise CheckFailed(self.name, "state_dict", message) from error
            self.walkers[f"{name} after loading the state of {other}"] = walker

    def step(self, step: int, missing: Sequence[bool], before_step: Callable[[Any, int], None] | None) -> None:
        expected = self.walkers["PyTorch's"].parameters
        gradients = [None if gone else self.draw(tuple(p.shape)) for gone, p in zip(missing, expected, strict=True)]
        for name, walker in self.walkers.items():
            for parameter, gradient in zip(walker.parameters, gradients, strict=True):
                parameter.grad = None if gradient is None else gradient.clone()
            if before_step is not None:
                before_step(walker.optimizer, step)
            self._advance(name, walker)
            for index, (parameter, gradient) in enumerate(zip(walker.parameters, gradients, strict=True)):
                same = gradient is None or (parameter.grad is not None and torch.equal(parameter.grad, gradient))
                if name.startswith("ours") and not same:
                    message = f"step {step + 1} changed the gradient of parameter {index}: it belongs to the caller"
                    raise CheckFailed(self.name, "unchanged", message, f"gradient of parameter {index}")
        for name, walker in self.walkers.items():
            for index, (given, wanted) in enumerate(zip(walker.parameters, expected, strict=True)):
                title = f"parameter {index} after step {step + 1}"
                sides = (name, "PyTorch's")
                compare(self.name, "trajectory", title, given, wanted, self.rtol, self.atol, sides)

    def _advance(self, name: str, walker: _Walker) -> None:
        if not name.startswith("ours"):
            walker.optimizer.step()
            return
        try:
            with primitives_only():
                walker.optimizer.step()
        except BlackBoxError as error:
            raise CheckFailed(self.name, "primitives", str(error)) from error
