"""All activations in one table, and what holds for each: both engines, extremes, half precision, chunks, plain form."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import ds_core
import torch
from ds_core import plain, record
from ds_core.speed.elementwise import CHUNK
from ds_core.testing import one_graph
from hypothesis import strategies as st
from torch import Tensor


class Case(NamedTuple):
    """An activation, its twin, and the values of its arguments, tried in every combination."""

    layer: Callable[..., Any]
    twin: Callable[..., Any]
    arguments: dict[str, list[Any]]
    twin_options: Mapping[str, Any] = MappingProxyType({})  # of check_twin_grid

    @property
    def name(self) -> str:
        """As the file and the function are called."""
        return self.layer.__module__.rpartition(".")[2]

    def combinations(self) -> Iterator[dict[str, Any]]:
        for values in itertools.product(*self.arguments.values()):
            yield dict(zip(self.arguments, values, strict=True))


class TorchQuickGELU(torch.nn.Module):
    """`QuickGELUActivation` of transformers."""

    def forward(self, input: Tensor) -> Tensor:
        return input * torch.sigmoid(1.702 * input)


# test_activation_table.py checks each line, and test_plain.py the plain pair of each smooth activation. A line whose
# class has another test file needs no more there than its worked example and what is peculiar to it.
TABLE = [
    Case(ds_core.CELU, torch.nn.CELU, {"alpha": [1.0, 2.0, 0.375]}),
    Case(ds_core.ELU, torch.nn.ELU, {"alpha": [1.0, 0.5, -1.5]}),
    Case(ds_core.GELU, torch.nn.GELU, {"approximate": ["none", "tanh"]}),
    Case(ds_core.GLU, torch.nn.GLU, {"dim": [-1, 0]}),
    Case(ds_core.Hardsigmoid, torch.nn.Hardsigmoid, {}, {"rtol": 1e-7}),  # theirs takes 1/6 in float32
    Case(ds_core.Hardswish, torch.nn.Hardswish, {}),
    Case(
        ds_core.Hardtanh,
        torch.nn.Hardtanh,
        {"min_val": [-1.0, 0.1], "max_val": [1.0]},
        {"left_out": ["min_value", "max_value"]},
    ),
    Case(ds_core.LeakyReLU, torch.nn.LeakyReLU, {"negative_slope": [0.01, 2.0, -0.5]}),
    Case(ds_core.LogSigmoid, torch.nn.LogSigmoid, {}),
    Case(ds_core.LogSoftmax, torch.nn.LogSoftmax, {"dim": [-1, 0]}),
    Case(ds_core.Mish, torch.nn.Mish, {}),
    Case(ds_core.PReLU, torch.nn.PReLU, {"num_parameters": [1, 6]}),
    Case(ds_core.QuickGELU, TorchQuickGELU, {}, {"check_arguments": False}),
    Case(ds_core.ReLU, torch.nn.ReLU, {}),
    Case(ds_core.ReLU6, torch.nn.ReLU6, {}),
    Case(ds_core.SELU, torch.nn.SELU, {}),
    Case(ds_core.SiLU, torch.nn.SiLU, {}),
    Case(ds_core.Sigmoid, torch.nn.Sigmoid, {}),
    Case(ds_core.Softmax, torch.nn.Softmax, {"dim": [-1, 0]}),
    Case(ds_core.Softmin, torch.nn.Softmin, {"dim": [-1, 0]}),
    Case(ds_core.Softplus, torch.nn.Softplus, {"beta": [1.0, 2.0], "threshold": [20.0, 1.0, 50.0]}),
    Case(ds_core.Softsign, torch.nn.Softsign, {}),
    Case(ds_core.Tanh, torch.nn.Tanh, {}),
]

INF = float("inf")
EXTREMES = [0.0, -0.0, 1e4, -1e4, 30.0, -30.0, 75.0, -75.0, 110.0, -110.0, 1e-10, -1e-10, 1e13, -1e13, INF, -INF]


def handwritten(layer: Any, x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    """y and dx by our backward."""
    with record():
        y = layer(x)
        return y, layer.backward(dy)


def by_autograd(function: Callable[[Tensor], Tensor], x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    """y and dx by autograd through any forward."""
    leaf = x.clone().requires_grad_()
    y = function(leaf)
    y.backward(dy)
    return y.detach(), leaf.grad


def check_extremes(layer: Any, twin: Callable[[Tensor], Tensor], dtype: torch.dtype, slope: Any = None) -> None:
    """In both engines value and gradient are the twin's (or `slope`) wherever those are finite; infinite values too.

    Autograd's gradient may be off by a unit of the largest one: it squares small numbers, which vanish, and takes
    differences of large ones; its value may be the inverse of the largest number where it should be 0.
    """
    x = torch.tensor(EXTREMES, dtype=dtype)
    y, dx = by_autograd(twin, x, torch.ones_like(x))
    dx = dx if slope is None else torch.where(dx.isfinite(), slope(x), dx)
    assert y.isfinite().sum() >= len(x) - 3
    assert dx[x.isfinite()].isfinite().all()
    rtol = 1e-5 if dtype == torch.float32 else 1e-13  # powers of 2 cost |x| units in the last place
    ours, auto = handwritten(layer, x, torch.ones_like(x)), by_autograd(layer, x, torch.ones_like(x))
    for (found, gradient), near, near_gradient in ((ours, 1e-36, 1e-36), (auto, 1e-20, torch.finfo(dtype).eps)):
        torch.testing.assert_close(found[~y.isnan()], y[~y.isnan()], rtol=rtol, atol=near)
        torch.testing.assert_close(gradient[dx.isfinite()], dx[dx.isfinite()], rtol=rtol, atol=near_gradient)


def check_digits(layer: Any, twin: Callable[[Tensor], Tensor], autograd: float = 3e-7) -> None:
    """In float32 value and gradient are those of float64 to rounding; autograd's gradient within `autograd` of it."""
    x, dy = torch.linspace(-12, 12, 4001), torch.linspace(0.5, 2, 4001)
    y, dx = by_autograd(twin, x.double(), dy.double())
    for (found, gradient), near in ((handwritten(layer, x, dy), 3e-7), (by_autograd(layer, x, dy), autograd)):
        torch.testing.assert_close(found.double(), y, rtol=2e-6, atol=1e-12)
        torch.testing.assert_close(gradient.double(), dx, rtol=2e-6, atol=near)


