"""LeakyReLU against finite differences, autograd, torch.nn, its kink and extremes and a worked example."""

import pytest
import torch
from ds_core import LeakyReLU, record
from ds_core.activations.leaky_relu import leaky_relu, leaky_relu_backward
from ds_core.speed.elementwise import CHUNK
from ds_core.testing import check_layer, check_twin_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_engines import check_both_engines, check_chunks, check_compiled_step

# a slope of 0, the two ends of the faster path of backward, and what lies on both sides of it
SLOPES = [0.01, 0.0, 0.3, 1.0, 1.7, -0.5]


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5)])
def test_leaky_relu_is_right(slope: float, shape: tuple[int, ...]) -> None:
    check_layer(LeakyReLU(slope), torch.randn(shape), batch_dim=0 if len(shape) > 1 else None)


def test_leaky_relu_is_the_twin() -> None:
    grid = {"negative_slope": SLOPES}
    assert check_twin_grid(LeakyReLU, torch.nn.LeakyReLU, grid, [torch.randn(4, 5)]) == 6
    assert repr(LeakyReLU(0.3)) == repr(torch.nn.LeakyReLU(0.3))


def test_worked_example() -> None:
    x = torch.tensor([[1.0, -2.0], [0.0, -0.5]])
    y = leaky_relu(x, 0.1)
    torch.testing.assert_close(y, torch.tensor([[1.0, -0.2], [0.0, -0.05]]))
    dx = leaky_relu_backward(torch.tensor([[5.0, 6.0], [7.0, -8.0]]), y, 0.1)
    torch.testing.assert_close(dx, torch.tensor([[5.0, 0.6], [0.7, -0.8]]))


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_leaky_relu_at_kink_and_extremes_in_both_engines(slope: float, dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, -0.0, 1e4, -1e4, 1e-38, -1e-38, 1e-10, -1e-10, 3.0, -3.0, *2 * [float("inf")]], dtype=dtype)
    x[-1] = -x[-1]
    check_both_engines(LeakyReLU(slope), torch.nn.LeakyReLU(slope), x, rtol=0, atol=0)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    slope=st.floats(-2, 2, width=32),
)
def test_leaky_relu_of_any_shape_is_the_twin_bit_by_bit(shape: list[int], dtype: torch.dtype, slope: float) -> None:
    check_both_engines(LeakyReLU(slope), torch.nn.LeakyReLU(slope), torch.randn(shape).to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("slope", [0.01, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_leaky_relu_in_chunks_equals_the_whole(slope: float, dtype: torch.dtype) -> None:
    check_chunks(LeakyReLU(slope), torch.randn(CHUNK + 77).to(dtype))


@pytest.mark.parametrize(("slope", "kept"), [(0.1, "y"), (0.0, "y"), (-0.1, "x")])
def test_leaky_relu_keeps_its_output_where_that_tells_the_sign(slope: float, kept: str) -> None:
    layer, x = LeakyReLU(slope), torch.randn(5)
    with record() as trace:
        y = layer(x)
        assert trace.entries[0].saved[0] is {"x": x, "y": y}[kept]
        layer.backward(None)


@pytest.mark.parametrize("slope", [0.01, 2.0])
def test_leaky_relu_compiles_in_one_graph(slope: float) -> None:
    check_compiled_step(LeakyReLU(slope))
