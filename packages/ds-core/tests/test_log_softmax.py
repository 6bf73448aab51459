"""LogSoftmax against finite differences, autograd, torch.nn, its extremes and a worked example."""

import math
import warnings

import pytest
import torch
from ds_core import LogSoftmax, record
from ds_core.activations.log_softmax import log_softmax, log_softmax_backward
from ds_core.testing import check_layer, check_twin, check_twin_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_engines import check_both_engines, check_compiled_step


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2])
def test_log_softmax_is_right(dim: int) -> None:
    check_layer(LogSoftmax(dim), 3 * torch.randn(3, 4, 5))


def test_log_softmax_is_the_twin() -> None:
    grid = {"dim": [0, 1, 2, 3, -1]}
    assert check_twin_grid(LogSoftmax, torch.nn.LogSoftmax, grid, [3 * torch.randn(2, 3, 4, 5)]) == 5
    assert repr(LogSoftmax(1)) == repr(torch.nn.LogSoftmax(1))


@pytest.mark.parametrize("shape", [(), (4,), (3, 4), (2, 3, 4), (2, 3, 4, 5)])
def test_log_softmax_without_dim_guesses_as_the_twin_does(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_twin(LogSoftmax(), torch.nn.LogSoftmax(), x)
    with pytest.warns(UserWarning, match="LogSoftmax: .* give dim=") as caught:
        LogSoftmax()(x)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(("shape", "dim"), [((), 0), ((), -1), ((0, 3), 0), ((0, 3), 1), ((3, 0), 1)])
def test_log_softmax_of_scalars_and_of_nothing(shape: tuple[int, ...], dim: int) -> None:
    check_twin(LogSoftmax(dim), torch.nn.LogSoftmax(dim), torch.randn(shape))


def test_log_softmax_refuses_a_dim_that_is_not_there() -> None:
    message = r"^LogSoftmax\(dim=2\): given input of shape \(3, 4\), which has no dimension 2$"
    with pytest.raises(IndexError, match=message):
        LogSoftmax(2)(torch.randn(3, 4))


def test_worked_example() -> None:
    x = torch.tensor([[0.0, math.log(3)], [1.0, 1.0]])
    y = log_softmax(x, 1)
    near = {"rtol": 0, "atol": 5e-5}
    torch.testing.assert_close(y, torch.tensor([[-1.3863, -0.2877], [-0.6931, -0.6931]]), **near)
    torch.testing.assert_close(torch.exp(y), torch.tensor([[0.25, 0.75], [0.5, 0.5]]))
    dx = log_softmax_backward(torch.tensor([[1.0, 2.0], [4.0, -2.0]]), y, 1)
    torch.testing.assert_close(dx, torch.tensor([[0.25, -0.25], [3.0, -3.0]]))
    assert 1 - 0.25 * (1 + 2) == 0.25


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_softmax_at_extremes_in_both_engines(dtype: torch.dtype) -> None:
    inf = float("inf")
    rows = [[1e4, -1e4, 0.0], [1e4, 1e4, 1e4 - 1], [-1e4, -1e4, -1e4], [0.0, 0.0, 0.0], [30.0, -90.0, -104.0]]
    masked = [[0.0, -inf, 0.0], [-inf, -inf, 5.0], [-inf, 1e4, -1e4]]
    no_number = [[-inf, -inf, -inf], [inf, 0.0, 0.0], [inf, -inf, inf], [float("nan"), 0.0, 1.0]]
    for group in (rows, masked, no_number):
        check_both_engines(LogSoftmax(1), torch.nn.LogSoftmax(1), torch.tensor(group, dtype=dtype))


def test_log_softmax_of_large_logits_keeps_the_digits_of_the_logarithm() -> None:
    """log(2) beside 1e4, where float32 numbers are 0.001 apart."""
    with torch.no_grad():
        y = log_softmax(torch.tensor([1e4, 1e4]), 0)
    torch.testing.assert_close(y, torch.full((2,), -math.log(2)), rtol=1e-6, atol=0)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    axis=st.integers(0, 3),
    scale=st.sampled_from([1.0, 30.0, 1e4]),
)
def test_log_softmax_of_any_shape_is_the_twin(shape: list[int], dtype: torch.dtype, axis: int, scale: float) -> None:
    dim = axis % len(shape)
    near = {"rtol": 2**-7, "atol": 2e-2} if dtype == torch.bfloat16 else {"rtol": 2e-6, "atol": 1e-5}
    check_both_engines(LogSoftmax(dim), torch.nn.LogSoftmax(dim), scale * torch.randn(shape).to(dtype), **near)


def test_log_softmax_in_bfloat16_sums_in_float32() -> None:
    x = torch.randn(4, 3000).bfloat16()
    exact = torch.log_softmax(x.double(), 1)
    with torch.no_grad():
        y = log_softmax(x, 1)
    torch.testing.assert_close(y.double(), exact, rtol=2**-8, atol=0)
    dy = torch.rand(4, 3000).bfloat16()
    exact = dy.double() - torch.exp(y.double()) * dy.double().sum(1, keepdim=True)
    torch.testing.assert_close(log_softmax_backward(dy, y, 1).double(), exact, rtol=2**-8, atol=1e-5)


def test_log_softmax_keeps_its_output() -> None:
    layer = LogSoftmax(-1)
    with record() as trace:
        y = layer(torch.randn(3, 4))
        assert trace.entries[0].saved[0] is y
        layer.backward(None)


def test_log_softmax_compiles_in_one_graph() -> None:
    check_compiled_step(LogSoftmax(-1))
