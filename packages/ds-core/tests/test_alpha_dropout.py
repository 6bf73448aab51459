"""AlphaDropout: its draws, the mean and variance that it keeps, its backward, its ends and its errors."""

import math

import pytest
import torch
from ds_core import AlphaDropout, Recompute, record
from ds_core.layers.alpha_dropout import ALPHA, alpha_dropout, alpha_dropout_backward, draw_alpha_dropout_mask, factor
from ds_core.speed.elementwise import CHUNK
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9, 1.0])
def test_alpha_dropout_is_right(p: float) -> None:
    check_layer(AlphaDropout(p), torch.randn(4, 5, 6))
    check_layer(AlphaDropout(p).eval(), torch.randn(4, 5, 6))


def test_alpha_dropout_is_the_twin_where_nothing_is_drawn() -> None:
    x = torch.randn(3, 4)
    grid = {"p": [0.0, 0.5, 1.0, -0.1, 1.1]}
    assert check_twin_grid(AlphaDropout, torch.nn.AlphaDropout, grid, [x], modes=["eval"]) == 3
    for p in (0.0, 1.0):
        check_twin(AlphaDropout(p), torch.nn.AlphaDropout(p), x, modes=["train"])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_alpha_dropout_gives_the_twins_numbers(p: float) -> None:
    """Either of two values for a number, which show in the twin's output as in ours; and slope a or 0."""
    x = torch.randn(1000, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    expected = torch.nn.functional.alpha_dropout(leaf, p, training=True)
    expected.sum().backward()
    dropout_mask = (leaf.grad != 0).double()
    assert 0 < int(dropout_mask.sum()) < 1000
    torch.testing.assert_close(alpha_dropout(x, dropout_mask, p), expected.detach())
    torch.testing.assert_close(alpha_dropout_backward(torch.ones_like(x), dropout_mask, p), leaf.grad)


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_alpha_dropout_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(ValueError, match=f"p={p}, expected a probability between 0 and 1"):
        AlphaDropout(p)


def test_worked_example() -> None:
    near = {"rtol": 0, "atol": 5e-5}
    assert [ALPHA, ALPHA**2, factor(0.2)] == pytest.approx([1.7581, 3.0909, 0.8789], abs=5e-5)
    assert 1 / math.sqrt((1 - 0.2) * (1 + 0.2 * 3.0909)) == pytest.approx(0.8789, abs=5e-5)
    dropout_mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    y = alpha_dropout(torch.tensor([[1.0, 2.0], [-1.0, 0.5]]), dropout_mask, 0.2)
    by_hand = 0.8789 * (1 + 1.7581 - 0.8 * 1.7581)
    assert by_hand == pytest.approx(1.1879, abs=1e-4)
    torch.testing.assert_close(y, torch.tensor([[1.1879, -1.2362], [-0.5699, 0.7485]]), **near)
    dx = alpha_dropout_backward(torch.tensor([[2.0, 1.0], [-4.0, 0.5]]), dropout_mask, 0.2)
    torch.testing.assert_close(dx, torch.tensor([[1.7578, 0.0], [-3.5156, 0.4395]]), **near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_alpha_dropout_keeps_mean_and_variance(p: float, dtype: torch.dtype) -> None:
    """Of an input of mean 0 and variance 1. Five standard errors; bfloat16 rounds by less than them."""
    torch.manual_seed(0)
    n = 400_000
    y = AlphaDropout(p)(torch.randn(n, dtype=torch.float64).to(dtype))
    assert y.dtype == dtype
    wide = y.double()
    assert abs(float(wide.mean())) < 5 / n**0.5
    fourth = float((wide**4).mean())
    assert abs(float((wide**2).mean()) - 1) < 5 * ((fourth - 1) / n) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.999])
