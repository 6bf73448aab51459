"""FeedForward against finite differences, autograd, a plain torch module and a worked example."""

import pytest
import torch
from ds_core import GELU, ReLU, ShapeError, record
from ds_core.testing import check_layer, check_twin
from ds_transformers import FeedForward
from hypothesis import given, settings
from hypothesis import strategies as st


class TorchFeedForward(torch.nn.Module):
    def __init__(self, embed_dim, hidden, activation, bias=True, dropout=0.0):
        super().__init__()
        self.linear1 = torch.nn.Linear(embed_dim, hidden, bias)
        self.activation = activation
        self.dropout = torch.nn.Dropout(dropout)
        self.linear2 = torch.nn.Linear(hidden, embed_dim, bias)

    def forward(self, x):
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", [ReLU, GELU])
def test_feed_forward_is_right(activation, bias):
    kinks = ["finite differences"] if activation is ReLU else []
    check_layer(FeedForward(4, 7, activation(), bias=bias), torch.randn(2, 3, 4), skip=kinks)
    check_layer(FeedForward(4, 7, activation(), bias=bias, dropout=0.3), torch.randn(2, 3, 4), skip=kinks)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", [ReLU, GELU])
def test_feed_forward_is_the_plain_torch_module(activation, bias):
    twin = TorchFeedForward(4, 7, getattr(torch.nn, activation.__name__)(), bias)
    check_twin(FeedForward(4, 7, activation(), bias), twin, torch.randn(2, 3, 4))
    twin = TorchFeedForward(4, 7, getattr(torch.nn, activation.__name__)(), bias, dropout=0.4)
    check_twin(FeedForward(4, 7, activation(), bias, dropout=0.4), twin, torch.randn(2, 3, 4), modes=["eval"])


def test_feed_forward_starts_as_two_linear_layers_do():
    torch.manual_seed(3)
    layer = FeedForward(4, 7, ReLU())
    torch.manual_seed(3)
    for name, tensor in TorchFeedForward(4, 7, torch.nn.ReLU()).state_dict().items():
        assert torch.equal(layer.state_dict()[name], tensor)


def test_worked_example():
    layer = FeedForward(2, 2, ReLU())
    layer.load_state_dict(
        {
            "linear1.weight": torch.tensor([[1.0, 1.0], [0.5, -1.0]]),
            "linear1.bias": torch.tensor([0.5, 0.0]),
            "linear2.weight": torch.tensor([[1.0, -1.0], [2.0, 0.0]]),
            "linear2.bias": torch.tensor([0.0, 1.0]),
        }
    )
    x, dy = torch.tensor([[1.0, -2.0], [3.0, 0.5]]), torch.tensor([[1.0, 2.0], [-1.0, 1.0]])
    with record() as trace:
        y = layer(x)
        u = layer.linear1.weight @ x.t()
        assert (u.t() + layer.linear1.bias).tolist() == [[-0.5, 2.5], [4.0, 1.0]]
        assert trace.entries[-1].saved[0].tolist() == [[0.0, 2.5], [4.0, 1.0]]  # what linear2 keeps
        dx = layer.backward(dy)
    assert y.tolist() == [[-2.5, 1.0], [3.0, 9.0]]
    assert (dy @ layer.linear2.weight).tolist() == [[5.0, -1.0], [1.0, 1.0]]
    assert dx.tolist() == [[-0.5, 1.0], [1.5, 0.0]]
    assert layer.linear1.weight.grad.tolist() == [[3.0, 0.5], [2.0, 2.5]]
    assert layer.linear1.bias.grad.tolist() == [1.0, 0.0]
    assert layer.linear2.weight.grad.tolist() == [[-4.0, 1.5], [4.0, 6.0]]
    assert layer.linear2.bias.grad.tolist() == [0.0, 3.0]


@settings(max_examples=20, deadline=None)
@given(shape=st.lists(st.integers(0, 3), max_size=3), bias=st.booleans())
def test_feed_forward_of_any_shape(shape, bias):
    twin = TorchFeedForward(3, 5, torch.nn.GELU(), bias)
    check_twin(FeedForward(3, 5, GELU(), bias), twin, torch.randn(*shape, 3))


def test_feed_forward_drops_hidden_units():
    layer = FeedForward(4, 7, GELU(), dropout=1.0)
    x = torch.randn(5, 4)
    with record() as trace:
        assert torch.equal(layer(x), layer.linear2.bias.expand(5, 4))
        trace.take()
    assert not torch.equal(layer.eval()(x), layer.linear2.bias.expand(5, 4))


def test_feed_forward_refuses_what_cannot_be():
    with pytest.raises(ValueError, match=r"given p=1\.5, expected a probability"):
        FeedForward(4, 7, ReLU(), dropout=1.5)
    with pytest.raises(ShapeError, match=r"given input of shape \(2, 5\), expected \(..., 4\)"):
        FeedForward(4, 7, ReLU())(torch.randn(2, 5))
