"""GatedFeedForward against finite differences, autograd, a plain torch module, closed forms and a worked example."""

import math

import pytest
import torch
from ds_core import GELU, Identity, PReLU, Recompute, ReLU, ShapeError, Sigmoid, SiLU, primitives_only, record
from ds_core.speed.elementwise import CHUNK
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph
from ds_transformers import GatedFeedForward
from ds_transformers.blocks.gated_feed_forward import gated, gated_backward, swiglu, swiglu_backward
from hypothesis import given, settings
from hypothesis import strategies as st

ACTIVATIONS = [None, SiLU, GELU, Sigmoid, Identity, ReLU, PReLU]


class TorchGated(torch.nn.Module):
    """Llama's layer, written with torch.nn."""

    def __init__(self, embed_dim, hidden, activation=None, bias=False, dropout=0.0, dtype=None):
        super().__init__()
        self.gate_proj = torch.nn.Linear(embed_dim, hidden, bias, dtype=dtype)
        self.up_proj = torch.nn.Linear(embed_dim, hidden, bias, dtype=dtype)
        self.down_proj = torch.nn.Linear(hidden, embed_dim, bias, dtype=dtype)
        self.activation = torch.nn.SiLU() if activation is None else activation
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, x):
        return self.down_proj(self.dropout(self.activation(self.gate_proj(x)) * self.up_proj(x)))


def pair(activation, *args, **kwargs):
    theirs = None if activation is None else getattr(torch.nn, activation.__name__)()
    ours = None if activation is None else activation()
    return GatedFeedForward(*args, activation=ours, **kwargs), TorchGated(*args, activation=theirs, **kwargs)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("options", [{}, {"bias": True}, {"dropout": 0.3}, {"bias": True, "dropout": 1.0}])
def test_gated_feed_forward_is_right(activation, options):
    layer, _ = pair(activation, 4, 5, **options)
    kinks = ["finite differences"] if activation in (ReLU, PReLU) else []
    check_layer(layer, torch.randn(2, 3, 4), skip=kinks)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_gated_feed_forward_is_the_plain_torch_module(activation, bias):
    check_twin(*pair(activation, 4, 5, bias=bias), torch.randn(2, 3, 4))
    check_twin(*pair(activation, 4, 5, bias=bias, dropout=0.4), torch.randn(2, 3, 4), modes=["eval"])


def test_gated_feed_forward_starts_as_the_plain_module():
    grid = {"embed_dim": [1, 4], "hidden": [1, 6], "bias": [False, True], "dtype": [None, torch.float64]}

    def inputs(values):
        return [torch.randn(3, values["embed_dim"])]

    assert check_twin_grid(GatedFeedForward, TorchGated, grid, inputs, check_arguments=False) == 16


def test_names_are_llamas():
    layer = GatedFeedForward(4, 6)
    shapes = {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()}
    assert shapes == {"gate_proj.weight": (6, 4), "up_proj.weight": (6, 4), "down_proj.weight": (4, 6)}


