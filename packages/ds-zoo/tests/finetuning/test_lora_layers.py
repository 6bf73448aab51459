"""LoRA's two layers against autograd, finite differences, and a layer with the folded weight."""

import pytest
import torch
from ds_core import Linear, ShapeError, no_record, primitives_only, record
from ds_core.testing import check_layer
from ds_transformers import KeyValueCache, SelfAttention
from ds_transformers.attentions.implementations import IMPLEMENTATIONS
from ds_zoo.finetuning import LoRALinear, LoRASelfAttention
from ds_zoo.finetuning.lora_layers import with_update


def with_values(layer):
    """`lora_b` begins as zero, which would hide mistakes."""
    with torch.no_grad():
        layer.lora_b.normal_(generator=torch.Generator().manual_seed(1))
    return layer


def test_worked_example():
    def matrix(*rows):
        return torch.tensor(rows, dtype=torch.float64)

    layer = LoRALinear(2, 2, rank=1, alpha=2, dtype=torch.float64)
    w, a, b = matrix([1.0, -1.0], [2.0, 3.0]), matrix([0.5, 1.5]), matrix([1.0], [-0.5])
    layer.load_state_dict({"weight": w, "bias": matrix(0.5, -0.5), "lora_a": a, "lora_b": b})
    x, dy = matrix([1.0, 2.0]), matrix([1.0, -2.0])
    assert torch.equal(x @ a.t(), matrix([3.5]))
    assert torch.equal(2 * 3.5 * b.t(), matrix([7.0, -3.5]))
    with record():
        y = layer(x)
        dx = layer.backward(dy)
    assert torch.equal(x @ w.t() + layer.bias, matrix([-0.5, 7.5]))
    assert torch.equal(y, matrix([6.5, 4.0]))
    assert torch.equal(dx, matrix([-1.0, -1.0]))
    assert torch.equal(layer.lora_a.grad, matrix([4.0, 8.0]))
    assert torch.equal(layer.lora_b.grad, matrix([7.0], [-14.0]))
    assert layer.weight.grad is layer.bias.grad is None
    folded = w + 2 * b @ a
    assert torch.equal(folded, matrix([2.0, 2.0], [1.5, 1.5]))
    assert torch.equal(x @ folded.t() + layer.bias, matrix([6.5, 4.0]))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("unfrozen", [False, True])
@pytest.mark.parametrize(("rank", "alpha"), [(1, 0.5), (3, 16)])
def test_gradients_of_the_linear_layer(rank, alpha, unfrozen, bias):
    layer = with_values(LoRALinear(4, 5, bias, rank=rank, alpha=alpha))
    if unfrozen:
        layer.requires_grad_(True)
    check_layer(layer, torch.randn(3, 2, 4))
    layer.eval()
    check_layer(layer, torch.randn(4), batch_dim=None)


@pytest.mark.parametrize("implementation", list(IMPLEMENTATIONS))
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("unfrozen", [False, True])
def test_gradients_of_attention(unfrozen, bias, implementation):
    options = {"causal": True, "bias": bias, "implementation": implementation}
    layer = with_values(LoRASelfAttention(6, 2, rank=2, alpha=3, **options))
    if unfrozen:
        layer.requires_grad_(True)
    check_layer(layer, torch.randn(2, 4, 6))


@pytest.mark.parametrize("options", [{"num_kv_heads": 1}, {"batch_first": False}])
def test_gradients_of_other_attention(options):
    check_layer(with_values(LoRASelfAttention(6, 2, rank=2, alpha=3, **options)), torch.randn(2, 4, 6), batch_dim=None)


def test_attention_without_a_batch_and_with_padding():
    layer = with_values(LoRASelfAttention(6, 2, rank=2, alpha=3))
    check_layer(layer, torch.randn(4, 6), batch_dim=None)
    padding = torch.tensor([[False, True, False, False], [False] * 4])
    check_layer(layer, torch.randn(2, 4, 6), kwargs={"key_padding_mask": padding}, batch_dim=None)


def test_begins_as_a_plain_linear_layer():
    layer, x = LoRALinear(6, 4, rank=2, alpha=3), torch.randn(5, 6)
    with no_record():
        torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))


def test_the_weight_without_the_update_is_that_of_the_same_seed():
    first = LoRALinear(6, 4, rank=2, alpha=3, generator=torch.Generator().manual_seed(3))
    second = Linear(6, 4, generator=torch.Generator().manual_seed(3))
    assert torch.equal(first.weight, second.weight)
    assert list(first.state_dict()) == ["weight", "bias", "lora_a", "lora_b"]
    assert not first.lora_b.any()
    assert first.lora_a.abs().max() <= 6**-0.5
    assert first.lora_a.std() > 0.1


