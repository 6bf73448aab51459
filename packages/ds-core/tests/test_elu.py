"""ELU against finite differences, autograd, torch.nn, its kink and extremes and a worked example."""

import math

import pytest
import torch
from ds_core import ELU, record
from ds_core.activations.elu import elu, elu_with_slope
from ds_core.activations.smooth import slope_backward
from ds_core.speed.elementwise import CHUNK
from ds_core.testing import check_layer, check_twin_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_engines import check_both_engines, check_chunks, check_compiled_step

ALPHAS = [1.0, 0.5, 2.0, 0.0, -1.5]


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5)])
def test_elu_is_right(alpha: float, shape: tuple[int, ...]) -> None:
    check_layer(ELU(alpha), 2 * torch.randn(shape), batch_dim=0 if len(shape) > 1 else None)


def test_elu_is_the_twin() -> None:
    assert check_twin_grid(ELU, torch.nn.ELU, {"alpha": ALPHAS}, [3 * torch.randn(4, 5)]) == 5
    assert repr(ELU(0.5)) == repr(torch.nn.ELU(0.5))


def test_worked_example() -> None:
    x = torch.tensor([[1.0, -1.0], [-2.0, 0.0]])
    y, slope = elu_with_slope(x, 0.5)
    near = {"rtol": 0, "atol": 5e-5}
    torch.testing.assert_close(y, torch.tensor([[1.0, -0.3161], [-0.4323, 0.0]]), **near)
    torch.testing.assert_close(slope, torch.tensor([[1.0, 0.1839], [0.0677, 0.5]]), **near)
    dx = slope_backward(torch.tensor([[5.0, 6.0], [-3.0, 4.0]]), slope)
    torch.testing.assert_close(dx, torch.tensor([[5.0, 1.1036], [-0.2030, 2.0]]), **near)
    assert [math.exp(-1), math.exp(-2)] == pytest.approx([0.3679, 0.1353], abs=5e-5)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_elu_at_kink_and_extremes_in_both_engines(alpha: float, dtype: torch.dtype) -> None:
    inf = float("inf")
    x = torch.tensor([0.0, -0.0, 1e4, -1e4, inf, -inf, 1e-10, -1e-10, 1e-30, -1e-30, 30.0, 1.0, -1.0], dtype=dtype)
    check_both_engines(ELU(alpha), torch.nn.ELU(alpha), x, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("scale", "input_scale"), [(1.0, 1.0), (3.0, 1.0), (1.0, 0.5), (3.0, 2.0)])
@pytest.mark.parametrize("alpha", [1.0, 0.7])
def test_elu_keeps_its_digits_in_float32(alpha: float, scale: float, input_scale: float) -> None:
    """Of y where x is small, and of dy/dx where that is small."""
    x = torch.cat([-torch.logspace(-30, 1.3, 500), torch.linspace(-40, 5, 500)])
    y, slope = elu_with_slope(x, alpha, scale, input_scale)
    with torch.no_grad():
        torch.testing.assert_close(elu(x, alpha, scale, input_scale), y, rtol=0, atol=0)
    z = x.double()
    exact = torch.where(z > 0, scale * z, scale * alpha * torch.expm1(input_scale * z))
    exact_slope = torch.where(z > 0, scale, scale * alpha * input_scale * torch.exp(input_scale * z))
    torch.testing.assert_close(y.double(), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(slope.double(), exact_slope, rtol=1e-5, atol=0)
    assert bool((slope[x > 0] == scale).all())


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    alpha=st.floats(-2, 2, width=32),
)
def test_elu_of_any_shape_is_the_twin(shape: list[int], dtype: torch.dtype, alpha: float) -> None:
    near = {"rtol": 2**-7, "atol": 1e-5} if dtype == torch.bfloat16 else {"rtol": 2e-6, "atol": 1e-7}
    check_both_engines(ELU(alpha), torch.nn.ELU(alpha), 3 * torch.randn(shape).to(dtype), **near)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_elu_in_chunks_equals_the_whole(alpha: float, dtype: torch.dtype) -> None:
    check_chunks(ELU(alpha), 3 * torch.randn(CHUNK + 77).to(dtype))


def test_elu_keeps_one_tensor_of_the_size_of_x() -> None:
    layer = ELU()
    with record() as trace:
        layer(torch.randn(100, 10))
        assert [line.bytes for line in trace.kept()] == [4000]
        layer.backward(None)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_elu_compiles_in_one_graph(alpha: float) -> None:
    check_compiled_step(ELU(alpha))
