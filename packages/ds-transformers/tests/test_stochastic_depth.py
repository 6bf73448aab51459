"""StochasticDepth: its draws, its scaling, its backward, its errors; the linear rule of its rates."""

import pytest
import torch
from ds_core import Linear, Recompute, ShapeError, record
from ds_core.testing import check_layer, check_twin, one_graph
from ds_transformers import StochasticDepth, depth_rates
from ds_transformers.blocks.stochastic_depth import stochastic_depth, stochastic_depth_backward
from hypothesis import given, settings
from hypothesis import strategies as st

MODES = ["row", "batch"]


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("mode", MODES)
def test_stochastic_depth_is_right(p, mode):
    check_layer(StochasticDepth(p, mode), torch.randn(4, 5, 6))
    check_layer(StochasticDepth(p, mode), torch.randn(4))
    check_layer(StochasticDepth(p, mode).eval(), torch.randn(4, 5, 6))


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("mode", MODES)
def test_stochastic_depth_is_the_twin_where_nothing_is_drawn(p, mode):
    """What torchvision computes is the input in evaluation and with p = 0, and its product with 0 with p = 1."""
    x = torch.randn(3, 4)
    check_twin(StochasticDepth(p, mode), torch.nn.Identity(), x, modes=["eval"] if p > 0 else ["train", "eval"])
    if p == 1:
        check_twin(StochasticDepth(p, mode), lambda x: x * 0.0, x, modes=["train"])


def test_worked_example():
    x, dy = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[2.0, 1.0], [-4.0, 0.4]])
    dropout_mask = torch.tensor([[1.25], [0.0]])  # p = 0.2
    assert stochastic_depth(x, dropout_mask).tolist() == [[1.25, 2.5], [0.0, 0.0]]
    assert stochastic_depth_backward(dy, dropout_mask).tolist() == [[2.5, 1.25], [0.0, 0.0]]
    drawn = {value for _ in range(40) for value in StochasticDepth(0.2)(torch.ones(5, 1)).flatten().tolist()}
    assert drawn == {0.0, 1.25}
    assert depth_rates(4, 0.2) == pytest.approx([0.05, 0.1, 0.15, 0.2])


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    mode=st.sampled_from(MODES),
    p=st.sampled_from([0.25, 0.5, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_a_row_or_the_batch_is_dropped_whole(shape, mode, p, dtype):
    layer, x = StochasticDepth(p, mode), torch.ones(shape, dtype=dtype)
    with record():
        y = layer(x)
        dx = layer.backward(2 * x)
    assert (y.shape, y.dtype, dx.dtype) == (x.shape, dtype, dtype)
    assert torch.equal(dx, 2 * y)
    scale = 0.0 if p == 1 else float(torch.tensor(1 / (1 - p), dtype=dtype))
    assert set(y.flatten().tolist()) <= {0.0, scale}
    for example in y if mode == "row" else [y]:
        assert example.unique().numel() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_stochastic_depth_drops_the_share_it_says(p, dtype):
    torch.manual_seed(0)
    n = 100_000
    y = StochasticDepth(p)(torch.ones(n, 2, dtype=dtype))
    kept = y[:, 0] != 0
    assert torch.equal(y[:, 0], y[:, 1])
    assert set(y.unique().tolist()) == {0.0, float(torch.tensor(1 / (1 - p), dtype=dtype))}
    deviation = (p * (1 - p) / n) ** 0.5
    assert abs(1 - kept.double().mean().item() - p) < 5 * deviation
    pairs = kept.view(-1, 2).double()
    assert abs((pairs[:, 0] * pairs[:, 1]).mean().item() - (1 - p) ** 2) < 5 * deviation  # rows are independent


def test_the_whole_batch_is_dropped_as_often_as_it_says():
    torch.manual_seed(0)
    layer, x = StochasticDepth(0.3, "batch"), torch.ones(3, 2)
    results = torch.stack([layer(x) for _ in range(2000)])
    assert torch.equal(results.amax((1, 2)), results.amin((1, 2)))
    assert abs((results[:, 0, 0] == 0).double().mean().item() - 0.3) < 5 * (0.3 * 0.7 / 2000) ** 0.5


@pytest.mark.parametrize("mode", MODES)
def test_stochastic_depth_is_replayed_by_recomputation(mode):
    """Each time with the seed of the first forward; were the mask drawn again in backward, some would differ."""
    layer = StochasticDepth(0.5, mode)
    x = torch.randn(20, 3)
    for seed in range(8):
        torch.manual_seed(seed)
        with record():
            again = Recompute(layer)
            y = again(x)
            dx = again.backward(torch.ones_like(x))
        torch.testing.assert_close(dx * x, y)


def test_stochastic_depth_repeats_with_the_seed_and_not_otherwise():
    x, layer = torch.ones(100, 1), StochasticDepth(0.5)
    torch.manual_seed(1)
    first, second = layer(x), layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)


def test_kept_is_one_number_for_an_example():
    layer, x = StochasticDepth(0.5), torch.randn(10, 7, 3)
    with record() as trace:
        layer(x)
        (line,) = trace.kept()
        assert (line.bytes, line.shapes) == (4 * 10, ((10, 1, 1),))
        layer.backward(None)


def test_nothing_is_done_in_evaluation_or_with_p_0():
    x = torch.randn(3, 2)
    assert StochasticDepth(0.5).eval()(x) is x
    assert StochasticDepth(0.0)(x) is x


def test_an_example_left_out_sends_no_gradient_into_its_branch():
    torch.manual_seed(0)
    branch, depth = Linear(2, 2, bias=False), StochasticDepth(0.5)
    x, dy = torch.randn(2, 6, 2)
    with record():
        y = depth(branch(x))
        branch.backward(depth.backward(dy))
    kept = y.abs().sum(1) > 0
    assert 0 < kept.sum() < 6
    torch.testing.assert_close(branch.weight.grad, 2 * dy[kept].t() @ x[kept])


def test_stochastic_depth_refuses_what_cannot_be():
    for p in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"StochasticDepth: given p={p}, expected a probability between 0 and 1"):
            StochasticDepth(p)
    with pytest.raises(ValueError, match='given mode=\'column\', expected "row" or "batch"'):
        StochasticDepth(0.5, "column")
    with pytest.raises(ShapeError, match=r"StochasticDepth\(p=0.5, mode='row'\): given input of shape \(\)"):
        StochasticDepth(0.5)(torch.tensor(1.0))
    assert StochasticDepth(1.0, "batch")(torch.tensor(2.0)) == 0


def test_rates_grow_in_a_line():
    assert depth_rates(0, 0.5) == []
    assert depth_rates(1, 0.5) == [0.5]
    assert depth_rates(54, 0.5)[26] == pytest.approx(0.25)
    assert depth_rates(3, 1.0) == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert depth_rates(7, 0.3)[-1] == 0.3
    with pytest.raises(ValueError, match="given layers=-1"):
        depth_rates(-1, 0.5)
    for last in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=f"given last={last}, expected a probability"):
            depth_rates(3, last)


@pytest.mark.parametrize("mode", MODES)
def test_stochastic_depth_compiles_in_one_graph(mode):
    layer = StochasticDepth(0.25, mode)

    def step(x):
        with record():
            y = layer(x)
            return y, layer.backward(torch.ones_like(x))

    compiled = one_graph(step, dynamic=True)
    for size in (30, 50):
        x = torch.rand(size, 4) + 1
        y, dx = compiled(x)
        torch.testing.assert_close(y, x * dx)
        assert set(dx.flatten().tolist()) <= {0.0, float(torch.tensor(4 / 3))}
