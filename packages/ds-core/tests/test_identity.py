"""Identity hands on what it is given, both ways."""

import pytest
import torch
from ds_core import Identity, Linear, Sequential, record
from ds_core.testing import check_layer, check_twin_grid, one_graph


@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3, 4)])
def test_identity_is_right(shape: tuple[int, ...]) -> None:
    check_layer(Identity(), torch.randn(shape), batch_dim=0 if len(shape) > 1 and shape[0] > 0 else None)


def test_identity_is_the_twin_whatever_its_arguments() -> None:
    assert check_twin_grid(Identity, torch.nn.Identity, {"inplace": [True], "p": [0.5, None]}, [torch.randn(2, 3)]) == 2
    assert repr(Identity(54, unused=0.1)) == repr(torch.nn.Identity(54, unused=0.1)) == "Identity()"


def test_identity_copies_nothing() -> None:
    layer, x, dy = Identity(), torch.randn(3), torch.randn(3)
    with record() as trace:
        assert layer(x) is x
        assert [line.bytes for line in trace.kept()] == [0]
        assert layer.backward(dy) is dy
        layer(x)
        assert layer.backward(None) is None


def test_identity_takes_the_place_of_a_layer() -> None:
    model = Sequential(Linear(3, 2), Identity())
    check_layer(model, torch.randn(4, 3))


def test_worked_example() -> None:
    layer = Identity()
    with record():
        assert layer(torch.tensor([[1, 2], [3, 4]])).tolist() == [[1, 2], [3, 4]]
        assert layer.backward(torch.tensor([[5, 6], [7, 8]])).tolist() == [[5, 6], [7, 8]]


def test_identity_compiles_in_one_graph() -> None:
    layer = Identity()

    def step(x: torch.Tensor) -> torch.Tensor:
        with record():
            return layer.backward(layer(x) * 2)

    compiled = one_graph(step, dynamic=True)
    for x in (torch.randn(3, 4), torch.randn(5, 6)):
        torch.testing.assert_close(compiled(x), step(x))
