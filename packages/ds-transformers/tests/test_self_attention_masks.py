"""SelfAttention under every kind of mask and layout, held against torch.nn.MultiheadAttention with one input."""

import itertools
import math

import pytest
import torch
from attention_twins import TorchSelfAttention, causal_mask
from ds_core import no_record, record
from ds_core.testing import check_layer, check_twin
from ds_transformers import SelfAttention
from ds_transformers.attentions.implementations import IMPLEMENTATIONS
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched")
every_implementation = pytest.mark.parametrize("implementation", list(IMPLEMENTATIONS))
DRAWS = torch.Generator().manual_seed(0)
X = torch.randn(2, 4, 6, generator=DRAWS)
PADDING = {
    "none": None,
    "boolean": torch.tensor([[False, False, True, True], [False, True, False, False]]),
    "floating": torch.tensor([[0.0, 1.0, -math.inf, 0.5], [0.3, -2.0, 0.0, 0.1]], dtype=torch.float64),
}
ATTENDED = {
    "none": None,
    "boolean": causal_mask(4),
    "floating": torch.randn(4, 4, generator=DRAWS, dtype=torch.float64),
    "boolean, each head": torch.stack([causal_mask(4).roll(shift, 0) for shift in range(6)]),
    "floating, each head": torch.randn(6, 4, 4, generator=DRAWS, dtype=torch.float64),
}


def constants(**masks):
    """The names of those masks that are floating: they get no gradient."""
    return [name for name, mask in masks.items() if mask is not None and mask.is_floating_point()]


@every_implementation
@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("mask", ATTENDED)
def test_twin_over_all_masks(mask, padding, implementation):
    masks = {"attn_mask": ATTENDED[mask], "key_padding_mask": PADDING[padding]}
    for batch_first in (True, False):
        layers = [
            SelfAttention(6, 3, batch_first=batch_first, implementation=implementation),
            TorchSelfAttention(6, 3, batch_first=batch_first),
        ]
        x = X if batch_first else X.transpose(0, 1)
        check_twin(*layers, x, kwargs=masks, constants=constants(**masks), modes=["train"])


@every_implementation
@pytest.mark.parametrize("causal", [False, True])
def test_twin_over_the_promise_that_the_mask_is_causal(causal, implementation):
    """Beside a padding mask or none, boolean or floating, for all heads or each; no change to a causal layer."""
    added = torch.zeros(4, 4, dtype=torch.float64).masked_fill(causal_mask(4), -math.inf)
    for mask, padding in itertools.product((causal_mask(4), added, added.expand(6, 4, 4)), PADDING.values()):
        masks = {"attn_mask": mask, "key_padding_mask": padding}
        ours = SelfAttention(6, 3, causal=causal, implementation=implementation)
        check_twin(
            ours,
            TorchSelfAttention(6, 3),
            X,
            kwargs={**masks, "is_causal": True},
            constants=constants(**masks),
            modes=["train"],
        )


@every_implementation
@pytest.mark.parametrize("batch_first", [True, False])
def test_unbatched_input(batch_first, implementation):
    padding = torch.tensor([False, True, False, False])
    masks = [None, causal_mask(4), ATTENDED["boolean, each head"][:3], ATTENDED["floating"]]
    for mask, padded in itertools.product(masks, (None, padding)):
        given_masks = {"attn_mask": mask, "key_padding_mask": padded}
        ours = SelfAttention(6, 3, batch_first=batch_first, implementation=implementation)
        theirs = TorchSelfAttention(6, 3, batch_first=batch_first)
        check_twin(ours, theirs, X[0], kwargs=given_masks, constants=constants(**given_masks), modes=["train"])


@every_implementation
@pytest.mark.parametrize("batch_first", [True, False])
def test_gradients(batch_first, implementation):
    layer = SelfAttention(6, 3, batch_first=batch_first, implementation=implementation)
    x = X if batch_first else X.transpose(0, 1)
    kwargs = {"attn_mask": ATTENDED["boolean"], "is_causal": True}
    check_layer(layer, x, kwargs=kwargs, batch_dim=[0 if batch_first else 1, None, None])
    check_layer(layer, X[0], kwargs={"attn_mask": ATTENDED["floating"]}, constants=["attn_mask"], batch_dim=None)


