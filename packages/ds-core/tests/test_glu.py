"""GLU against finite differences, autograd, torch.nn, its extremes and a worked example."""

import pytest
import torch
from activation_checks import (
    EXTREMES,
    by_autograd,
    check_any,
    check_one_graph,
    handwritten,
    kept_bytes,
    tensors,
)
from ds_core import GLU, ShapeError
from ds_core.activations.glu import glu_backward, glu_with_slopes
from ds_core.speed.elementwise import CHUNK
from ds_core.testing import check_layer, check_twin_grid
from hypothesis import given, settings


@pytest.mark.parametrize(("shape", "dim"), [((8,), -1), ((3, 4, 6), 2), ((3, 4, 6), -2), ((2, 3, 5), 0)])
def test_glu_is_right(shape: tuple[int, ...], dim: int) -> None:
    batch = None if len(shape) == 1 else 1 if dim == 0 else 0
    check_layer(GLU(dim), 2 * torch.randn(shape), batch_dim=batch)


def test_glu_is_the_twin() -> None:
    assert check_twin_grid(GLU, torch.nn.GLU, {"dim": [-1, -2, -3, 0, 1, 2]}, [3 * torch.randn(2, 4, 6)]) == 6


@pytest.mark.parametrize(
    ("shape", "dim", "error", "message"),
    [
        ((4, 3), 1, ShapeError, r"GLU\(dim=1\): given input of shape \(4, 3\), expected an even dimension 1"),
        ((), -1, ShapeError, r"given input of shape \(\), expected at least one dimension"),
        ((4, 6), 2, IndexError, r"given input of shape \(4, 6\), which has no dimension 2"),
        ((4, 6), -3, IndexError, r"which has no dimension -3"),
    ],
)
def test_glu_refuses_what_the_twin_refuses(
    shape: tuple[int, ...], dim: int, error: type[Exception], message: str
) -> None:
    x = torch.randn(shape)
    with pytest.raises((RuntimeError, IndexError)):
        torch.nn.GLU(dim)(x)
    with pytest.raises(error, match=message):
        GLU(dim)(x)


def test_worked_example() -> None:
    a, b = torch.tensor([[1.0], [-2.0]]), torch.tensor([[0.0], [0.5]])
    y, slope_a, slope_b = glu_with_slopes(a, b)
    near = {"rtol": 0, "atol": 5e-5}
    torch.testing.assert_close(slope_a, torch.tensor([[0.5], [0.6225]]), **near)
    torch.testing.assert_close(y, torch.tensor([[0.5], [-1.2449]]), **near)
    torch.testing.assert_close(slope_b, torch.tensor([[0.25], [-0.4700]]), **near)
    assert float(y[1, 0] * (1 - slope_a[1, 0])) == pytest.approx(-1.2449 * (1 - 0.6225), abs=1e-4)
    dx = glu_backward(torch.tensor([[1.0], [-3.0]]), slope_a, slope_b, 1)
    torch.testing.assert_close(dx, torch.tensor([[0.5, 0.25], [-1.8674, 1.4100]]), **near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_glu_at_extremes_in_both_engines(dtype: torch.dtype) -> None:
    """Every finite a with every b, infinite ones too."""
    numbers = torch.tensor(EXTREMES, dtype=dtype)
    x = torch.cartesian_prod(numbers[numbers.isfinite()], numbers)
    dy = torch.ones(len(x), 1, dtype=dtype)
    y, dx = by_autograd(torch.nn.GLU(), x, dy)
    assert y.isfinite().all()
    assert dx.isfinite().all()
    rtol = 1e-5 if dtype == torch.float32 else 1e-13
    found, gradient = handwritten(GLU(), x, dy)
    torch.testing.assert_close(found, y, rtol=rtol, atol=1e-24)
    torch.testing.assert_close(gradient, dx, rtol=rtol, atol=1e-24)
    found, gradient = by_autograd(GLU(), x, dy)
    torch.testing.assert_close(found, y, rtol=rtol, atol=1e-20)
    # autograd squares s, which vanishes, and the twin takes 1 - s, which rounds: each a unit of s times a
    near = x[:, :1].abs().clamp_min(1) * torch.finfo(dtype).eps
    assert ((gradient - dx).abs() <= near + rtol * dx.abs()).all()


def test_glu_in_float32_keeps_the_digits() -> None:
    x, dy = torch.stack([torch.linspace(-3, 4, 4001), torch.linspace(-12, 12, 4001)]), torch.linspace(0.5, 2, 4001)
    y, dx = by_autograd(torch.nn.GLU(0), x.double(), dy.double()[None])
    for found, gradient in (handwritten(GLU(0), x, dy[None]), by_autograd(GLU(0), x, dy[None])):
        torch.testing.assert_close(found.double(), y, rtol=2e-6, atol=1e-12)
        torch.testing.assert_close(gradient.double(), dx, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_glu_in_half_precision_rounds_once(dtype: torch.dtype) -> None:
    x = torch.stack([torch.randn(1000), 4 * torch.randn(1000)]).to(dtype)
    dy = torch.randn(1, 1000).to(dtype)
    y, dx = handwritten(GLU(0), x, dy)
    assert (y.dtype, dx.dtype) == (dtype, dtype)
    assert torch.equal(y, handwritten(GLU(0), x.float(), dy.float())[0].to(dtype))
    wanted = by_autograd(torch.nn.GLU(0), x.float(), dy.float())[1]
    digit = torch.finfo(dtype).eps
    torch.testing.assert_close(dx.float(), wanted, rtol=2 * digit, atol=digit / 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("dim", [0, 1])
def test_glu_in_chunks_equals_the_whole(dtype: torch.dtype, dim: int) -> None:
    x = (3 * torch.randn(2, CHUNK + 77)).to(dtype)
    dy = torch.randn(1, CHUNK + 77).to(dtype)
    if dim == 1:
        x, dy = x.t().contiguous(), dy.t().contiguous()
    with torch.no_grad():
        alone = GLU(dim)(x)
    y, dx = handwritten(GLU(dim), x, dy)
    parts = [handwritten(GLU(dim), *part) for part in zip(x.split(1000, 1 - dim), dy.split(1000, 1 - dim), strict=True)]
    for whole, index in zip((y, alone, dx), (0, 0, 1), strict=True):
        torch.testing.assert_close(whole, torch.cat([part[index] for part in parts], 1 - dim))


@given(tensors(dims=1))
@settings(max_examples=25, deadline=None)
def test_glu_of_any_shape(x: torch.Tensor) -> None:
    for dim in range(x.dim()):
        if x.shape[dim] % 2 == 0:
            check_any(GLU(dim), torch.nn.GLU(dim), x)


def test_glu_keeps_two_slopes_together_as_large_as_x() -> None:
    assert kept_bytes(GLU(), torch.randn(100, 10)) == 4000


def test_glu_compiles_in_one_graph() -> None:
    check_one_graph(GLU())
