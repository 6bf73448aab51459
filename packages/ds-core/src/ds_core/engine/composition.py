"""Layers made of layers, each with a backward of its own. Theory: docs/composition.md."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from ds_core.engine.attributes import is_layer
from ds_core.engine.module import Module
from ds_core.engine.trace import no_record
from ds_core.errors import ShapeError, no_layer
from ds_core.protocols import takes_input_gradient


class Sequential(Module):
    """One layer after the other: y = f_n(... f_2(f_1(x))).

    Twin of torch.nn.Sequential. `backward(dy, input_gradient=False)` computes no
    gradient that only the input needs: nothing below the first layer that has a
    parameter to train. One dict of layers gives them names, as `Sequential({"hidden": ..., "output": ...})`.
    """

    def __init__(self, *layers: Any) -> None:
        named = layers[0] if len(layers) == 1 and isinstance(layers[0], dict) else dict(enumerate(layers))
        for name, layer in named.items():
            if not str(name) or "." in str(name) or hasattr(type(self), str(name)):
                raise KeyError(f"Sequential: a layer cannot be named {name!r}: empty, with a dot, or a method's name")
            setattr(self, str(name), require_layer(f"Sequential.{name}", layer))

    def __len__(self) -> int:
        return sum(1 for _ in self.named_children())

    def __iter__(self) -> Iterator[Any]:
        return (layer for _, layer in self.named_children())

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Sequential(dict(list(self.named_children())[index]))
        return list(self)[index]

    def append(self, layer: Any) -> "Sequential":
        names = {name for name, _ in self.named_children()}
        name = next(name for name in map(str, itertools.count(len(names))) if name not in names)
        setattr(self, name, require_layer(f"Sequential.{name}", layer))
        return self

    def forward(self, input: Any) -> Any:
        for layer in self:
            input = layer.forward(input)
        return input

    def backward(self, *dys: Any, input_gradient: bool = True) -> Any:
        return backward_through([layer for _, layer in self.named_children()], *dys, input_gradient=input_gradient)


class Residual(Module):
    """y = x + f(x) (He et al., "Deep Residual Learning", 2015, equation 1); so dx = dy + f'(x)^T dy."""

    def __init__(self, layer: Any) -> None:
        self.layer = require_layer("Residual", layer)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.layer.forward(x)
        if branch.shape != x.shape:
            raise ShapeError(
                f"{self!r}: the layer gives {tuple(branch.shape)} from an input {tuple(x.shape)}, "
                "expected the same shape"
            )
        return x + branch

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        if not input_gradient:
            backward_without_input(self.layer, dy)
            return None
        return merge_gradients(dy, self.layer.backward(dy))  # dx = dy + J^T dy                       (2)


class Parallel(Module):
    """One input to many layers, y_i = f_i(x), as a tuple; so dx = sum_i f_i'(x)^T dy_i."""

    def __init__(self, *layers: Any) -> None:
        self.layers = [require_layer(f"Parallel.{index}", layer) for index, layer in enumerate(layers)]

    def forward(self, x: Any) -> tuple[Any, ...]:
        return tuple(layer.forward(x) for layer in self.layers)

    def backward(self, *dys: Any, input_gradient: bool = True) -> Any:
        if len(dys) > len(self.layers):
            raise TypeError(f"Parallel of {len(self.layers)} layers: given {len(dys)} gradients")
        dx = None
        for layer, dy in reversed([*zip(self.layers, [*dys, *[None] * (len(self.layers) - len(dys))], strict=True)]):
            dys_of_layer = dy if isinstance(dy, tuple) else (dy,)
            if input_gradient:
                dx = merge_gradients(dx, layer.backward(*dys_of_layer))  # dx = sum_i J_i^T dy_i      (3)
            else:
                backward_without_input(layer, *dys_of_layer)
        return dx


class Frozen(Module):
    """A layer that is not trained and passes no gradient on: it keeps nothing for backward and has no work there.

    `Sequential(Frozen(backbone), head)` costs the memory and the backward of the head alone.
    Sets `requires_grad = False` on the layer's parameters; they stay listed and saved.
    """

    def __init__(self, layer: Any) -> None:
        self.layer = require_layer("Frozen", layer)
        self.requires_grad_(False)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        with no_record():
            return self.layer.forward(*inputs, **options)

    def backward(self, *dys: Any, input_gradient: bool = True) -> None:
        return None


def backward_through(layers: Sequence[Any], *dys: Any, input_gradient: bool = True) -> Any:
    """Go back through layers that were called one after the other, the last one first.

    Args:
        layers: in the order of their calls.
        dys: the gradient of what the last one returned, one for each output.
        input_gradient: whether the gradient of the first one's input is wanted, and returned; without it nothing is
            computed below the first layer that has a parameter to train.
    """
    first = 0 if input_gradient else _first_trainable(layers)
    for layer in reversed(layers[first + 1 :]):
        dx = layer.backward(*dys)  # dx_(k-1) = J_k^T dx_k                                      (1)
        dys = dx if isinstance(dx, tuple) else (dx,)
    if input_gradient:
        return layers[0].backward(*dys) if layers else dys[0]
    if first < len(layers):
        backward_without_input(layers[first], *dys)
    for layer in reversed(layers[:first]):
        layer.backward(None)
    return None


def require_layer(owner: str, layer: Any) -> Any:
    """`layer` itself, if it is one.

    Raises:
        TypeError: it is something else; `owner` says in the message who was given it.
    """
    if is_layer(layer):
        return layer
    raise TypeError(f"{owner}: {no_layer(layer)}")


def merge_gradients(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """The gradient of a value that was used twice: first + second, in a new tensor. None means zeros.

    If one is None, the result is the other one itself: do not write to it.
    """
    if first is None or second is None:
        return second if first is None else first
    return first + second


def backward_without_input(layer: Any, *dys: Any) -> None:
    """Go back through `layer` for its parameters' gradients alone; where it trains none, only take its entries."""
    if not trainable(layer):
        layer.backward(*[None] * len(dys))
    elif takes_input_gradient(layer.backward):
        layer.backward(*dys, input_gradient=False)
    else:
        layer.backward(*dys)


def backward_if(needed: bool, layer: Any, dy: Tensor | None) -> Tensor | None:
    """Go back through one layer; if its input's gradient is not needed, for its parameters alone."""
    if needed:
        dx: Tensor | None = layer.backward(dy)
        return dx
    backward_without_input(layer, dy)
    return None


def trainable(*layers: Any) -> bool:
    """Whether one of the layers has a parameter that is not frozen."""
    return any(tensor.requires_grad for layer in layers for tensor in layer.parameters())


def _first_trainable(layers: Sequence[Any]) -> int:
    for index, layer in enumerate(layers):  # not by `next`, whose default the compiler of torch 2.6 does not take
        if trainable(layer):
            return index
    return len(layers)
