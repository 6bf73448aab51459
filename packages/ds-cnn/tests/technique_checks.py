"""What every technique of convolution is held to: torch.nn in float64, in both engines, in chunks and whole."""

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from ds_cnn import TECHNIQUES
from ds_cnn.convolutions import chunked, depthwise, winograd_tiles
from ds_core import primitives_only

CONVOLUTIONS = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}

# The example of docs/plain_convolution.md, which every technique's page works out in its own way
IMAGE = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0], [2.0, 1.0, 1.0]]).view(1, 1, 3, 3)
KERNEL = torch.tensor([[1.0, -0.5], [0.5, 2.0]]).view(1, 1, 2, 2)


class Shapes(NamedTuple):
    """One convolution."""

    batch: int
    size: tuple[int, ...]
    channels: int
    filters: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def window(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self.groups


def draws(count: int, seed: int = 0, **fixed: Any) -> Iterator[Shapes]:
    """Random convolutions that have an output; `fixed` gives what is not drawn, with one number for each axis."""
    source = random.Random(seed)
    while count:
        axes = fixed.get("axes", source.choice([1, 2, 2, 3]))

        def each(name: str, low: int, high: int, axes: int = axes) -> tuple[int, ...]:
            given = fixed.get(name)
            return (given,) * axes if given is not None else tuple(source.randint(low, high) for _ in range(axes))

        groups = fixed.get("groups", source.choice([1, 1, 2, 3]))
        channels = groups * fixed.get("channels_per_group", source.randint(1, 3))
        shapes = Shapes(
            source.randint(0, 3),
            each("size", 1, 11 if axes < 3 else 5),
            channels,
            groups * source.randint(1, 3),
            each("kernel_size", 1, 4),
            each("stride", 1, 3),
            each("padding", 0, fixed.get("most_padding", 3)),
            each("dilation", 1, 2),
            groups,
        )
        spans = [d * (k - 1) + 1 for k, d in zip(shapes.kernel_size, shapes.dilation, strict=True)]
        if all(s + 2 * p >= span for s, p, span in zip(shapes.size, shapes.padding, spans, strict=True)):
            count -= 1
            yield shapes


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """The same numbers with the channels last in memory."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def check_technique(name: str, cases: Iterator[Shapes], monkeypatch: Any, tolerance: float = 1e-12) -> int:
    """Hold a technique against torch.nn; how many cases there were.

    Every fourth case is cut into the smallest chunks, every second into small ones. Images and gradients have their
    channels first or last in memory, in turn.
    """
    technique = TECHNIQUES[name]
    count = 0
    for count, case in enumerate(cases, start=1):
        for module, limit in ((chunked, "CHUNK"), (depthwise, "CHUNK"), (winograd_tiles, "TILES")):
            monkeypatch.setattr(module, limit, (1, 300, 2**18, 300)[count % 4])
        x = torch.randn(case.batch, case.channels, *case.size, dtype=torch.float64)
        weight = torch.randn(case.filters, case.channels // case.groups, *case.kernel_size, dtype=torch.float64)
        bias = torch.randn(case.filters, dtype=torch.float64) if count % 2 else None
        leaves = x.clone().requires_grad_(), weight.clone().requires_grad_()
        y = CONVOLUTIONS[len(case.size)](*leaves, bias, *case.window)
        dy = torch.randn_like(y)
        expected = (y.detach(), *torch.autograd.grad(y, leaves, dy))
        x = channels_last(x) if count // 4 % 2 else x
        dy = channels_last(dy) if count // 8 % 2 else dy

        def run(x=x, weight=weight, bias=bias, dy=dy, case=case):
            return (
                technique.forward(x, weight, bias, *case.window),
                technique.input_gradient(dy, weight, case.size, *case.window),
                technique.weight_gradient(dy, x, case.kernel_size, *case.window),
            )

        with torch.no_grad(), primitives_only():
            found = run()
        for results in (found, run()):
            for result, reference in zip(results, expected, strict=True):
                torch.testing.assert_close(
                    result, reference, rtol=tolerance, atol=tolerance, msg=lambda text, case=case: f"{case}: {text}"
                )
    return count


def check_autograd(name: str, case: Shapes) -> None:
    """Hold autograd's gradients of the forward against the technique's own, and differentiate the forward twice."""
    technique = TECHNIQUES[name]
    x = torch.randn(case.batch, case.channels, *case.size, dtype=torch.float64, requires_grad=True)
    shape = (case.filters, case.channels // case.groups, *case.kernel_size)
    weight = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(case.filters, dtype=torch.float64, requires_grad=True)
    y = technique.forward(x, weight, bias, *case.window)
    dy = torch.randn_like(y)
    dx, dweight = torch.autograd.grad(y, (x, weight), dy, retain_graph=True)
    with torch.no_grad():
        torch.testing.assert_close(technique.input_gradient(dy, weight, case.size, *case.window), dx)
        torch.testing.assert_close(technique.weight_gradient(dy, x, case.kernel_size, *case.window), dweight)
    torch.autograd.gradgradcheck(lambda *leaves: technique.forward(*leaves, *case.window), (x, weight, bias))