@pytest.mark.parametrize("bias", [False, True])
def test_the_folded_weight_computes_the_same(bias):
    layer = with_values(LoRALinear(6, 4, bias, rank=2, alpha=3, dtype=torch.float64))
    plain = torch.nn.Linear(6, 4, bias, dtype=torch.float64)
    with torch.no_grad():
        plain.weight.copy_(layer.weight + layer.scale * layer.lora_b @ layer.lora_a)
        if bias:
            plain.bias.copy_(layer.bias)
    x = torch.randn(5, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-12, atol=1e-12)


def test_attention_with_a_cache_equals_the_whole():
    layer = with_values(LoRASelfAttention(6, 2, rank=2, alpha=3, causal=True, dtype=torch.float64))
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    cache = KeyValueCache(2, 2, 5, 3, dtype=torch.float64)
    with no_record():
        parts = [layer(piece, cache=cache) for piece in x.split([2, 1, 2], 1)]
        torch.testing.assert_close(torch.cat(parts, 1), layer(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layer", [LoRALinear(6, 4, rank=2, alpha=3), LoRASelfAttention(6, 2, rank=2, alpha=3)])
def test_the_frozen_weight_costs_nothing(layer):
    """Without the input's gradient no product with W is left, only those of rank r."""
    with record():
        dy = torch.randn_like(layer(torch.randn(2, 3, 6)))
        with primitives_only() as operations:
            assert layer.backward(dy, input_gradient=False) is None
    # du, dA, dB, beside out_proj's dx in attention
    assert operations["mm"] == (3 if isinstance(layer, LoRALinear) else 4)
    layer.zero_grad()


@pytest.mark.parametrize("kind", ["linear", "attention"])
def test_replaces_a_layer_in_its_state(kind):
    if kind == "linear":
        layer, replaced = Linear(6, 4), LoRALinear
    else:
        layer, replaced = SelfAttention(6, 2, dropout=0.5, causal=True), LoRASelfAttention
    layer.eval().requires_grad_(False)
    names = list(layer.state_dict())
    found = with_update(replaced, layer, 2, 3.0, torch.Generator().manual_seed(1))
    assert type(found) is replaced
    assert not found.training
    assert [name for name in found.state_dict() if "lora" not in name] == names
    assert all(found.state_dict()[name].data_ptr() == layer.state_dict()[name].data_ptr() for name in names)
    assert [name for name, tensor in found.named_parameters() if tensor.requires_grad] == ["lora_a", "lora_b"]
    assert list(layer.state_dict()) == names
    x = torch.randn(2, 3, 6)
    with no_record():
        torch.testing.assert_close(found(x), layer(x))


def test_bfloat16_and_repr():
    layer = LoRALinear(6, 4, rank=2, alpha=3, dtype=torch.bfloat16)
    with record():
        y = layer(torch.randn(3, 6, dtype=torch.bfloat16))
        dx = layer.backward(torch.ones_like(y))
    assert y.dtype == dx.dtype == layer.lora_b.grad.dtype == torch.bfloat16
    assert repr(layer) == "LoRALinear(in_features=6, out_features=4, bias=True, rank=2, alpha=3)"
    assert "rank=2, alpha=3" in repr(LoRASelfAttention(6, 2, rank=2, alpha=3))


@pytest.mark.parametrize(
    ("rank", "alpha", "error", "message"),
    [
        (0, 1, ValueError, "rank=0, expected 1 or more"),
        (1.5, 1, TypeError, "rank=1.5, expected a whole number"),
        (1, 0, ValueError, "alpha=0, expected a number above 0"),
        (1, -2, ValueError, "alpha=-2, expected a number above 0"),
        (1, float("nan"), ValueError, "alpha=nan, expected a finite number"),
        (1, "2", TypeError, "alpha='2', expected a number"),
    ],
)
def test_impossible_arguments(rank, alpha, error, message):
    with pytest.raises(error, match=message):
        LoRALinear(2, 2, rank=rank, alpha=alpha)
    with pytest.raises(error, match=message):
        LoRASelfAttention(2, 1, rank=rank, alpha=alpha)


def test_inputs_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"LoRALinear.*\(3, 5\), expected \(..., 6\)"):
        LoRALinear(6, 4, rank=2, alpha=3)(torch.zeros(3, 5))


def test_a_frozen_layer_equals_its_twin():
    """With everything frozen it is a function of x alone, and its gradient that of torch.nn's linear layer."""
    layer = LoRALinear(6, 4, rank=2, alpha=3).requires_grad_(False)
    twin = torch.nn.Linear(6, 4).requires_grad_(False)
    with torch.no_grad():
        twin.weight.copy_(layer.weight)
        twin.bias.copy_(layer.bias)
    x, dy = torch.randn(5, 6), torch.randn(5, 4)
    leaf = x.clone().requires_grad_()
    twin(leaf).backward(dy)
    with record():
        layer(x)
        torch.testing.assert_close(layer.backward(dy), leaf.grad)
