"""Dropout: its draws, its scaling, its backward and its errors."""

import pytest
import torch
from ds_core import Dropout, Recompute, record
from ds_core.layers.dropout import draw_dropout_mask, dropout, dropout_backward
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9, 1.0])
def test_dropout_is_right(p: float) -> None:
    check_layer(Dropout(p), torch.randn(4, 5, 6))
    check_layer(Dropout(p).eval(), torch.randn(4, 5, 6))


def test_dropout_is_the_twin_where_nothing_is_drawn() -> None:
    x = torch.randn(3, 4)
    grid = {"p": [0.0, 0.5, 1.0, -0.1, 1.1]}
    assert check_twin_grid(Dropout, torch.nn.Dropout, grid, [x], modes=["eval"]) == 3
    for p in (0.0, 1.0):
        check_twin(Dropout(p), torch.nn.Dropout(p), x, modes=["train"])


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_dropout_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(ValueError, match=f"p={p}, expected a probability between 0 and 1"):
        Dropout(p)


def test_worked_example() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert set(draw_dropout_mask(torch.zeros(100), 0.2).tolist()) == {0.0, 1.25}
    dropout_mask = torch.tensor([[1.25, 0.0], [1.25, 1.25]])
    assert dropout(x, dropout_mask).tolist() == [[1.25, 0.0], [3.75, 5.0]]
    dy = torch.tensor([[2.0, 1.0], [-4.0, 0.4]])
    assert dropout_backward(dy, dropout_mask).tolist() == [[2.5, 0.0], [-5.0, 0.5]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.999])
def test_dropout_drops_the_share_it_says(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    n = 400_000
    dropout_mask = draw_dropout_mask(torch.empty(n, dtype=dtype), p)
    assert dropout_mask.dtype == dtype
    kept = dropout_mask != 0
    assert set(dropout_mask[kept].tolist()) == {float(torch.tensor(1 / (1 - p), dtype=dtype))}
    deviation = (p * (1 - p) / n) ** 0.5
    assert abs(1 - kept.double().mean().item() - p) < 5 * deviation
    pairs = kept.view(-1, 2).double()
    assert abs((pairs[:, 0] * pairs[:, 1]).mean().item() - (1 - p) ** 2) < 5 * deviation  # neighbours independent


def test_dropout_repeats_with_the_seed_and_not_otherwise() -> None:
    x, layer = torch.ones(1000), Dropout(0.5)
    torch.manual_seed(1)
    first, second = layer(x), layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)


def test_dropout_draws_the_same_whatever_the_layout_in_memory() -> None:
    x, layer = torch.ones(20, 30), Dropout(0.5)
    torch.manual_seed(1)
    y = layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(torch.ones(30, 20).t()), y)


def test_dropout_is_replayed_by_recomputation() -> None:
    layer = Dropout(0.5)
    again = Recompute(layer)
    x = torch.randn(50)
    with record():
        y = again(x)
        dx = again.backward(torch.ones_like(x))
    assert torch.equal(dx * x, y)


def test_dropout_in_evaluation_hands_its_input_on() -> None:
    x = torch.randn(3)
    assert Dropout(0.5).eval()(x) is x


def test_dropout_of_an_infinite_input_is_that_of_the_twin_at_p_1() -> None:
    x = torch.tensor([float("inf"), 1.0])
    torch.testing.assert_close(Dropout(1.0)(x), torch.nn.Dropout(1.0)(x), equal_nan=True)


def test_dropout_compiles_in_one_graph() -> None:
    layer = Dropout(0.25)

    def step(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with record():
            y = layer(x)
            return y, layer.backward(torch.ones_like(x))

    compiled = one_graph(step, dynamic=True)
    for size in (100, 200):
        x = torch.rand(size) + 1
        y, dx = compiled(x)
        torch.testing.assert_close(y, x * dx)
        assert set(dx.tolist()) == {0.0, float(torch.tensor(4 / 3))}
