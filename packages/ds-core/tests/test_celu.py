"""CELU against finite differences, autograd, torch.nn, its kink and extremes and a worked example."""

import math

import pytest
import torch
from ds_core import CELU, record
from ds_core.activations.celu import celu, celu_with_slope
from ds_core.activations.smooth import slope_backward
from ds_core.testing import check_layer, check_twin_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_engines import check_both_engines, check_compiled_step

# 49 (1 / 49) is not 1 in floating point; each is a float32 number, as the twin rounds alpha in backward
ALPHAS = [1.0, 2.0, 0.375, 49.0, -1.5]


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5)])
def test_celu_is_right(alpha: float, shape: tuple[int, ...]) -> None:
    check_layer(CELU(alpha), 2 * torch.randn(shape), batch_dim=0 if len(shape) > 1 else None)


def test_celu_is_the_twin() -> None:
    assert check_twin_grid(CELU, torch.nn.CELU, {"alpha": ALPHAS}, [3 * torch.randn(4, 5)]) == 5
    assert repr(CELU(0.5)) == repr(torch.nn.CELU(0.5))


def test_celu_refuses_to_divide_by_0() -> None:
    with pytest.raises(RuntimeError, match="alpha cannot be 0"):
        torch.nn.CELU(0.0)(torch.ones(1))
    with pytest.raises(ValueError, match="CELU: given alpha=0"):
        CELU(0.0)


def test_worked_example() -> None:
    x = torch.tensor([[1.0, -1.0], [-4.0, 0.0]])
    y, slope = celu_with_slope(x, 2.0)
    near = {"rtol": 0, "atol": 5e-5}
    torch.testing.assert_close(y, torch.tensor([[1.0, -0.7869], [-1.7293, 0.0]]), **near)
    torch.testing.assert_close(slope, torch.tensor([[1.0, 0.6065], [0.1353, 1.0]]), **near)
    dx = slope_backward(torch.tensor([[5.0, 2.0], [-3.0, 4.0]]), slope)
    torch.testing.assert_close(dx, torch.tensor([[5.0, 1.2131], [-0.4060, 4.0]]), **near)
    with torch.no_grad():
        assert torch.equal(celu(x, 2.0), y)
    assert [math.exp(-0.5), math.exp(-2)] == pytest.approx([0.6065, 0.1353], abs=5e-5)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_celu_at_kink_and_extremes_in_both_engines(alpha: float, dtype: torch.dtype) -> None:
    """With a negative alpha they are infinite, as in the twin."""
    inf = float("inf")
    x = torch.tensor([0.0, -0.0, 1e4, -1e4, inf, -inf, 1e-10, -1e-10, 1e-30, -1e-30, 30.0, 1.0, -1.0], dtype=dtype)
    check_both_engines(CELU(alpha), torch.nn.CELU(alpha), x, rtol=1e-6, atol=0 if alpha != 49 else 1e-30)


def test_celu_takes_alpha_as_it_is_where_the_twin_rounds_it_to_float32() -> None:
    x = torch.tensor([-1.0], dtype=torch.float64)
    _, slope = celu_with_slope(x, 0.3)
    assert float(slope) == pytest.approx(math.exp(-1 / 0.3), rel=1e-14)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    alpha=st.floats(0.25, 4, width=32),
)
def test_celu_of_any_shape_is_the_twin(shape: list[int], dtype: torch.dtype, alpha: float) -> None:
    near = {"rtol": 2**-7, "atol": 1e-5} if dtype == torch.bfloat16 else {"rtol": 2e-6, "atol": 1e-7}
    check_both_engines(CELU(alpha), torch.nn.CELU(alpha), 3 * torch.randn(shape).to(dtype), **near)


def test_celu_keeps_one_tensor_of_the_size_of_x() -> None:
    layer = CELU(2.0)
    with record() as trace:
        layer(torch.randn(100, 10))
        assert [line.bytes for line in trace.kept()] == [4000]
        layer.backward(None)


def test_celu_compiles_in_one_graph() -> None:
    check_compiled_step(CELU(2.0))
