"""Unflatten against its twin over many sizes, its errors and its views."""

import pytest
import torch
from ds_core import ShapeError, Unflatten, record
from ds_core.testing import check_layer, check_twin_grid, one_graph
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("size", [(2, 3), [6], (1, 6, 1), (2, -1)])
def test_unflatten_is_right(size: tuple[int, ...]) -> None:
    check_layer(Unflatten(1, size), torch.randn(4, 6))
    check_layer(Unflatten(-2, size), torch.randn(4, 6, 2))


def test_unflatten_is_the_twin() -> None:
    grid = {
        "dim": [1, -2],
        "unflattened_size": [(2, 3), [3, 2], torch.Size([6, 1]), (-1, 2), 6, (2, 3.0), "ab", range(2)],
    }
    assert check_twin_grid(Unflatten, torch.nn.Unflatten, grid, [torch.randn(4, 6, 2)]) == 8
    for size in ((2, 3), [2, 3], torch.Size([2, 3])):
        assert repr(Unflatten(1, size)) == repr(torch.nn.Unflatten(1, size))


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 6), max_size=3),
    dim=st.integers(-3, 3),
    size=st.lists(st.integers(-2, 3), min_size=1, max_size=3),
    fitting=st.booleans(),
)
def test_unflatten_of_any_shape_is_the_twins(shape: list[int], dim: int, size: list[int], fitting: bool) -> None:
    """Also where sizes do not fit, contradict each other or are negative; by chance alone few would fit."""
    if fitting and -len(shape) <= dim < len(shape):
        shape[dim] = abs(int(torch.tensor(size).prod()))
    x = torch.randn(shape)
    ours, twin = Unflatten(dim, size), torch.nn.Unflatten(dim, size)
    try:
        expected = twin(x)
    except (IndexError, RuntimeError) as refusal:
        with pytest.raises(type(refusal)):
            ours(x)
        return
    with record():
        y = ours(x)
        dx = ours.backward(y)
    assert y.shape == expected.shape
    assert torch.equal(y, expected)
    assert torch.equal(dx, x)


@pytest.mark.parametrize(("size", "whole"), [((2, -1), 0), ((0, 3), 0), ((-1,), 6), ((3, -1, 2), 6), ((-1, 1), 0)])
def test_unflatten_of_special_sizes_is_the_twins(size: tuple[int, ...], whole: int) -> None:
    x = torch.randn(4, whole)
    assert Unflatten(1, size)(x).shape == torch.nn.Unflatten(1, size)(x).shape


@pytest.mark.parametrize("size", [(2, 2), (), (-1, -1), (4, -1), (-1, 0), (2, -2), (-2, -3)])
def test_unflatten_names_sizes_that_do_not_fit(size: tuple[int, ...]) -> None:
    x = torch.randn(4, 6)
    with pytest.raises(RuntimeError):
        torch.nn.Unflatten(1, size)(x)
    with pytest.raises(ShapeError, match=r"given input of shape \(4, 6\), expected sizes that multiply to that of dim"):
        Unflatten(1, size)(x)


def test_unflatten_says_what_else_is_wrong() -> None:
    with pytest.raises(
        IndexError, match=r"Unflatten\(dim=2, .*given input of shape \(4, 6\), which has no dimension 2"
    ):
        Unflatten(2, (2, 3))(torch.randn(4, 6))
    with pytest.raises(ShapeError, match=r"given input of shape \(\)"):
        Unflatten(0, (1, 1))(torch.tensor(3.0))
    with pytest.raises(ShapeError, match=r"given input of shape \(4, 0\)"):
        Unflatten(1, (0, -1))(torch.randn(4, 0))
    with pytest.raises(TypeError, match="type int, expected a tuple of integers"):
        Unflatten(1, 6)
    with pytest.raises(TypeError, match="a float at index 1 of unflattened_size, expected integers"):
        Unflatten(1, (2, 3.0))


def test_unflatten_copies_and_keeps_nothing() -> None:
    layer, x = Unflatten(1, (2, 3)), torch.randn(4, 6)
    with record() as trace:
        y = layer(x)
        assert y.data_ptr() == x.data_ptr()
        assert [line.bytes for line in trace.kept()] == [0]
        dy = torch.randn(4, 2, 3)
        assert layer.backward(dy).data_ptr() == dy.data_ptr()


def test_worked_example() -> None:
    layer = Unflatten(0, (2, 2))
    with record():
        assert layer(torch.tensor([1, 2, 3, 4])).tolist() == [[1, 2], [3, 4]]
        assert layer.backward(torch.tensor([[5, 6], [7, 8]])).tolist() == [5, 6, 7, 8]


def test_unflatten_compiles_in_one_graph() -> None:
    layer = Unflatten(1, (2, -1))

    def step(x: torch.Tensor) -> torch.Tensor:
        with record():
            return layer.backward(layer(x) * 2)

    compiled = one_graph(step, dynamic=True)
    for x in (torch.randn(3, 4), torch.randn(5, 6)):
        torch.testing.assert_close(compiled(x), step(x))
