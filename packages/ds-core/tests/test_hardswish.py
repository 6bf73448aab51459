"""Hardswish against finite differences, autograd, torch.nn, its kinks and extremes and a worked example."""

import pytest
import torch
from ds_core import Hardswish, record
from ds_core.activations.hardswish import hardswish, hardswish_with_slope
from ds_core.activations.smooth import slope_backward
from ds_core.speed.elementwise import CHUNK
from ds_core.testing import check_layer, check_twin_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_engines import check_both_engines, check_chunks, check_compiled_step, differentiated, handwritten


@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5)])
def test_hardswish_is_right(shape: tuple[int, ...]) -> None:
    check_layer(Hardswish(), 3 * torch.randn(shape), batch_dim=0 if len(shape) > 1 else None)


def test_hardswish_is_the_twin() -> None:
    assert check_twin_grid(Hardswish, torch.nn.Hardswish, {}, [3 * torch.randn(4, 5)]) == 1
    assert repr(Hardswish()) == repr(torch.nn.Hardswish())


def test_worked_example() -> None:
    x = torch.tensor([[1.0, -2.0], [4.0, -3.0]])
    near = {"rtol": 0, "atol": 5e-5}
    y, slope = hardswish_with_slope(x)
    torch.testing.assert_close(y, torch.tensor([[0.6667, -0.3333], [4.0, 0.0]]), **near)
    torch.testing.assert_close(slope, torch.tensor([[0.8333, -0.1667], [1.0, 0.0]]), **near)
    dx = slope_backward(torch.tensor([[3.0, 2.0], [5.0, 7.0]]), slope)
    torch.testing.assert_close(dx, torch.tensor([[2.5, -0.3333], [5.0, 0.0]]), **near)
    torch.testing.assert_close(hardswish(x), y)
    gates = torch.tensor([(1 + 3) / 6, (-2 + 3) / 6])
    torch.testing.assert_close(gates, torch.tensor([0.6667, 0.1667]), **near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_hardswish_at_kinks_and_extremes_in_both_engines(dtype: torch.dtype) -> None:
    """Among them the numbers beside the kinks, where the slope jumps by a half."""
    inf = float("inf")
    kinks = torch.tensor([-3.0, 3.0], dtype=dtype)
    around = [torch.nextafter(kinks, end.expand(2)) for end in torch.tensor([-inf, inf], dtype=dtype)]
    x = torch.tensor([0.0, -0.0, 1e4, -1e4, inf, -inf, 1e-38, -1e-38, 1.0, -1.0], dtype=dtype)
    near = {"rtol": 2**-7, "atol": 0.0} if dtype == torch.bfloat16 else {"rtol": 1e-6, "atol": 2e-7}
    check_both_engines(Hardswish(), torch.nn.Hardswish(), torch.cat([x, kinks, *around]), **near)


def test_hardswish_of_a_number_whose_sixfold_is_infinite() -> None:
    x = torch.tensor([2e38, -2e38])
    for engine in (handwritten, differentiated):
        y, dx = engine(Hardswish(), x, torch.ones(2))
        assert torch.equal(y, torch.tensor([2e38, 0.0]))
        assert dx.tolist() == [1, 0]


def test_hardswish_hands_a_nan_on() -> None:
    x = torch.tensor([float("nan"), 0.5])
    for engine in (handwritten, differentiated):
        assert engine(Hardswish(), x, torch.ones(2))[0].isnan().tolist() == [True, False]


@settings(max_examples=20, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_hardswish_of_any_shape_is_the_twin(shape: list[int], dtype: torch.dtype) -> None:
    near = {"rtol": 2**-7, "atol": 4e-3} if dtype == torch.bfloat16 else {"rtol": 1e-6, "atol": 2e-7}
    check_both_engines(Hardswish(), torch.nn.Hardswish(), 3 * torch.randn(shape).to(dtype), **near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hardswish_in_chunks_equals_the_whole(dtype: torch.dtype) -> None:
    check_chunks(Hardswish(), 3 * torch.randn(CHUNK + 77).to(dtype))


def test_hardswish_keeps_one_tensor_of_the_size_of_x() -> None:
    layer = Hardswish()
    with record() as trace:
        layer(torch.randn(100, 10))
        assert [line.bytes for line in trace.kept()] == [4000]
        layer.backward(None)


def test_hardswish_compiles_in_one_graph() -> None:
    check_compiled_step(Hardswish())
