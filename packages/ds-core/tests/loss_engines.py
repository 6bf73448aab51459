"""A loss in both engines beside its torch.nn twin, for the tests of the losses."""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any

import ds_core.losses
import torch
from ds_core import Module, record
from ds_core.testing import one_graph

Tensors = Sequence[torch.Tensor]


def loss_classes() -> set[type]:
    """Every loss, and every base of losses."""
    package = ds_core.losses
    modules = [importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return {cls for cls in found if issubclass(cls, Module) and cls.__module__.startswith(package.__name__)}


def handwritten(loss: Any, *inputs: torch.Tensor, grad: torch.Tensor | None = None, **options: bool) -> Any:
    """The value of the loss, and its gradients as a tuple."""
    with record():
        value = loss(*inputs)
        found = loss.backward(grad, **options)
    return value, found if isinstance(found, tuple) else (found,)


def by_autograd(loss: Callable[..., Any], inputs: Tensors, differentiable: int = 1) -> Any:
    """The value and the gradients of its sum for the first inputs, through autograd."""
    leaves = [x.detach().clone().requires_grad_(i < differentiable) for i, x in enumerate(inputs)]
    value = loss(*leaves)
    value.sum().backward()
    return value.detach(), tuple(leaf.grad for leaf in leaves[:differentiable])


def assert_is_the_twin(
    ours: Any,
    twin: Any,
    *inputs: torch.Tensor,
    differentiable: int = 1,
    target_gradient: bool = False,
    autograd: bool = True,
    **near: float,
) -> None:
    """Value and gradients, in the inputs' own dtype, are the twin's in both engines; NaN is NaN."""
    expected = by_autograd(twin, inputs, differentiable)
    options = {"target_gradient": True} if target_gradient else {}
    found = [handwritten(ours, *inputs, **options)] + ([by_autograd(ours, inputs, differentiable)] if autograd else [])
    for value, gradients in found:
        torch.testing.assert_close(value, expected[0], equal_nan=True, **near)
        for gradient, right in zip(gradients, expected[1], strict=True):
            torch.testing.assert_close(gradient, right, equal_nan=True, **near)


def assert_compiles(loss: Any, batches: Sequence[Tensors]) -> None:
    """Forward and backward make one graph for batches of all sizes."""

    def step(*inputs: torch.Tensor) -> Any:
        with record():
            value = loss(*inputs)
            return value, loss.backward(torch.full_like(value, 0.5))

    compiled = one_graph(step, dynamic=True)
    for batch in batches:
        torch.testing.assert_close(compiled(*batch), step(*batch))
