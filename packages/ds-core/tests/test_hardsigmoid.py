"""Hardsigmoid against finite differences, autograd, torch.nn, its kinks and extremes and a worked example."""

import pytest
import torch
from ds_core import Hardsigmoid, record
from ds_core.activations.hardsigmoid import hardsigmoid, hardsigmoid_backward
from ds_core.speed.elementwise import CHUNK
from ds_core.testing import check_layer, check_twin_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_engines import check_both_engines, check_chunks, check_compiled_step, differentiated, handwritten


@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5)])
def test_hardsigmoid_is_right(shape: tuple[int, ...]) -> None:
    check_layer(Hardsigmoid(), 3 * torch.randn(shape), batch_dim=0 if len(shape) > 1 else None)


def test_hardsigmoid_is_the_twin() -> None:
    """But for its backward in float64, which multiplies by 1/6 as float32 has it, 3e-8 too large."""
    x = 3 * torch.randn(4, 5)
    assert check_twin_grid(Hardsigmoid, torch.nn.Hardsigmoid, {}, [x], rtol=1e-7) == 1
    y, dx = handwritten(Hardsigmoid(), x.double(), torch.ones(4, 5).double())
    torch.testing.assert_close(y, torch.nn.functional.hardsigmoid(x.double()), rtol=1e-14, atol=1e-16)
    torch.testing.assert_close(dx, (x.abs() < 3).double() / 6, rtol=1e-14, atol=0)
    assert repr(Hardsigmoid()) == repr(torch.nn.Hardsigmoid())


def test_worked_example() -> None:
    x = torch.tensor([[1.0, -2.0], [3.0, -4.0]])
    near = {"rtol": 0, "atol": 5e-5}
    torch.testing.assert_close(hardsigmoid(x), torch.tensor([[0.6667, 0.1667], [1.0, 0.0]]), **near)
    dx = hardsigmoid_backward(torch.tensor([[3.0, -1.0], [5.0, 7.0]]), x)
    torch.testing.assert_close(dx, torch.tensor([[0.5, -0.1667], [0.0, 0.0]]), **near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_hardsigmoid_at_kinks_and_extremes_in_both_engines(dtype: torch.dtype) -> None:
    """Among them the numbers beside the kinks; near the upper one y rounds to 1 where its slope is not yet 0."""
    inf = float("inf")
    kinks = torch.tensor([-3.0, 3.0], dtype=dtype)
    around = [torch.nextafter(kinks, end.expand(2)) for end in torch.tensor([-inf, inf], dtype=dtype)]
    x = torch.tensor([0.0, -0.0, 1e4, -1e4, inf, -inf, 1e-38, -1e-38, 1.0, -1.0], dtype=dtype)
    near = {"rtol": 2**-7, "atol": 0.0} if dtype == torch.bfloat16 else {"rtol": 1e-6, "atol": 1e-7}
    check_both_engines(Hardsigmoid(), torch.nn.Hardsigmoid(), torch.cat([x, kinks, *around]), **near)


def test_hardsigmoid_hands_a_nan_on() -> None:
    x = torch.tensor([float("nan"), 0.5])
    for engine in (handwritten, differentiated):
        assert engine(Hardsigmoid(), x, torch.ones(2))[0].isnan().tolist() == [True, False]


@settings(max_examples=20, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_hardsigmoid_of_any_shape_is_the_twin(shape: list[int], dtype: torch.dtype) -> None:
    near = {"rtol": 2**-7, "atol": 1e-3} if dtype == torch.bfloat16 else {"rtol": 1e-6, "atol": 1e-7}
    check_both_engines(Hardsigmoid(), torch.nn.Hardsigmoid(), 3 * torch.randn(shape).to(dtype), **near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hardsigmoid_in_chunks_equals_the_whole(dtype: torch.dtype) -> None:
    check_chunks(Hardsigmoid(), 3 * torch.randn(CHUNK + 77).to(dtype))


def test_hardsigmoid_keeps_the_input_itself() -> None:
    layer, x = Hardsigmoid(), torch.randn(5)
    with record() as trace:
        layer(x)
        assert trace.entries[0].saved[0] is x
        layer.backward(None)


def test_hardsigmoid_compiles_in_one_graph() -> None:
    check_compiled_step(Hardsigmoid())
