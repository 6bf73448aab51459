"""check_layer against planted faults in how a layer behaves: each must be found, and named."""

import random

import numpy as np
import pytest
import torch
from ds_core import drawn, no_record
from ds_core.testing import CHECKS, CheckFailed, check_layer
from planted_layers import Noise, Rows, Square, TwoByTwo, X


class ForgetsToSave(Square):
    def forward(self, x):
        return x * x * self.weight + self.bias


class SavesTwice(Square):
    def forward(self, x):
        self.save(x)
        return super().forward(x)


class SkipsTheEntry(Square):
    def backward(self, dy, *, input_gradient=True):
        return None if dy is None else super().backward(dy, input_gradient=input_gradient)


class NoneIsOnes(Square):
    def backward(self, dy, *, input_gradient=True):
        return super().backward(torch.ones(2, 3).double() if dy is None else dy, input_gradient=input_gradient)


class WantsAllGradients(TwoByTwo):
    def backward(self, dproduct, dstate):
        return super().backward(dproduct, dstate)


class WantsEveryGradient(TwoByTwo):
    def backward(self, dproduct=None, dstate=None):
        if dproduct is None and dstate is not None:
            self.saved()
            return dstate[0], (dstate[0] * 2, None)
        return super().backward(dproduct, dstate)


class WritesFrozen(Square):
    def backward(self, dy, *, input_gradient=True):
        dx = super().backward(dy, input_gradient=input_gradient)
        if dy is not None and not self.bias.requires_grad:
            self.bias.grad = dy.sum(0)
        return dx


class StopsAtFrozen(Square):
    def backward(self, dy, *, input_gradient=True):
        if not self.weight.requires_grad:
            self.saved()
            return None
        return super().backward(dy, input_gradient=input_gradient)


class NeedsBoth(Square):
    def backward(self, dy, *, input_gradient=True):
        dx = super().backward(dy, input_gradient=input_gradient)
        if not self.bias.requires_grad:
            self.weight.grad = None
        return dx


class HasNoOption(Square):
    def backward(self, dy):
        return super().backward(dy)


class ReturnsAllTheSame(Square):
    def backward(self, dy, *, input_gradient=True):
        return super().backward(dy)


class SkipsTooMuch(Square):
    def backward(self, dy, *, input_gradient=True):
        return super().backward(dy if input_gradient else None)


class DrawsByHand(Noise):
    def draw(self, x):
        return torch.rand_like(x)


class AddsNoise(Square):
    """Whatever is added to the output, the gradient is the same."""

    def forward(self, x):
        return super().forward(x) + torch.rand(())


class DrawsFromItsOwn(Square):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x):
        return super().forward(x) + torch.rand((), generator=self.generator)


class DrawsForNothing(Square):
    def forward(self, x):
        random.random(), np.random.rand()
        return super().forward(x)


class DrawsElsewhere(Noise):
    def draw(self, x):
        return drawn(lambda: torch.full_like(x, random.random()))


class CountsTwice(Noise):
    def forward(self, x):
        mask = self.draw(x)
        with no_record():
            self.seen.mul_(0.9).add_(x.detach().sum(0))
        self.save(mask)
        return x * mask


class ReplacesBuffer(Noise):
    def forward(self, x):
        self.seen = self.seen * 0.9
        return super().forward(x)


class Wraps(Square):
    def backward(self, dy, *, input_gradient=True):
        return (super().backward(dy, input_gradient=input_gradient),)


class WrongShape(Square):
    def backward(self, dy, *, input_gradient=True):
        dx = super().backward(dy, input_gradient=input_gradient)
        return None if dx is None else dx.sum(0)


class Lonely(TwoByTwo):
    def backward(self, dproduct=None, dstate=None):
        return super().backward(dproduct, dstate)[0]


class ReturnsIndexGradient(Rows):
    def backward(self, dy, *, input_gradient=True):
        super().backward(dy, input_gradient=input_gradient)
        return dy


STATE = (X + 2, torch.tensor([1, 2]))
FAULTS = [
    (ForgetsToSave, (X,), "trace", "trace is empty"),
    (SavesTwice, (X,), "trace", "1 recorded call.* that no backward took"),
    (SkipsTheEntry, (X,), "trace", "no backward took.*'None gradients'"),
    (NoneIsOnes, (X,), "None gradients", r"backward\(None\) adds to gradient of input x"),
    (WantsAllGradients, (X, STATE), "None gradients", "raised TypeError.*dstate"),
    (WantsEveryGradient, (X, STATE), "None gradients", r"gradient of input state\[0\].*backward\(None, \(Tensor"),
    (WritesFrozen, (X,), "frozen", "bias requires no gradient"),
    (StopsAtFrozen, (X,), "frozen", "gradient of input x"),
    (NeedsBoth, (X,), "frozen", "gradient of weight.*with bias frozen"),
    (HasNoOption, (X,), "input_gradient", "unexpected keyword argument 'input_gradient'.*input_gradient=True"),
    (ReturnsAllTheSame, (X,), "input_gradient", r"returned Tensor\(2, 3\), expected None"),
    (SkipsTooMuch, (X,), "input_gradient", "gradient of weight"),
    (DrawsByHand, (X,), "recompute", "gradient of input x.*drawn"),
    (AddsNoise, (X,), "recompute", "a second forward.*draws from the generator of torch\n.*drawn"),
    (DrawsFromItsOwn, (X,), "recompute", "draws from the generator of the layer"),
    (DrawsForNothing, (X,), "recompute", "draws from the generator of python and numpy"),
    (CountsTwice, (X,), "recompute", "seen"),
    (DrawsElsewhere, (X,), "repeatable", "default generator"),
    (ReplacesBuffer, (X,), "repeatable", "buffer seen; update it in place"),
    (Wraps, (X,), "structure", r"expected a tensor or None, given tuple"),
    (WrongShape, (X,), "structure", r"gradient of x: given \(3,\).*expected \(2, 3\)"),
    (Lonely, (X, STATE), "structure", r"expected a tuple of 2: the gradients of a, state"),
    (ReturnsIndexGradient, (torch.tensor([0, 2]),), "structure", "no input is differentiable"),
]


@pytest.mark.parametrize(("fault", "inputs", "check", "message"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_planted_faults_are_found_and_named(fault, inputs, check, message):
    with pytest.raises(CheckFailed, match="(?s)" + message) as caught:
        check_layer(fault(), *inputs)
    assert caught.value.check == check
    assert str(caught.value).startswith(fault.__name__)


# Those that test_testing_numbers.py and test_testing_memory.py plant faults for.
ELSEWHERE = {"autograd", "finite differences", "finite", "reuse", "non-contiguous", "batch of one", "empty batch"}
ELSEWHERE |= {"dtype", "primitives", "unchanged", "ownership"}


def test_each_other_check_has_a_planted_fault():
    assert {check for _, _, check, _ in FAULTS} == set(CHECKS) - ELSEWHERE
