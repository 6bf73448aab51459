"""ReLU6 against finite differences, autograd, torch.nn, its kinks and extremes and a worked example."""

import pytest
import torch
from ds_core import ReLU6
from ds_core.activations.relu6 import relu6, relu6_backward
from ds_core.testing import check_layer, check_twin_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_engines import check_both_engines, check_compiled_step


@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5)])
def test_relu6_is_right(shape: tuple[int, ...]) -> None:
    check_layer(ReLU6(), 5 * torch.randn(shape), batch_dim=0 if len(shape) > 1 else None)


def test_relu6_is_the_twin() -> None:
    assert check_twin_grid(ReLU6, torch.nn.ReLU6, {}, [5 * torch.randn(4, 5)]) == 1
    assert repr(ReLU6()) == repr(torch.nn.ReLU6())


def test_worked_example() -> None:
    x = torch.tensor([[0.5, -2.0], [6.0, 7.0]])
    y = relu6(x)
    assert y.tolist() == [[0.5, 0], [6, 6]]
    assert relu6_backward(torch.tensor([[5.0, 6.0], [7.0, -8.0]]), y).tolist() == [[5, 0], [0, 0]]


@settings(max_examples=20, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_relu6_of_any_shape_is_the_twin(shape: list[int], dtype: torch.dtype) -> None:
    """Of whole numbers, many of which are 0 and 6."""
    x = torch.randint(-2, 9, shape).to(dtype)
    check_both_engines(ReLU6(), torch.nn.ReLU6(), x, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_relu6_at_kinks_and_extremes_in_both_engines(dtype: torch.dtype) -> None:
    inf = float("inf")
    x = torch.tensor([0.0, -0.0, 6.0, 1e4, -1e4, inf, -inf, 1e-38, -1e-38, 5.96, 6.04], dtype=dtype)
    check_both_engines(ReLU6(), torch.nn.ReLU6(), x, rtol=0, atol=0)


def test_relu6_compiles_in_one_graph() -> None:
    check_compiled_step(ReLU6())
