import pytest
import torch
from ds_core import Linear, ShapeError, linear, linear_backward, primitives_only, record
from ds_core.testing import check_layer, check_twin


def test_worked_example():
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    weight = torch.tensor([[1.0, -1.0], [2.0, 3.0]])
    bias = torch.tensor([0.5, -0.5])
    dy = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
    assert linear(x, weight, bias).tolist() == [[-0.5, 7.5], [-1.5, 20.5]]
    dx, dweight, dbias = linear_backward(dy, x, weight)
    assert dx.tolist() == [[-3.0, -7.0], [4.0, -1.5]]
    assert dweight.tolist() == [[10.0, 17.0], [-0.5, -1.5]]
    assert dbias.tolist() == [4.0, -1.5]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3), (1, 3), (3,), (0, 3), (2, 0, 3)])
def test_like_torch_over_all_arguments(shape, bias):
    has_batch = len(shape) > 1 and shape[0] > 0
    check_layer(Linear(3, 4, bias=bias), torch.randn(shape), batch_dim=0 if has_batch else None)
    check_twin(Linear(3, 4, bias=bias), torch.nn.Linear(3, 4, bias=bias), torch.randn(shape))


@pytest.mark.parametrize("sizes", [(1, 1), (0, 2), (3, 0)])
def test_extreme_sizes(sizes):
    layer = Linear(*sizes)
    x = torch.randn(2, sizes[0])
    with record():
        y = layer(x)
        dx = layer.backward(torch.ones_like(y))
    assert y.shape == (2, sizes[1])
    assert dx.shape == x.shape
    assert layer.weight.grad.shape == layer.weight.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_same_seed_gives_torchs_weights_bit_for_bit(dtype):
    for in_features in (1, 3, 7, 10, 64, 784):
        torch.manual_seed(in_features)
        ours = Linear(in_features, 5, dtype=dtype)
        torch.manual_seed(in_features)
        theirs = torch.nn.Linear(in_features, 5, dtype=dtype)
        assert torch.equal(ours.weight, theirs.weight)
        assert torch.equal(ours.bias, theirs.bias)


def test_a_generator_leaves_the_default_one_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = Linear(3, 2, generator=torch.Generator().manual_seed(5))
    second = Linear(3, 2, generator=torch.Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)


@pytest.mark.parametrize("needs", [(True, False, False), (False, True, False), (False, False, True)])
def test_only_needed_gradients_are_computed(needs):
    dy, x, weight = torch.randn(5, 4), torch.randn(5, 3), torch.randn(4, 3)
    whole = linear_backward(dy, x, weight)
    with primitives_only() as operations:
        parts = linear_backward(dy, x, weight, needs)
    assert [part is not None for part in parts] == list(needs)
    assert operations["mm"] == needs[0] + needs[1]
    assert operations["sum"] == needs[2]
    for part, same in zip(parts, whole, strict=True):
        assert part is None or torch.equal(part, same)


def test_frozen_parameters_cost_nothing():
    layer = Linear(3, 4)
    layer.weight.requires_grad_(False)
    with record():
        y = layer(torch.randn(5, 3))
        with primitives_only() as operations:
            layer.backward(torch.ones_like(y), input_gradient=False)
    assert operations["mm"] == 0
    assert layer.weight.grad is None
    assert layer.bias.grad is not None


def test_bfloat16():
    layer = Linear(3, 4, dtype=torch.bfloat16)
    with record():
        y = layer(torch.randn(5, 3, dtype=torch.bfloat16))
        dx = layer.backward(torch.ones_like(y))
    assert {t.dtype for t in (y, dx, layer.weight.grad, layer.bias.grad)} == {torch.bfloat16}


def test_keeps_its_input_and_no_copy_of_it():
    x = torch.randn(5, 3)
    layer = Linear(3, 4)
    with record() as trace:
        layer(x)
        assert trace.entries[0].saved[0] is x
        layer.backward(None)


@pytest.mark.parametrize("shape", [(5, 4), (), (3, 1)])
def test_an_input_that_does_not_fit_is_named(shape):
    layer = Linear(3, 4)
    with pytest.raises(
        ShapeError, match=r"Linear\(in_features=3, out_features=4, bias=True\): given input of shape"
    ) as e:
        layer(torch.zeros(shape))
    assert str(shape) in str(e.value)
    assert isinstance(e.value, ValueError)
    assert isinstance(e.value, RuntimeError)


def test_repr_is_torchs():
    assert repr(Linear(3, 4, bias=False)) == repr(torch.nn.Linear(3, 4, bias=False))
