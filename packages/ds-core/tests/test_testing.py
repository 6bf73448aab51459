"""check_layer passes right layers of every kind; test_testing_*.py plant the faults that it must find."""

from dataclasses import dataclass

import pytest
import torch
from ds_core import (
    Linear,
    Module,
    Parallel,
    Recompute,
    Residual,
    Sequential,
    accumulate,
    recording,
)
from ds_core.testing import check_layer
from planted_layers import Noise, Rows, Shift, Square, TwoByTwo, X


@dataclass
class Boxes:
    corner: torch.Tensor | None = None
    size: torch.Tensor | None = None


class Boxed(Module):
    def forward(self, x):
        self.save()
        return Boxes(2 * x, 3 * x)

    def backward(self, dboxes):
        self.saved()
        if dboxes is None:
            return None
        parts = [factor * d for factor, d in ((2, dboxes.corner), (3, dboxes.size)) if d is not None]
        return sum(parts) if parts else None


class Foreign:
    """A layer by protocol alone: no base class, its own stack instead of the trace."""

    def __init__(self):
        self.scale = torch.tensor([2.0], requires_grad=True)
        self.stack = []

    def forward(self, x):
        if recording():
            self.stack.append(x)
        return x * self.scale

    def backward(self, dy, *, input_gradient=True):
        x = self.stack.pop()
        if dy is None:
            return None
        accumulate(self.scale, (dy * x).sum().reshape(1))
        return dy * self.scale.detach() if input_gradient else None

    def parameters(self):
        return [self.scale]


class Blocked(Module):
    """y = x, and minus infinity in the first column, as the scores of forbidden keys are."""

    def forward(self, x):
        self.save()
        return torch.cat([torch.full_like(x[:, :1], -torch.inf), x[:, 1:]], 1)

    def backward(self, dy):
        self.saved()
        return None if dy is None else torch.cat([torch.zeros_like(dy[:, :1]), dy[:, 1:]], 1)


class Masked(Module):
    """y = x + mask, where the floating mask takes no gradient."""

    def forward(self, x, *, mask):
        self.save()
        return x + mask

    def backward(self, dy):
        self.saved()
        return dy


RIGHT = {
    "square": lambda: check_layer(Square(), X),
    "frozen weight": lambda: check_layer(frozen_square(), X),
    "shift": lambda: check_layer(Shift(), X, batch_dim=None),
    "noise": lambda: check_layer(Noise(), X),
    "noise in eval": lambda: check_layer(Noise().eval(), X),
    "nested": lambda: check_layer(TwoByTwo(), X, (X + 2, torch.tensor([1, 2]))),
    "dataclass": lambda: check_layer(Boxed(), X),
    "integers": lambda: check_layer(Rows(), torch.tensor([[0, 2], [2, 4], [1, 0]])),
    "foreign": lambda: check_layer(Foreign(), X),
    "foreign with a gradient": lambda: check_layer(with_gradient(Foreign()), X),
    "infinite outputs": lambda: check_layer(Blocked(), X),
    "mask": lambda: check_layer(Masked(), X, kwargs={"mask": torch.tensor([0.0, -3.0, 1.0])}, constants=["mask"]),
    "Linear": lambda: check_layer(Linear(3, 4), torch.randn(2, 5, 3)),
    "Sequential": lambda: check_layer(Sequential(Linear(3, 4), Linear(4, 2)), X),
    "Residual": lambda: check_layer(Residual(Square()), X),
    "Parallel": lambda: check_layer(Parallel(Square(), Linear(3, 2)), X),
    "Recompute": lambda: check_layer(Recompute(Sequential(Noise(), Square())), X),
    "one layer twice": lambda: check_layer(Sequential(*[Square()] * 2), X),
}


def frozen_square():
    layer = Square()
    layer.weight.requires_grad_(False)
    return layer


def with_gradient(layer):
    for tensor in layer.parameters():
        tensor.grad = torch.ones_like(tensor)
    return layer


@pytest.mark.parametrize("name", RIGHT)
def test_right_layers_pass(name):
    RIGHT[name]()


def test_worked_example():
    x = torch.tensor([[1.0, 2.0], [-1.0, 0.0]], dtype=torch.float64)
    dy = torch.tensor([[1.0, -1.0], [2.0, 0.5]], dtype=torch.float64)
    dx = 3 * x**2 * dy
    assert dx.tolist() == [[3.0, -12.0], [6.0, 0.0]]
    h = 0.1
    slopes = dy * ((x + h) ** 3 - (x - h) ** 3) / (2 * h)
    assert torch.allclose(slopes, torch.tensor([[3.01, -12.01], [6.02, 0.005]], dtype=torch.float64))
    first = (1.1**3 - 0.9**3) / 0.2
    assert first == pytest.approx(3.01)
    assert torch.allclose(slopes - dx, 0.01 * dy)
    direction = torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    assert float((dx * direction).sum()) == 21
    dx[1, 0] = 0
    assert float((dx * direction).sum()) == 15
