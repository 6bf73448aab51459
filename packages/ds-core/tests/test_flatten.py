"""Flatten against its twin over all pairs of dimensions, its errors and its views."""

import itertools

import pytest
import torch
from ds_core import Flatten, ShapeError, record
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 1, 2)])
def test_flatten_is_right(shape: tuple[int, ...]) -> None:
    check_layer(Flatten(), torch.randn(shape))
    check_layer(Flatten(0, -2), torch.randn(shape), batch_dim=None)


def test_flatten_is_the_twin() -> None:
    grid = {"start_dim": [0, 1, -3], "end_dim": [2, -1]}
    assert check_twin_grid(Flatten, torch.nn.Flatten, grid, [torch.randn(2, 3, 4)]) == 6
    assert repr(Flatten()) == repr(torch.nn.Flatten())
    for arguments in [(0, 0), (0,), (0, -1)]:
        check_twin(Flatten(*arguments), torch.nn.Flatten(*arguments), torch.tensor(3.0))


@settings(max_examples=30, deadline=None)
@given(shape=st.lists(st.integers(0, 3), max_size=4), transposed=st.booleans())
def test_flatten_of_any_shape_is_the_twins(shape: list[int], transposed: bool) -> None:
    """Every pair of dimensions, also those that are not there or in the wrong order."""
    x = torch.randn(shape)
    x = x.transpose(0, -1) if transposed and x.dim() > 1 else x
    for start, end in itertools.product(range(-5, 5), repeat=2):
        ours, twin = Flatten(start, end), torch.nn.Flatten(start, end)
        try:
            expected = twin(x)
        except (IndexError, RuntimeError) as refusal:
            with pytest.raises(type(refusal)):
                ours(x)
            continue
        with record():
            y = ours(x)
            dx = ours.backward(y)
        assert y.shape == expected.shape
        assert torch.equal(y, expected)
        assert torch.equal(dx, x)


def test_flatten_names_what_does_not_fit() -> None:
    with pytest.raises(
        IndexError, match=r"Flatten\(start_dim=1, end_dim=-1\): given input of shape \(3,\), .* dimension 1"
    ):
        Flatten()(torch.randn(3))
    with pytest.raises(ShapeError, match=r"given input of shape \(2, 3\), where start_dim=1 is after end_dim=0"):
        Flatten(1, 0)(torch.randn(2, 3))


def test_flatten_copies_and_keeps_nothing() -> None:
    layer, x = Flatten(), torch.randn(2, 3, 4)
    with record() as trace:
        y = layer(x)
        assert y.data_ptr() == x.data_ptr()
        assert [line.bytes for line in trace.kept()] == [0]
        dy = torch.randn(2, 12)
        assert layer.backward(dy).data_ptr() == dy.data_ptr()


def test_worked_example() -> None:
    layer = Flatten(0, 1)
    with record():
        assert layer(torch.tensor([[1, 2], [3, 4]])).tolist() == [1, 2, 3, 4]
        assert layer.backward(torch.tensor([5, 6, 7, 8])).tolist() == [[5, 6], [7, 8]]


def test_flatten_compiles_in_one_graph() -> None:
    layer = Flatten()

    def step(x: torch.Tensor) -> torch.Tensor:
        with record():
            return layer.backward(layer(x) * 2)

    compiled = one_graph(step, dynamic=True)
    for x in (torch.randn(3, 4, 2), torch.randn(5, 6, 3)):
        torch.testing.assert_close(compiled(x), step(x))
