"""MultiheadAttention against its twin over every argument at once: constructor, forward and layout, drawn together."""

import math

import pytest
import torch
from ds_core.testing import check_layer, check_twin
from ds_transformers import MultiheadAttention
from ds_transformers.attentions.implementations import IMPLEMENTATIONS
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched")
HEADS, QUERIES, KEYS = 2, 3, 4


def causal(kind):
    hidden = torch.ones(QUERIES, KEYS, dtype=torch.bool).triu(1)
    return hidden if kind == "boolean" else torch.zeros(QUERIES, KEYS).double().masked_fill(hidden, -math.inf)


def draw_mask(kind, shape, generator):
    """At least the first key is seen by every query, so that PyTorch's numbers are finite."""
    if kind is None:
        return None
    numbers = torch.randn(shape, generator=generator, dtype=torch.float64)
    numbers[..., 0] = 1.0
    return numbers < -0.3 if kind == "boolean" else numbers.masked_fill(numbers < -0.8, -math.inf)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    constructor=st.fixed_dictionaries(
        {
            "bias": st.booleans(),
            "add_bias_kv": st.booleans(),
            "add_zero_attn": st.booleans(),
            "kdim": st.sampled_from([None, 3]),
            "vdim": st.sampled_from([None, 5]),
            "batch_first": st.booleans(),
        }
    ),
    implementation=st.sampled_from(list(IMPLEMENTATIONS)),
    batched=st.booleans(),
    masked=st.sampled_from([None, "boolean", "floating"]),
    several=st.booleans(),
    padded=st.sampled_from([None, "boolean", "floating"]),
    need_weights=st.booleans(),
    average_attn_weights=st.booleans(),
    is_causal=st.booleans(),
    dropout=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 999),
)
def test_twin_over_every_argument(
    constructor,
    implementation,
    batched,
    masked,
    several,
    padded,
    need_weights,
    average_attn_weights,
    is_causal,
    dropout,
    seed,
):
    generator = torch.Generator().manual_seed(seed)
    batch = 2 if batched else 1
    shape = (batch * HEADS, QUERIES, KEYS) if several else (QUERIES, KEYS)
    mask = draw_mask(masked, shape, generator)
    if is_causal and masked is not None:
        mask = causal(masked).expand(shape)
    padding = draw_mask(padded, (batch, KEYS) if batched else (KEYS,), generator)
    widths = (6, constructor["kdim"] or 6, constructor["vdim"] or 6)
    inputs = [
        torch.randn(batch, length, width, generator=generator, dtype=torch.float64)
        for length, width in zip((QUERIES, KEYS, KEYS), widths, strict=True)
    ]
    if not batched:
        inputs = [tensor[0] for tensor in inputs]
    elif not constructor["batch_first"]:
        inputs = [tensor.transpose(0, 1) for tensor in inputs]
    check_twin(
        MultiheadAttention(6, HEADS, dropout, **constructor, implementation=implementation),
        torch.nn.MultiheadAttention(6, HEADS, dropout, **constructor),
        *inputs,
        kwargs={
            "key_padding_mask": padding,
            "need_weights": need_weights,
            "attn_mask": mask,
            "average_attn_weights": average_attn_weights,
            "is_causal": is_causal and masked is not None,
        },
        constants=[
            name
            for name, given_mask in (("attn_mask", mask), ("key_padding_mask", padding))
            if given_mask is not None and given_mask.is_floating_point()
        ],
        modes=["eval"] if dropout > 0 else ["train", "eval"],
    )


@pytest.mark.parametrize("implementation", list(IMPLEMENTATIONS))
@pytest.mark.parametrize("need_weights", [False, True])
def test_gradients_with_everything(need_weights, implementation):
    layer = MultiheadAttention(
        6,
        HEADS,
        0.3,
        add_bias_kv=True,
        add_zero_attn=True,
        kdim=3,
        vdim=5,
        batch_first=True,
        implementation=implementation,
    )
    inputs = [torch.randn(2, length, width) for length, width in ((QUERIES, 6), (KEYS, 3), (KEYS, 5))]
    masks = {
        "key_padding_mask": torch.tensor([[False, False, True, False], [False, True, False, True]]),
        "attn_mask": causal("floating"),
    }
    kwargs = {**masks, "need_weights": need_weights, "average_attn_weights": False}
    check_layer(layer, *inputs, kwargs=kwargs, constants=["attn_mask"], batch_dim=None)
