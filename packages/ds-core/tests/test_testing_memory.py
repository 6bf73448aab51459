"""check_layer against planted faults in whose memory is written to: each must be found, and named."""

import pytest
import torch
from ds_core import Module, accumulate, parameter
from ds_core.testing import CheckFailed, check_layer
from planted_layers import Shift, Square, X


class WritesGradient(Square):
    def backward(self, dy, *, input_gradient=True):
        return super().backward(None if dy is None else dy.mul_(1), input_gradient=input_gradient)


class WritesInput(Square):
    def forward(self, x):
        y = super().forward(x)
        x.detach().add_(1)
        return y


class WritesOutput(Module):
    """y = exp(x), and backward makes dx in the memory of y, which the caller still holds."""

    def forward(self, x):
        y = torch.exp(x)
        self.save(y)
        return y

    def backward(self, dy):
        (y,) = self.saved()
        return None if dy is None else torch.mul(y, dy, out=y)


class WritesParameter(Square):
    def forward(self, x):
        with torch.no_grad():
            self.weight.clamp_(-10, 10)
        return super().forward(x)


class KeepsGivenGradient(Shift):
    def backward(self, dy, *, input_gradient=True):
        self.saved()
        accumulate(self.bias, dy)
        return dy if dy is not None and input_gradient else None


class KeepsReturnedGradient(Shift):
    def backward(self, dy, *, input_gradient=True):
        self.saved()
        dx = None if dy is None else dy.clone()
        accumulate(self.bias, dx)
        return dx if input_gradient else None


class SharesOneGradient(Shift):
    def __init__(self):
        super().__init__()
        self.other = parameter(torch.randn(2, 3))

    def forward(self, x):
        return super().forward(x) + self.other

    def backward(self, dy, *, input_gradient=True):
        dx = super().backward(dy, input_gradient=input_gradient)
        if dy is not None:
            accumulate(self.other, self.bias.grad)
        return dx


FAULTS = [
    (WritesGradient, (X,), "unchanged", "backward wrote into the given gradient"),
    (WritesInput, (X,), "unchanged", "forward wrote into input"),
    (WritesOutput, (X,), "unchanged", "backward wrote into the output"),
    (WritesParameter, (X,), "unchanged", "forward wrote into weight"),
    (KeepsGivenGradient, (X,), "ownership", "gradient of bias shares memory with the given gradient"),
    (KeepsReturnedGradient, (X,), "ownership", "gradient of bias shares memory with the returned gradient"),
    (SharesOneGradient, (X,), "ownership", "gradient of other shares memory with gradient of bias"),
]


@pytest.mark.parametrize(("fault", "inputs", "check", "message"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_planted_faults_are_found_and_named(fault, inputs, check, message):
    batch_dim = None if issubclass(fault, Shift) else 0
    with pytest.raises(CheckFailed, match="(?s)" + message) as caught:
        check_layer(fault(), *inputs, batch_dim=batch_dim)
    assert caught.value.check == check
    assert str(caught.value).startswith(fault.__name__)


def test_both_checks_have_planted_faults():
    assert {check for _, _, check, _ in FAULTS} == {"unchanged", "ownership"}
