"""A loss for the tests of steps and training."""

from ds_core import Module


class Squares(Module):
    """Mean squared error."""

    def forward(self, input, target):
        self.save(input - target)
        return (input - target).square().mean()

    def backward(self, grad=None):
        (difference,) = self.saved()
        gradient = 2 * difference / difference.numel()
        return gradient if grad is None else gradient * grad
