"""Right layers, and an input, for the tests of `ds_core.testing`: each fault that they plant changes one thing."""

import torch
from ds_core import Module, accumulate, drawn, no_record, parameter, replaying

X = torch.tensor([[0.3, -1.2, 0.7], [1.1, 0.4, -0.6]])


class Square(Module):
    """y = w x^2 + b, right in all respects."""

    def __init__(self):
        self.weight = parameter(torch.tensor([0.5, -1.5, 2.0]))
        self.bias = parameter(torch.tensor([1.0, 0.0, -1.0]))

    def forward(self, x):
        self.save(x)
        return x * x * self.weight + self.bias

    def backward(self, dy, *, input_gradient=True):
        (x,) = self.saved()
        if dy is None:
            return None
        accumulate(self.weight, (dy * x * x).sum(0))
        accumulate(self.bias, dy.sum(0))
        return 2 * x * self.weight * dy if input_gradient else None


class Shift(Module):
    """y = x + b with a bias as large as x, so that aliasing and broadcasting can go wrong."""

    def __init__(self):
        self.bias = parameter(torch.randn(2, 3))

    def forward(self, x):
        self.save()
        return x + self.bias

    def backward(self, dy, *, input_gradient=True):
        self.saved()
        if dy is None:
            return None
        accumulate(self.bias, dy.clone())
        return dy if input_gradient else None


class Noise(Module):
    """y = m x with a random mask m, and the mean of what it saw."""

    def __init__(self):
        self.seen = torch.zeros(3)

    def draw(self, x):
        return drawn(lambda: torch.rand_like(x))

    def forward(self, x):
        mask = self.draw(x)
        if not replaying():
            with no_record():
                self.seen.mul_(0.9).add_(x.detach().sum(0))
        self.save(mask)
        return x * mask

    def backward(self, dy):
        (mask,) = self.saved()
        return None if dy is None else dy * mask


class TwoByTwo(Module):
    """(a, (b, n)) -> (a b, (a + b, a > 0)): nested inputs and outputs, an integer input, a boolean output."""

    def forward(self, a, state):
        b, _ = state
        self.save(a, b)
        return a * b, (a + b, a > 0)

    def backward(self, dproduct=None, dstate=None):
        a, b = self.saved()
        dproduct = torch.zeros_like(a) if dproduct is None else dproduct
        dsum = torch.zeros_like(a) if dstate is None or dstate[0] is None else dstate[0]
        return dproduct * b + dsum, (dproduct * a + dsum, None)


class Rows(Module):
    """Rows of a table by index: its only input is an integer."""

    def __init__(self):
        self.table = parameter(torch.randn(5, 3))

    def forward(self, index):
        self.save(index)
        return self.table[index]

    def backward(self, dy, *, input_gradient=True):
        (index,) = self.saved()
        if dy is not None:
            gradient = torch.zeros_like(self.table)
            accumulate(self.table, gradient.index_add_(0, index.reshape(-1), dy.reshape(-1, 3)))
