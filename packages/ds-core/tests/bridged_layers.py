"""Layers to take over the bridge between the engines, for the tests of `ds_core.interop`, and the oracle."""

from dataclasses import dataclass, field

import torch
from ds_core import Linear, Module, Residual, Sequential, accumulate, drawn, parameter


class Product(Module):
    """z = x y w, and the sum of it; several inputs and outputs, an integer among each."""

    def __init__(self, size=3):
        self.weight = parameter(torch.linspace(1, 2, size))

    def forward(self, x, times, y):
        self.save(x, y, times)
        z = x * y * self.weight * times
        return z, times, z.sum()

    def backward(self, dz=None, dtimes=None, dsum=None):
        x, y, times = self.saved()
        if dsum is not None:
            dz = dsum.expand(x.shape) if dz is None else dz + dsum
        if dz is None:
            return None
        accumulate(self.weight, (dz * x * y * times).reshape(-1, x.shape[-1]).sum(0))
        return dz * y * self.weight * times, dz * x * self.weight * times


class Cell(Module):
    """A recurrent cell's signature: (x, (h, c)) -> (y, (h, c)); without states they are zeros."""

    def __init__(self):
        self.scale = parameter(torch.tensor([0.5, 2.0]))

    def forward(self, x, states=None):
        h, c = (torch.zeros_like(x), torch.zeros_like(x)) if states is None else states
        self.save(x, h, c)
        return x * h * self.scale, (h + x, c * x)

    def backward(self, dy, dstates=None):
        x, h, c = self.saved()
        dh, dc = (None, None) if dstates is None else dstates
        dy, dh, dc = (torch.zeros_like(x) if d is None else d for d in (dy, dh, dc))
        accumulate(self.scale, (dy * x * h).reshape(-1, 2).sum(0))
        return dy * h * self.scale + dh + dc * c, (dy * x * self.scale + dh, dc * x)


class Noise(Module):
    """A random mask, replayed; counts its forwards in a buffer that is replaced by in-place addition."""

    def __init__(self):
        self.count = torch.tensor(0.0)
        self._scratch = torch.zeros(2)

    def forward(self, x):
        if self.training:
            self.count += 1
        mask = drawn(lambda: torch.empty(x.shape).bernoulli_(0.5)) if self.training else torch.ones(x.shape)
        self.save(mask)
        return x * mask

    def backward(self, dy):
        (mask,) = self.saved()
        return None if dy is None else dy * mask


class SavesItsOutput(Module):
    def forward(self, x):
        y = torch.exp(x)
        self.save(y)
        return y

    def backward(self, dy):
        (y,) = self.saved()
        return None if dy is None else dy * y


class Tied(Module):
    def __init__(self):
        self.embed = Linear(3, 3, bias=False)
        self.head = Linear(3, 3)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.embed(x))

    def backward(self, dy, *, input_gradient=True):
        return self.embed.backward(self.head.backward(dy), input_gradient=input_gradient)


class HeldInATuple:
    """A foreign layer whose parameter cannot be exchanged."""

    def __init__(self):
        self.tensors = (parameter(torch.ones(2)),)

    def forward(self, x):
        return x

    def backward(self, dy):
        return dy

    def parameters(self):
        return list(self.tensors)


class HeldInAList(HeldInATuple):
    def __init__(self):
        self.tensors = [parameter(torch.ones(2))]
        self.kept = []

    def forward(self, x):
        self.kept.append(x)
        return x * self.tensors[0]

    def backward(self, dy, *, input_gradient=True):
        x = self.kept.pop()
        accumulate(self.tensors[0], (dy * x).sum(0))
        return dy * self.tensors[0]


def network(seed=0):
    torch.manual_seed(seed)
    return Sequential(Linear(4, 6), Residual(Sequential(Linear(6, 6), SavesItsOutput())), Linear(6, 2))


def autograd_of(layer, *inputs, dy):
    """The oracle: autograd of the layer's own forward; the gradients of inputs, then of parameters."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    y = layer.forward(*inputs)
    return torch.autograd.grad(y, [*inputs, *layer.parameters()], dy)


def assert_all_close(ours, theirs):
    assert len(ours) == len(theirs)
    for first, second in zip(ours, theirs, strict=True):
        torch.testing.assert_close(first, second)


@dataclass
class Span:
    """Checks what it is given, and computes."""

    low: torch.Tensor
    high: torch.Tensor
    size: torch.Tensor = field(init=False)

    def __post_init__(self):
        if self.low.dim() != self.high.dim():
            raise ValueError("of one rank")
        self.size = self.high - self.low