def check_rounded_once(layer: Any, x: Tensor, dy: Tensor) -> None:
    """In half precision the value is that of float32, rounded once."""
    y, dx = handwritten(layer, x, dy)
    assert (y.dtype, dx.dtype) == (x.dtype, x.dtype)
    assert torch.equal(y, handwritten(layer, x.float(), dy.float())[0].to(x.dtype))


def check_half_precision(layer: Any, twin: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    """The value is that of float32, rounded once; the gradient lies within a digit of the twin's."""
    x = torch.cat([4 * torch.randn(1000), torch.tensor([0.0, 30.0, -30.0, 1e4, -1e4])]).to(dtype)
    dy = torch.randn(len(x)).to(dtype)
    check_rounded_once(layer, x, dy)
    y, dx = handwritten(layer, x, dy)
    wanted, gradient = by_autograd(twin, x.float(), dy.float())
    digit = torch.finfo(dtype).eps
    torch.testing.assert_close(y.float(), wanted, rtol=digit, atol=1e-7)
    torch.testing.assert_close(dx.float(), gradient, rtol=2 * digit, atol=2 * digit)


def check_chunks(layer: Any, dtype: torch.dtype) -> None:
    """A tensor of more than a chunk gives what parts too small to be cut give one by one."""
    x, dy = (3 * torch.randn(CHUNK + 77)).to(dtype), torch.randn(CHUNK + 77).to(dtype)
    with torch.no_grad():
        alone = layer(x)
    y, dx = handwritten(layer, x, dy)
    parts = [handwritten(layer, *part) for part in zip(x.split(1000), dy.split(1000), strict=True)]
    for whole, index in zip((y, alone, dx), (0, 0, 1), strict=True):
        torch.testing.assert_close(whole, torch.cat([part[index] for part in parts]))


def check_plain_form(layer: Any, x: Tensor) -> None:
    """In float64 value and gradient are finite in both engines, and inside `with plain():` they are the same."""
    x = x.double()
    dy = torch.linspace(0.5, 1.5, layer(x).numel(), dtype=x.dtype).view(layer(x).shape)
    for engine in (handwritten, by_autograd):
        fast = engine(layer, x, dy)
        with plain():
            textbook = engine(layer, x, dy)
        for title, found, expected in zip(("y", "dx"), fast, textbook, strict=True):
            assert found.isfinite().all(), (layer, engine.__name__, title)
            torch.testing.assert_close(
                found,
                expected,
                rtol=1e-12,
                atol=1e-12,
                msg=lambda text, title=title, engine=engine: f"{layer}, {engine.__name__}, {title}: {text}",
            )


def check_one_graph(layer: Any) -> None:
    def step(x: Tensor) -> Tensor:
        with record():
            return layer.backward(layer(x) * 2)

    compiled = one_graph(step, dynamic=True)
    for x in (torch.randn(3, 4), torch.randn(5, 6)):
        torch.testing.assert_close(compiled(x), step(x))


def kept_bytes(layer: Any, x: Tensor) -> int:
    with record() as trace:
        layer(x)
        size = sum(line.bytes for line in trace.kept())
        layer.backward(None)
    return size


@st.composite
def tensors(draw: Any, dims: int = 0) -> Tensor:
    """Of `dims` to 4 dimensions, each of 0 to 3 numbers, in float32 or float64."""
    shape = draw(st.lists(st.integers(0, 3), min_size=dims, max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    scale = draw(st.sampled_from([1e-3, 1.0, 30.0]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    return scale * torch.randn(shape, generator=generator, dtype=dtype)


def check_any(layer: Any, twin: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Values and gradients of both engines are the twin's."""
    y, dx = by_autograd(twin, x, dy := torch.randn_like(twin(x)))
    # what multiplies x, or a half of it, is rounded to units of 1, here and in the twin
    largest = max(1.0, float(x.abs().max())) if x.numel() > 0 else 1.0
    near = {"rtol": 3e-6 if x.dtype == torch.float32 else 1e-9, "atol": 8 * torch.finfo(x.dtype).eps * largest}
    for found, gradient in (handwritten(layer, x, dy), by_autograd(layer, x, dy)):
        assert (found.shape, found.dtype, gradient.dtype) == (y.shape, y.dtype, x.dtype)
        torch.testing.assert_close(found, y, **near)
        torch.testing.assert_close(gradient, dx, **near)
