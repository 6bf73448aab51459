"""check_layer against planted faults in what a layer computes: each must be found, and named."""

import pytest
import torch
from ds_core import Module, accumulate
from ds_core.testing import CheckFailed, check_layer
from planted_layers import Noise, Square, X


class WrongSign(Square):
    def backward(self, dy, *, input_gradient=True):
        dx = super().backward(dy, input_gradient=input_gradient)
        return None if dx is None else -dx


class WrongFactor(Square):
    def backward(self, dy, *, input_gradient=True):
        dx = super().backward(dy, input_gradient=input_gradient)
        return None if dx is None else dx / 2


class MissingTerm(Noise):
    """y = m x + x, whose backward forgets the second x."""

    def forward(self, x):
        return super().forward(x) + x


class ForgottenBias(Square):
    def backward(self, dy, *, input_gradient=True):
        (x,) = self.saved()
        if dy is None:
            return None
        accumulate(self.weight, (dy * x * x).sum(0))
        return 2 * x * self.weight * dy if input_gradient else None


class Detached(Square):
    """Both engines say dx = w x dy, since autograd does not see the first x. Only finite differences know better."""

    def forward(self, x):
        self.save(x)
        return x.detach() * x * self.weight + self.bias

    def backward(self, dy, *, input_gradient=True):
        dx = super().backward(dy, input_gradient=input_gradient)
        return None if dx is None else dx / 2


class KeepsOnSelf(Square):
    def forward(self, x):
        self.save()
        self.x = x.detach()
        return x * x * self.weight + self.bias

    def backward(self, dy, *, input_gradient=True):
        self.saved()
        if dy is None:
            return None
        accumulate(self.weight, (dy * self.x * self.x).sum(0))
        accumulate(self.bias, dy.sum(0))
        return 2 * self.x * self.weight * dy if input_gradient else None


class ViewsInput(Square):
    def forward(self, x):
        return super().forward(x.view(-1).view(x.shape))


class TakesStridesForGranted(Square):
    def backward(self, dy, *, input_gradient=True):
        rows = None if dy is None else torch.as_strided(dy, dy.shape, (dy.shape[-1], 1))
        return super().backward(rows, input_gradient=input_gradient)


class Squeezes(Square):
    """Rows that are lost where there is one only."""

    def backward(self, dy, *, input_gradient=True):
        (x,) = self.saved()
        if dy is None:
            return None
        accumulate(self.weight, (dy * x * x).squeeze().sum(0))
        accumulate(self.bias, dy.sum(0))
        return 2 * x * self.weight * dy if input_gradient else None


class WrongForOne(Square):
    def backward(self, dy, *, input_gradient=True):
        dx = super().backward(dy, input_gradient=input_gradient)
        return dx * (len(dy) > 1) if dx is not None else None


class RefusesEmpty(Square):
    def forward(self, x):
        assert x.abs().max() < 100
        return super().forward(x)


class DrawsAgain(Noise):
    def backward(self, dy):
        self.saved()
        return None if dy is None else dy * torch.rand_like(dy)


class Float32(Square):
    def forward(self, x):
        return super().forward(x).float()


class NotFinite(Module):
    """y = |x| as sqrt(x^2): at 0 both engines give NaN, and agree."""

    def forward(self, x):
        y = (x * x).sqrt()
        self.save(x, y)
        return y

    def backward(self, dy):
        x, y = self.saved()
        return None if dy is None else dy / y * x


class HidesSoftmax(Module):
    def forward(self, x):
        y = torch.softmax(x, -1)
        self.save(y)
        return y

    def backward(self, dy):
        (y,) = self.saved()
        return None if dy is None else y * (dy - (dy * y).sum(-1, keepdim=True))


class HidesInBackward(Noise):
    def backward(self, dy):
        (mask,) = self.saved()
        return None if dy is None else torch.relu(dy) * mask - torch.relu(-dy) * mask


FAULTS = [
    (WrongSign, (X,), "autograd", "gradient of input x.*wrong sign"),
    (WrongFactor, (X,), "autograd", "handwritten = 0.5 x autograd: a wrong factor"),
    (MissingTerm, (X,), "autograd", "gradient of input x.*6 of 6 entries differ"),
    (ForgottenBias, (X,), "autograd", "gradient of bias.*zero everywhere"),
    (DrawsAgain, (X,), "autograd", "gradient of input x"),
    (Detached, (X,), "finite differences", "gradient of input x.*finite difference.*wrong factor"),
    (KeepsOnSelf, (X,), "reuse", "gradient of input x of call 1.*nothing on self"),
    (ViewsInput, (X,), "non-contiguous", "raised RuntimeError: view size.*reshape instead of view"),
    (TakesStridesForGranted, (X,), "non-contiguous", "gradient of"),
    (Squeezes, (X,), "batch of one", "raised ValueError.*batch_dim=None"),
    (WrongForOne, (X,), "batch of one", "gradient of input x"),
    (RefusesEmpty, (X,), "empty batch", "raised"),
    (Float32, (X,), "dtype", "output y is torch.float32"),
    (NotFinite, (torch.tensor([1.0, 0.0]),), "finite", "gradient of input x is not finite in 1 of 2"),
    (
        HidesSoftmax,
        (X,),
        "primitives",
        r"aten._softmax ran at .*test_testing_numbers.py:\d+ in forward, layer HidesSoftmax",
    ),
    (HidesInBackward, (X,), "primitives", r"aten.relu ran at .* in backward, layer HidesInBackward"),
]


@pytest.mark.parametrize(("fault", "inputs", "check", "message"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_planted_faults_are_found_and_named(fault, inputs, check, message):
    with pytest.raises(CheckFailed, match="(?s)" + message) as caught:
        check_layer(fault(), *inputs)
    assert caught.value.check == check
    assert str(caught.value).startswith(fault.__name__)


def test_each_of_these_checks_has_a_planted_fault():
    assert {check for _, _, check, _ in FAULTS} == {
        "autograd",
        "finite differences",
        "finite",
        "reuse",
        "non-contiguous",
        "batch of one",
        "empty batch",
        "dtype",
        "primitives",
    }
