"""The rectifier that stops at 6. Theory: docs/relu6.md."""

from torch import Tensor

from ds_core.activations.hardtanh import Hardtanh, hardtanh, hardtanh_backward


def relu6(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = min(max(x, 0), 6)."""
    return hardtanh(x, 0, 6)


def relu6_backward(dy: Tensor, y: Tensor) -> Tensor:
    """dy, y -> dx, all of one shape."""
    return hardtanh_backward(dy, y, 0, 6)  # dx = dy [0 < y < 6]                                            (1)


class ReLU6(Hardtanh):
    """y = min(max(x, 0), 6), element by element (Krizhevsky, "Convolutional Deep Belief Networks on CIFAR-10", 2010).

    Twin of torch.nn.ReLU6, `inplace` left out: the `Hardtanh` from 0 to 6.
    """

    def __init__(self) -> None:
        super().__init__(0.0, 6.0)

    def extra_repr(self) -> str:
        return ""
