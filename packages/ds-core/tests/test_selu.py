"""SELU against finite differences, autograd, torch.nn, its fixed point, kink and extremes and a worked example."""

import math

import pytest
import torch
from ds_core import SELU, record
from ds_core.activations.selu import ALPHA, SCALE, selu, selu_with_slope
from ds_core.activations.smooth import slope_backward
from ds_core.testing import check_layer, check_twin_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_engines import check_both_engines, check_compiled_step


@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5)])
def test_selu_is_right(shape: tuple[int, ...]) -> None:
    check_layer(SELU(), 2 * torch.randn(shape), batch_dim=0 if len(shape) > 1 else None)


def test_selu_is_the_twin() -> None:
    assert check_twin_grid(SELU, torch.nn.SELU, {}, [3 * torch.randn(4, 5)]) == 1
    assert repr(SELU()) == repr(torch.nn.SELU())


def test_worked_example() -> None:
    x = torch.tensor([[1.0, -1.0], [-2.0, 0.0]])
    y, slope = selu_with_slope(x)
    near = {"rtol": 0, "atol": 5e-5}
    torch.testing.assert_close(y, torch.tensor([[1.0507, -1.1113], [-1.5202, 0.0]]), **near)
    torch.testing.assert_close(slope, torch.tensor([[1.0507, 0.6468], [0.2379, 1.7581]]), **near)
    dx = slope_backward(torch.tensor([[2.0, 1.0], [-3.0, 0.5]]), slope)
    torch.testing.assert_close(dx, torch.tensor([[2.1014, 0.6468], [-0.7138, 0.8790]]), **near)
    with torch.no_grad():
        assert torch.equal(selu(x), y)
    assert [ALPHA, SCALE, SCALE * ALPHA, math.exp(-1)] == pytest.approx([1.6733, 1.0507, 1.7581, 0.3679], abs=5e-5)


def test_selu_keeps_mean_0_and_variance_1() -> None:
    """The integrals of y and y^2 over a standard normal x, (1) of docs/selu.md, by a fine trapezoid sum."""
    x = torch.linspace(-40, 40, 800_001, dtype=torch.float64)
    weight = torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    with torch.no_grad():
        y = selu(x)
    assert float((weight * y).sum()) == pytest.approx(0, abs=1e-9)
    assert float((weight * y**2).sum()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_selu_at_kink_and_extremes_in_both_engines(dtype: torch.dtype) -> None:
    inf = float("inf")
    x = torch.tensor([0.0, -0.0, 1e4, -1e4, inf, -inf, 1e-10, -1e-10, 1e-30, -1e-30, 30.0, 1.0, -1.0], dtype=dtype)
    check_both_engines(SELU(), torch.nn.SELU(), x, rtol=1e-6, atol=0)


@settings(max_examples=20, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_selu_of_any_shape_is_the_twin(shape: list[int], dtype: torch.dtype) -> None:
    near = {"rtol": 2**-7, "atol": 1e-5} if dtype == torch.bfloat16 else {"rtol": 2e-6, "atol": 1e-7}
    check_both_engines(SELU(), torch.nn.SELU(), 3 * torch.randn(shape).to(dtype), **near)


def test_selu_keeps_one_tensor_of_the_size_of_x() -> None:
    layer = SELU()
    with record() as trace:
        layer(torch.randn(100, 10))
        assert [line.bytes for line in trace.kept()] == [4000]
        layer.backward(None)


def test_selu_compiles_in_one_graph() -> None:
    check_compiled_step(SELU())
