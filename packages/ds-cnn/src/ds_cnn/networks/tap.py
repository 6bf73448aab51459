"""What a layer inside a network gives, and the gradient that comes back to it. Theory: docs/grad_cam.md."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ds_core.errors import did_you_mean
from torch import Tensor


class Tap:
    """Stands before the methods of a layer, and keeps what passes.

    Attributes:
        outputs: what each call of forward returned, in order.
        gradients: what the backward of each call was given, in the same order.
    """

    def __init__(self, layer: Any) -> None:
        self.outputs: list[Any] = []
        self.gradients: list[Tensor | None] = []
        self._forward, self._backward = layer.forward, layer.backward

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """The layer's own forward."""
        output = self._forward(*inputs, **options)
        self.outputs.append(output)
        return output

    def backward(self, *dys: Tensor | None, **options: Any) -> Any:
        """Keep the gradient and hand none down: every layer below takes its entry off the trace, and computes nothing.

        Backward takes the calls of forward in reverse order.
        """
        self.gradients.insert(0, dys[0] if dys else None)
        return self._backward(*[None] * len(dys))


@contextmanager
def tapped(layer: Any) -> Iterator[Tap]:
    """Inside, a `Tap` sees the calls of `layer`, wherever in a network it is, and backward ends there.

        with tapped(network.features[3]) as tap, record():
            network.backward(dlogits(network(x)))
        tap.outputs, tap.gradients

    The network's structure, names and parameters stay as they are.
    """
    tap = Tap(layer)
    object.__setattr__(layer, "forward", tap.forward)
    object.__setattr__(layer, "backward", tap.backward)
    try:
        yield tap
    finally:
        object.__delattr__(layer, "forward")
        object.__delattr__(layer, "backward")


def layer_named(model: Any, name: str) -> Any:
    """The layer of that dotted name, one of `model.named_modules()`.

    Raises:
        ValueError: there is none; the message has the nearest name.
    """
    layers = dict(model.named_modules())
    if name not in layers or name == "":
        known = [known for known in layers if known]
        raise ValueError(
            f"{type(model).__name__} has no layer {name!r}, expected one of {', '.join(known)}"
            f"{did_you_mean(name, known)}"
        )
    return layers[name]
