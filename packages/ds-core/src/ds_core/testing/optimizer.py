"""`check_optimizer`: two optimizers walk the same way, step by step, and can take over from each other.

`check_plain_optimizer`: the plain form of one optimizer and its fast form do.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ds_core.primitives import BlackBoxError, primitives_only
from ds_core.speed.plain import plain
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
    step, and our steps run primitive operations only and change the parameters in place.

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


def check_plain_optimizer(
    make: Make,
    steps: int = 24,
    *,
    shapes: Sequence[tuple[int, ...]] = ((3, 4), (5,), (), (2, 3, 2), (0,)),
    rtol: float = 1e-12,
    atol: float = 1e-12,
    seed: int = 0,
) -> None:
    """Hold the plain form of an optimizer, `update`, against its fast form over `steps` steps, in float64.

        check_plain_optimizer(lambda p: AdamW(p, lr=0.1, amsgrad=True))

    One optimizer walks by its fast form, one inside `with plain():`, and two change between the forms every three
    steps. The gradients are random, and some are missing. After every step all parameters must agree, after every third
    all that is kept for them.

    Args:
        make: makes an optimizer of a list of parameters (or of groups of them).
        steps: how many.
        shapes: of the parameters.
        rtol, atol: allowed is atol + rtol * (largest number of the fast form's tensor).

    Raises:
        CheckFailed: naming step, tensor, the largest difference and where.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    start = [draw(shape) for shape in shapes]
    fast, always = _Walker(make, start), _Walker(make, start)
    turns = {"plain, then fast": _Walker(make, start), "fast, then plain": _Walker(make, start)}
    name = type(fast.optimizer).__name__
    for step in range(steps):
        missing = (torch.rand(len(shapes), generator=generator) < 0.2).tolist()
        gradients = [None if gone else draw(shape) for gone, shape in zip(missing, shapes, strict=True)]
        early, late = turns.values() if step // 3 % 2 == 0 else reversed(turns.values())
        for walker in (fast, always, early, late):
            for parameter, gradient in zip(walker.parameters, gradients, strict=True):
                parameter.grad = None if gradient is None else gradient.clone()
        fast.optimizer.step()
        late.optimizer.step()
        with plain():
            _step(name, always)
            early.optimizer.step()
        for side, walker in {"plain": always, **turns}.items():
            for index, (given, expected) in enumerate(zip(walker.parameters, fast.parameters, strict=True)):
                title = f"parameter {index} after step {step + 1}"
                compare(name, "plain", title, given, expected, rtol, atol, (side, "fast"))
                if step % 3 == 2 or step == steps - 1:
                    state, wanted = walker.optimizer.state.get(given, {}), fast.optimizer.state.get(expected, {})
                    _compare_states(name, side, title, state, wanted, rtol, atol)


def _compare_states(
    name: str, side: str, title: str, state: dict[str, Any], wanted: dict[str, Any], rtol: float, atol: float
) -> None:
    if set(state) != set(wanted):
        raise CheckFailed(name, "plain", f"state of {title}: {side} has {list(state)}, fast {list(wanted)}")
    for key, value in state.items():
        value, other = torch.as_tensor(value), torch.as_tensor(wanted[key])
        if value.dtype != other.dtype:
            raise CheckFailed(name, "plain", f"{key} of {title}: {side} has {value.dtype}, fast {other.dtype}")
        compare(name, "plain", f"{key} of {title}", value, other, rtol, atol, (side, "fast"))


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
        if name.startswith("ours"):
            _step(self.name, walker)
        else:
            walker.optimizer.step()


def _step(name: str, walker: _Walker) -> None:
    before = [parameter.detach().clone() for parameter in walker.parameters]
    try:
        with primitives_only():
            walker.optimizer.step()
    except BlackBoxError as error:
        raise CheckFailed(name, "primitives", str(error)) from error
    except TypeError as error:
        if _has_stayed(walker, before):
            raise CheckFailed(name, "moves", str(error)) from error
        raise
    if _has_stayed(walker, before):
        message = "a step has changed no parameter, though there are gradients: change them in place, p -= lr * p.grad"
        raise CheckFailed(name, "moves", message)


def _has_stayed(walker: _Walker, before: Sequence[Tensor]) -> bool:
    """Whether no parameter has changed, though gradients are not 0 and learning rates not so small that none need."""
    driven = any(p.grad is not None and bool((p.grad != 0).any()) for p in walker.parameters)
    rates = [float(group.get("lr", 1)) for group in walker.optimizer.param_groups]
    same = all(torch.equal(old, now) for old, now in zip(before, walker.parameters, strict=True))
    return driven and max(rates) > 1e-6 and same