@every_implementation
@pytest.mark.parametrize("kind", ["boolean", "floating"])
@pytest.mark.parametrize("hidden", ["padding", "mask"])
def test_a_token_that_sees_nothing_attends_to_nothing(hidden, kind, implementation):
    """Zeros before out_proj, and so its bias alone; finite gradients, as in the twin."""
    mask = torch.zeros(2, 4, dtype=torch.bool) if hidden == "padding" else torch.zeros(4, 4, dtype=torch.bool)
    mask[1] = True
    given_mask = mask if kind == "boolean" else torch.zeros(mask.shape).double().masked_fill(mask, -math.inf)
    name = "key_padding_mask" if hidden == "padding" else "attn_mask"
    layer = SelfAttention(6, 3, implementation=implementation)
    options = {"kwargs": {name: given_mask}, "constants": [name] if kind == "floating" else []}
    check_twin(layer, TorchSelfAttention(6, 3), X, **options, modes=["train"])
    layer.out_proj.bias.data.normal_()
    with record():
        y = layer(X, **{name: given_mask})
        dx = layer.backward(torch.ones_like(y))
    nothing = y[1] if hidden == "padding" else y[:, 1]
    assert torch.equal(nothing, layer.out_proj.bias.detach().expand_as(nothing))
    assert dx.isfinite().all()


@every_implementation
def test_dropout_beside_masks(implementation):
    masks = {"attn_mask": ATTENDED["floating"], "key_padding_mask": PADDING["boolean"]}
    layer = SelfAttention(6, 3, dropout=0.4, batch_first=False, implementation=implementation)
    check_layer(layer, X.transpose(0, 1), kwargs=masks, constants=["attn_mask"], batch_dim=None)
    twin = TorchSelfAttention(6, 3, dropout=0.4)
    check_twin(SelfAttention(6, 3, dropout=0.4), twin, X, kwargs=masks, constants=["attn_mask"], modes=["eval"])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    batch=st.integers(0, 3),
    length=st.integers(0, 5),
    groups=st.integers(1, 3),
    shared=st.integers(1, 2),
    causal=st.booleans(),
    padded=st.sampled_from(["none", "boolean", "floating"]),
    masked=st.sampled_from(["none", "boolean", "floating", "each head"]),
    batch_first=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_implementations_agree(batch, length, groups, shared, causal, padded, masked, batch_first, seed):
    generator = torch.Generator().manual_seed(seed)
    heads = groups * shared

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x = draw(batch, length, 2 * heads) if batch_first else draw(length, batch, 2 * heads)
    paddings = {"none": None, "boolean": draw(batch, length) < -0.5, "floating": draw(batch, length)}
    shape = (batch * heads, length, length) if masked == "each head" else (length, length)
    masks = {"none": None, "floating": draw(*shape), "boolean": draw(*shape) < 0, "each head": draw(*shape) < 0}
    options = {"key_padding_mask": paddings[padded], "attn_mask": masks[masked]}
    dy, results = draw(*x.shape), []
    for implementation in IMPLEMENTATIONS:
        layer = SelfAttention(
            2 * heads,
            heads,
            causal=causal,
            num_kv_heads=groups,
            batch_first=batch_first,
            implementation=implementation,
            dtype=torch.float64,
            generator=torch.Generator().manual_seed(seed),
        )
        with record():
            y = layer(x, **options)
            dx = layer.backward(dy)
        results.append([y, dx, *(tensor.grad for tensor in layer.parameters())])
        assert all(tensor.isfinite().all() for tensor in results[-1])
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-12, atol=1e-12)


def test_a_batch_is_its_examples():
    layer = SelfAttention(6, 3, causal=True)
    with no_record():
        torch.testing.assert_close(layer(X), torch.stack([layer(x) for x in X]))