def test_worked_example():
    layer = GatedFeedForward(2, 2)
    gate_weight, up_weight = torch.eye(2), torch.tensor([[1.0, 1.0], [0.0, 2.0]])
    down_weight = torch.tensor([[1.0, 0.0], [2.0, -1.0]])
    layer.load_state_dict(
        {"gate_proj.weight": gate_weight, "up_proj.weight": up_weight, "down_proj.weight": down_weight}
    )
    x, dy = torch.tensor([[1.0, 0.0], [-2.0, 0.5]]), torch.tensor([[1.0, 2.0], [-3.0, 0.5]])
    near = {"rtol": 0, "atol": 6e-5}
    with record():
        y = layer(x)
        dx = layer.backward(dy)
    torch.testing.assert_close(y, torch.tensor([[0.7311, 1.4621], [0.3576, 0.4040]]), **near)
    up, dhidden = torch.tensor([[1.0, 0.0], [-1.5, 1.0]]), torch.tensor([[5.0, -2.0], [-2.0, -0.5]])
    assert torch.equal(x @ up_weight.t(), up)
    assert torch.equal(dy @ down_weight, dhidden)
    torch.testing.assert_close(swiglu(x, up), torch.tensor([[0.7311, 0.0], [0.3576, 0.3112]]), **near)
    activated = SiLU()(x)
    torch.testing.assert_close(activated, torch.tensor([[0.7311, 0.0], [-0.2384, 0.3112]]), **near)
    sigmoid = Sigmoid()(x)
    torch.testing.assert_close(sigmoid, torch.tensor([[0.7311, 0.5], [0.1192, 0.6225]]), **near)
    slope = torch.tensor([[0.9277, 0.5], [-0.0908, 0.7400]])
    torch.testing.assert_close(activated + sigmoid * (1 - activated), slope, **near)
    dgate, dup, hidden = swiglu_backward(dhidden, x, up)
    torch.testing.assert_close(dup, torch.tensor([[3.6553, 0.0], [0.4768, -0.1556]]), **near)
    torch.testing.assert_close(dgate, torch.tensor([[4.6384, 0.0], [-0.2724, -0.3700]]), **near)
    torch.testing.assert_close(hidden, swiglu(x, up))
    torch.testing.assert_close(dx, torch.tensor([[8.2936, 3.6553], [0.2045, -0.2044]]), **near)
    expected = {
        "gate_proj": [[5.1831, -0.1362], [0.7400, -0.1850]],
        "up_proj": [[2.7017, 0.2384], [0.3112, -0.0778]],
        "down_proj": [[-0.3418, -0.9337], [1.6409, 0.1556]],
    }
    for name, gradient in expected.items():
        torch.testing.assert_close(getattr(layer, name).weight.grad, torch.tensor(gradient), **near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_swiglu_at_extremes_in_both_engines(dtype):
    gate = torch.tensor([0.0, -0.0, 1e4, -1e4, 30.0, -30.0, 1e-10, -1e13, 1e13], dtype=dtype)
    up, dhidden = torch.full_like(gate, -3.0), torch.full_like(gate, 2.0)
    activated = torch.tensor([0.0, 0.0, 1e4, 0.0, 30.0, -30 * math.exp(-30), 5e-11, 0.0, 1e13], dtype=dtype)
    slope = torch.tensor([0.5, 0.5, 1.0, 0.0, 1.0, -29 * math.exp(-30), 0.5, 0.0, 1.0], dtype=dtype)
    leaves = gate.clone().requires_grad_(), up.clone().requires_grad_()
    product = swiglu(*leaves)
    product.backward(dhidden)
    by_hand = *swiglu_backward(dhidden, gate, up), swiglu(gate, up)
    for dgate, dup, hidden, again in (by_hand, (leaves[0].grad, leaves[1].grad, *2 * [product.detach()])):
        torch.testing.assert_close(hidden, -3 * activated, rtol=1e-5, atol=1e-20)
        torch.testing.assert_close(again, hidden)
        torch.testing.assert_close(dup, 2 * activated, rtol=1e-5, atol=1e-20)
        torch.testing.assert_close(dgate, -6 * slope, rtol=1e-5, atol=3e-15)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 3), max_size=3),
    embed_dim=st.integers(1, 4),
    hidden=st.integers(1, 4),
    bias=st.booleans(),
    activation=st.sampled_from(ACTIVATIONS),
)
def test_gated_feed_forward_of_any_shape(shape, embed_dim, hidden, bias, activation):
    check_twin(*pair(activation, embed_dim, hidden, bias=bias), torch.randn(*shape, embed_dim))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_default_in_one_pass_is_the_product_with_silu(dtype):
    """Also where pieces are cut; in half precision the one pass rounds once, the two passes twice."""
    gate, up, dhidden = (3 * torch.randn(3, CHUNK + 77)).to(dtype)
    silu = SiLU()
    with record():
        activated = silu(gate)
        hidden = gated(activated, up)
        dactivated, dup = gated_backward(dhidden, activated, up)
        expected = silu.backward(dactivated), dup, hidden
        found = swiglu_backward(dhidden, gate, up)
        torch.testing.assert_close(swiglu(gate, up), found[2], rtol=0, atol=0)
    near = {"rtol": 2e-2, "atol": 4e-2} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other, **near)