def test_alpha_dropout_drops_the_share_it_says(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    n = 400_000
    dropout_mask = draw_alpha_dropout_mask(torch.empty(n, dtype=dtype), p)
    assert dropout_mask.dtype == dtype
    assert set(dropout_mask.tolist()) == {0.0, 1.0}
    deviation = (p * (1 - p) / n) ** 0.5
    assert abs(1 - dropout_mask.double().mean().item() - p) < 5 * deviation
    pairs = dropout_mask.view(-1, 2).double()
    assert abs((pairs[:, 0] * pairs[:, 1]).mean().item() - (1 - p) ** 2) < 5 * deviation  # neighbours independent


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 3), max_size=3),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    p=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
)
def test_alpha_dropout_of_any_shape(shape: list[int], dtype: torch.dtype, p: float, seed: int) -> None:
    """By the paper's formula, a (x d - alpha (1 - d)) + b with d = 1 for what is kept, in float64."""
    torch.manual_seed(seed)
    x, dy, layer = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype), AlphaDropout(p)
    with record() as trace:
        y = layer(x)
        d = trace.entries[0].saved[0].double()
        dx = layer.backward(dy)
    a = ((1 - p) + ALPHA**2 * (1 - p) * p) ** -0.5
    b = a * p * ALPHA
    near = {"rtol": 1e-2, "atol": 2e-2 * a} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(y.double(), a * (x.double() * d - ALPHA * (1 - d)) + b, **near)
    torch.testing.assert_close(dx.double(), a * d * dy.double(), **near)
    assert (y.dtype, dx.dtype, y.shape) == (dtype, dtype, x.shape)


def test_alpha_dropout_is_replayed_by_recomputation() -> None:
    layer = AlphaDropout(0.5)
    again = Recompute(layer)
    x = torch.randn(50)
    with record():
        y = again(x)
        dx = again.backward(torch.ones_like(x))
    torch.testing.assert_close(y, dx * x + torch.where(dx == 0, -0.5, 0.5) * factor(0.5) * ALPHA)


def test_alpha_dropout_repeats_with_the_seed_whatever_the_layout_in_memory() -> None:
    layer = AlphaDropout(0.5)
    torch.manual_seed(1)
    first, second = layer(torch.ones(20, 30)), layer(torch.ones(20, 30))
    torch.manual_seed(1)
    assert torch.equal(layer(torch.ones(30, 20).t()), first)
    assert not torch.equal(first, second)


def test_alpha_dropout_piece_by_piece_is_that_of_the_numbers() -> None:
    x = torch.randn(CHUNK + 77)
    dropout_mask = draw_alpha_dropout_mask(x, 0.4)
    with torch.no_grad():
        for function in (alpha_dropout, alpha_dropout_backward):
            parts = [function(*part, 0.4) for part in zip(x.split(1000), dropout_mask.split(1000), strict=True)]
            torch.testing.assert_close(function(x, dropout_mask, 0.4), torch.cat(parts))


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_alpha_dropout_of_infinite_numbers_is_that_of_the_twin_at_the_ends(p: float) -> None:
    x = torch.tensor([float("inf"), 1.0, -1e4])
    leaf = x.clone().requires_grad_()
    expected = torch.nn.AlphaDropout(p)(leaf)
    expected.backward(x)
    layer = AlphaDropout(p)
    with record():
        torch.testing.assert_close(layer(x), expected.detach(), equal_nan=True)
        torch.testing.assert_close(layer.backward(x), leaf.grad, equal_nan=True)


def test_alpha_dropout_of_large_numbers_in_both_engines() -> None:
    x = torch.tensor([1e4, -1e4, 0.0]).repeat(50)
    layer = AlphaDropout(0.5)
    leaf = x.clone().requires_grad_()
    torch.manual_seed(3)
    expected = layer(leaf)
    expected.sum().backward()
    torch.manual_seed(3)
    with record():
        y = layer(x)
        dx = layer.backward(torch.ones_like(x))
    torch.testing.assert_close(y, expected.detach())
    torch.testing.assert_close(dx, leaf.grad)
    assert set(dx.tolist()) == {0.0, float(torch.tensor(factor(0.5)))}


def test_alpha_dropout_hands_its_input_on_where_it_drops_nothing() -> None:
    x = torch.randn(3)
    assert AlphaDropout(0.5).eval()(x) is x
    assert AlphaDropout(0.0)(x) is x
    assert repr(AlphaDropout(0.2)) == "AlphaDropout(p=0.2)"


def test_alpha_dropout_compiles_in_one_graph() -> None:
    layer = AlphaDropout(0.25)

    def step(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with record():
            y = layer(x)
            return y, layer.backward(torch.ones_like(x))

    compiled = one_graph(step, dynamic=True)
    for size in (100, 200):
        x = torch.rand(size) + 1
        y, dx = compiled(x)
        torch.testing.assert_close(y, dx * (x + ALPHA) - 0.75 * factor(0.25) * ALPHA)
        assert set(dx.tolist()) == {0.0, float(torch.tensor(factor(0.25)))}
