"""Softmin against finite differences, autograd, torch.nn, its extremes and a worked example."""

import math
import warnings

import pytest
import torch
from ds_core import Softmin, record
from ds_core.activations.softmin import softmin, softmin_backward
from ds_core.testing import check_layer, check_twin, check_twin_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_engines import check_both_engines, check_compiled_step


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2])
def test_softmin_is_right(dim: int) -> None:
    check_layer(Softmin(dim), 3 * torch.randn(3, 4, 5))


def test_softmin_is_the_twin() -> None:
    grid = {"dim": [0, 1, 2, 3, -1]}
    assert check_twin_grid(Softmin, torch.nn.Softmin, grid, [3 * torch.randn(2, 3, 4, 5)]) == 5
    assert repr(Softmin(1)) == repr(torch.nn.Softmin(1))


@pytest.mark.parametrize("shape", [(), (4,), (3, 4), (2, 3, 4), (2, 3, 4, 5)])
def test_softmin_without_dim_guesses_as_the_twin_does(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_twin(Softmin(), torch.nn.Softmin(), x)
    with pytest.warns(UserWarning, match="Softmin: .* give dim="):
        Softmin()(x)


@pytest.mark.parametrize(("shape", "dim"), [((), 0), ((), -1), ((0, 3), 0), ((0, 3), 1), ((3, 0), 1)])
def test_softmin_of_scalars_and_of_nothing(shape: tuple[int, ...], dim: int) -> None:
    check_twin(Softmin(dim), torch.nn.Softmin(dim), torch.randn(shape))


def test_softmin_refuses_a_dim_that_is_not_there() -> None:
    message = r"^Softmin\(dim=2\): given input of shape \(3, 4\), which has no dimension 2$"
    with pytest.raises(IndexError, match=message):
        Softmin(2)(torch.randn(3, 4))


def test_worked_example() -> None:
    x = torch.tensor([[0.0, math.log(3)], [1.0, 1.0]])
    y = softmin(x, 1)
    torch.testing.assert_close(y, torch.tensor([[0.75, 0.25], [0.5, 0.5]]))
    dx = softmin_backward(torch.tensor([[1.0, 2.0], [4.0, -2.0]]), y, 1)
    torch.testing.assert_close(dx, torch.tensor([[0.1875, -0.1875], [-1.5, 1.5]]))
    assert [0.75 * 1 + 0.25 * 2, 0.75 * (1.25 - 1)] == [1.25, 0.1875]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmin_at_extremes_in_both_engines(dtype: torch.dtype) -> None:
    inf = float("inf")
    rows = [[1e4, -1e4, 0.0], [1e4, 1e4, 1e4 - 1], [-1e4, -1e4, -1e4], [0.0, 0.0, 0.0], [-30.0, 90.0, 104.0]]
    masked = [[0.0, inf, 0.0], [inf, inf, 5.0], [inf, 1e4, -1e4]]
    no_number = [[inf, inf, inf], [-inf, 0.0, 0.0], [inf, -inf, -inf], [float("nan"), 0.0, 1.0]]
    for group in (rows, masked, no_number):
        check_both_engines(Softmin(1), torch.nn.Softmin(1), torch.tensor(group, dtype=dtype))


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    axis=st.integers(0, 3),
    scale=st.sampled_from([1.0, 30.0, 1e4]),
)
def test_softmin_of_any_shape_is_the_twin(shape: list[int], dtype: torch.dtype, axis: int, scale: float) -> None:
    dim = axis % len(shape)
    near = {"rtol": 2**-7, "atol": 4e-3} if dtype == torch.bfloat16 else {"rtol": 2e-6, "atol": 1e-6}
    check_both_engines(Softmin(dim), torch.nn.Softmin(dim), scale * torch.randn(shape).to(dtype), **near)


def test_softmin_keeps_its_output() -> None:
    layer = Softmin(-1)
    with record() as trace:
        y = layer(torch.randn(3, 4))
        assert trace.entries[0].saved[0] is y
        layer.backward(None)


def test_softmin_compiles_in_one_graph() -> None:
    check_compiled_step(Softmin(-1))