@pytest.mark.parametrize("activation", [None, SiLU, GELU])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gated_feed_forward_in_half_precision(activation, dtype):
    ours, twin = (layer.to(dtype) for layer in pair(activation, 32, 48))
    twin.load_state_dict(ours.state_dict())
    x, dy = torch.randn(2, 10, 32).to(dtype)
    leaf = x.clone().requires_grad_()
    expected = twin(leaf)
    expected.backward(dy)
    with record():
        y = ours(x)
        dx = ours.backward(dy)
    assert (y.dtype, dx.dtype) == (dtype, dtype)
    torch.testing.assert_close(y, expected.detach(), rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(dx, leaf.grad, rtol=2e-2, atol=2e-2)
    for name, tensor in twin.named_parameters():
        torch.testing.assert_close(dict(ours.named_parameters())[name].grad, tensor.grad, rtol=2e-2, atol=5e-2)


@pytest.mark.parametrize("activation", [None, GELU])
def test_kept_are_x_gate_and_up(activation):
    layer, _ = pair(activation, 10, 30)
    x = torch.randn(100, 10)
    with record() as trace:
        layer(x)
        assert [line.bytes for line in trace.kept()] == [4 * 100 * 10, 0, 4 * 2 * 100 * 30]
        layer.backward(None)


def test_work_that_is_not_needed_is_not_done():
    """Three products forward; backward the gradients of three weights, of hidden, and of x two ways; biases sum."""
    x, dy = torch.randn(2, 3, 4)
    for frozen, input_gradient, products, sums in [
        ("", True, 9, 3),
        ("", False, 7, 3),
        ("weight", True, 8, 3),
        ("bias", True, 9, 2),
    ]:
        layer = GatedFeedForward(4, 5, bias=True)
        if frozen:
            getattr(layer.down_proj, frozen).requires_grad_(False)
        with record(), primitives_only() as ran:
            layer(x)
            layer.backward(dy, input_gradient=input_gradient)
        assert (ran["mm"] + ran["addmm"], ran["sum"]) == (products, sums)


def test_dropout_stands_behind_the_product_and_is_replayed():
    layer = GatedFeedForward(4, 2000, dropout=0.25)
    x, dy = torch.randn(2, 3, 4)
    with record() as trace:
        layer(x)
        dropout_mask = trace.entries[-1].saved[2]
        assert set(dropout_mask.unique().tolist()) == {0.0, float(torch.tensor(4 / 3))}
        assert (dropout_mask == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
        trace.take()
    found = []
    for run in (layer, Recompute(layer)):
        layer.zero_grad()
        torch.manual_seed(0)
        with record():
            y = run.forward(x)
            found.append([y, run.backward(dy), *(tensor.grad for tensor in layer.parameters())])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_dropout_of_everything_leaves_the_bias():
    layer = GatedFeedForward(4, 5, bias=True, dropout=1.0)
    x = torch.randn(3, 4)
    assert torch.equal(layer(x), layer.down_proj.bias.expand(3, 4))
    assert not torch.equal(layer.eval()(x), layer.down_proj.bias.expand(3, 4))


@pytest.mark.parametrize("activation", [None, GELU])
def test_gated_feed_forward_compiles_in_one_graph(activation):
    layer, _ = pair(activation, 4, 6, bias=True)

    def step(x):
        with record():
            return layer.backward(layer(x) * 2)

    compiled = one_graph(step, dynamic=True)
    for x in (torch.randn(3, 4), torch.randn(5, 4)):
        layer.zero_grad()
        expected, gradient = step(x), layer.gate_proj.weight.grad.clone()
        layer.zero_grad()
        torch.testing.assert_close(compiled(x), expected)
        torch.testing.assert_close(layer.gate_proj.weight.grad, gradient)


def test_gated_feed_forward_refuses_what_cannot_be():
    for dropout in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"GatedFeedForward: given dropout={dropout}, expected a probability"):
            GatedFeedForward(4, 6, dropout=dropout)
    with pytest.raises(ShapeError, match=r"given input of shape \(2, 5\), expected \(..., 4\)"):
        GatedFeedForward(4, 6)(torch.randn(2, 5))


def test_the_same_generator_draws_the_same_weights():
    first, second = (GatedFeedForward(4, 6, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.gate_proj.weight, first.up_proj.weight)
