"""Hardtanh against finite differences, autograd, torch.nn, its kinks and extremes and a worked example."""

import pytest
import torch
from ds_core import Hardtanh, record
from ds_core.activations.hardtanh import hardtanh, hardtanh_backward
from ds_core.speed.elementwise import CHUNK
from ds_core.testing import check_layer, check_twin_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_engines import check_both_engines, check_chunks, check_compiled_step, differentiated, handwritten


@pytest.mark.parametrize("limits", [(-1.0, 1.0), (-0.5, 2.0), (0.25, 0.75)])
@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5)])
def test_hardtanh_is_right(limits: tuple[float, float], shape: tuple[int, ...]) -> None:
    check_layer(Hardtanh(*limits), torch.randn(shape), batch_dim=0 if len(shape) > 1 else None)


def test_hardtanh_is_the_twin() -> None:
    """Where the two limits are no interval, both refuse."""
    grid = {"min_val": [-1.0, -2, 0.5], "max_val": [1.0, 0.3, 0.5, 3]}
    deprecated = ["min_value", "max_value"]
    made = check_twin_grid(Hardtanh, torch.nn.Hardtanh, grid, [2 * torch.randn(4, 5)], left_out=deprecated)
    assert made == 10
    assert repr(Hardtanh(-2, 3)) == repr(torch.nn.Hardtanh(-2, 3))


@pytest.mark.parametrize("limits", [(1.0, 1.0), (2.0, 1.0)])
def test_hardtanh_refuses_limits_in_the_wrong_order(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"Hardtanh: given min_val=.* expected max_val > min_val"):
        Hardtanh(*limits)


def test_worked_example() -> None:
    x = torch.tensor([[0.5, -2.0], [1.0, 3.0]])
    y = hardtanh(x, -1, 1)
    assert y.tolist() == [[0.5, -1], [1, 1]]
    assert hardtanh_backward(torch.tensor([[5.0, 6.0], [7.0, -8.0]]), y, -1, 1).tolist() == [[5, 0], [0, 0]]


# numbers of every dtype: the twin's backward does not round them to bfloat16
LIMITS = [(-1.0, 1.0), (0.0, 6.0), (-(2.0**-100), 2.0**-100), (-float("inf"), 2.0), (-2.0, 2.0**13)]


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_hardtanh_at_kinks_and_extremes_in_both_engines(limits: tuple[float, float], dtype: torch.dtype) -> None:
    inf = float("inf")
    ends = torch.tensor(limits, dtype=dtype)
    inside = torch.nextafter(ends, ends.flip(0))
    x = torch.tensor([0.0, -0.0, 1e4, -1e4, inf, -inf, 1e-10, -1e-10, 1e-38, -1e-38], dtype=dtype)
    check_both_engines(Hardtanh(*limits), torch.nn.Hardtanh(*limits), torch.cat([x, ends, inside]), rtol=0, atol=0)


def test_hardtanh_hands_a_nan_on() -> None:
    x = torch.tensor([float("nan"), 0.5])
    for engine in (handwritten, differentiated):
        assert engine(Hardtanh(), x, torch.ones(2))[0].isnan().tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hardtanh_lets_no_gradient_through_limits_that_were_rounded(dtype: torch.dtype) -> None:
    """0.1 and 0.3 in bfloat16 are other numbers, the first of them larger than 0.1."""
    x = torch.tensor([-1.0, 0.0, 0.05, 0.2, 0.4, 1.0], dtype=dtype)
    for engine in (handwritten, differentiated):
        y, dx = engine(Hardtanh(0.1, 0.3), x, torch.ones_like(x))
        assert torch.equal(y, torch.clamp(x, 0.1, 0.3))
        assert dx.tolist() == [0, 0, 0, 1, 0, 0]


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    low=st.integers(-8, 7),
    width=st.integers(1, 8),
)
def test_hardtanh_of_any_shape_is_the_twin(shape: list[int], dtype: torch.dtype, low: int, width: int) -> None:
    """Inputs and limits are multiples of a quarter, so that many meet."""
    x = torch.randint(-10, 10, shape).to(dtype) / 4
    limits = low / 4, (low + width) / 4
    check_both_engines(Hardtanh(*limits), torch.nn.Hardtanh(*limits), x, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hardtanh_in_chunks_equals_the_whole(dtype: torch.dtype) -> None:
    check_chunks(Hardtanh(), 2 * torch.randn(CHUNK + 77).to(dtype))


def test_hardtanh_keeps_its_output() -> None:
    layer = Hardtanh()
    with record() as trace:
        y = layer(torch.randn(5))
        assert trace.entries[0].saved[0] is y
        layer.backward(None)


def test_hardtanh_compiles_in_one_graph() -> None:
    check_compiled_step(Hardtanh())
