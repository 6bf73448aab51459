"""CrossAttention against torch.nn.MultiheadAttention with one memory, and a memory projected once."""

import itertools
import math

import pytest
import torch
from attention_twins import GroupedAttention, TorchCrossAttention, causal_mask
from ds_core import ShapeError, no_record, primitives_only, record
from ds_core.testing import check_layer, check_twin, one_graph
from ds_transformers import CrossAttention
from ds_transformers.attentions.implementations import IMPLEMENTATIONS
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched")
every_implementation = pytest.mark.parametrize("implementation", list(IMPLEMENTATIONS))
DRAWS = torch.Generator().manual_seed(0)
X, MEMORY = torch.randn(2, 3, 6, generator=DRAWS), torch.randn(2, 5, 6, generator=DRAWS)
PADDING = {
    "none": None,
    "boolean": torch.tensor([[False, False, True, True, False], [False, True, False, False, False]]),
    "floating": torch.randn(2, 5, generator=DRAWS, dtype=torch.float64),
    "everything": torch.tensor([[False] * 5, [True] * 5]),
}
ATTENDED = {
    "none": None,
    "boolean": causal_mask(3, 5),
    "floating": torch.randn(3, 5, generator=DRAWS, dtype=torch.float64),
    "boolean, each head": torch.stack([causal_mask(3, 5).roll(shift, 0) for shift in range(6)]),
    "floating, each head": torch.randn(6, 3, 5, generator=DRAWS, dtype=torch.float64),
}


def constants(**masks):
    return [name for name, mask in masks.items() if mask is not None and mask.is_floating_point()]


@every_implementation
def test_worked_example(implementation):
    """The matrices of the page: V and half the output gradient are those of the example in attention.md."""

    def matrix(*rows):
        return torch.tensor(rows, dtype=torch.float64)

    ln3, eye = math.log(3), matrix([1.0, 0.0], [0.0, 1.0])
    w_q, w_k, w_v = math.sqrt(2) * eye, ln3 * eye.flip(0), matrix([1.0, 3.0], [2.0, -1.0])
    layer = CrossAttention(2, 1, bias=False, implementation=implementation, dtype=torch.float64)
    layer.load_state_dict({"in_proj_weight": torch.cat([w_q, w_k, w_v]), "out_proj.weight": 2 * eye})
    with record():
        y = layer(eye[None], eye[None])[0]
        dx, dmemory = (d[0] for d in layer.backward(matrix([0.5, 1.0], [-0.5, 2.0])[None]))
    for found, expected in [
        (y, matrix([5.0, -0.5], [3.0, 2.5])),
        (dx, ln3 * matrix([-0.75, 0.75], [-2.625, 2.625])),
        (dx, matrix([-0.8240, 0.8240], [-2.8839, 2.8839])),
        (dmemory, ln3 * matrix([2.625, 0.75], [-2.625, -0.75]) + matrix([6.5, -5.0], [5.5, -1.0])),
        (dmemory, matrix([9.3839, -4.1760], [2.6161, -1.8240])),
    ]:
        torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)


@every_implementation
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("num_heads", [1, 3])
def test_gradients_and_twin(num_heads, bias, implementation):
    layer = CrossAttention(6, num_heads, bias=bias, implementation=implementation)
    check_layer(layer, X, MEMORY)
    check_twin(layer, TorchCrossAttention(6, num_heads, bias), X, MEMORY)


@every_implementation
@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("mask", ATTENDED)
def test_twin_over_all_masks_and_layouts(mask, padding, implementation):
    masks = {"attn_mask": ATTENDED[mask], "key_padding_mask": PADDING[padding]}
    for batch_first in (True, False):
        ours = CrossAttention(6, 3, batch_first=batch_first, implementation=implementation)
        theirs = TorchCrossAttention(6, 3, batch_first=batch_first)
        inputs = (X, MEMORY) if batch_first else (X.transpose(0, 1), MEMORY.transpose(0, 1))
        check_twin(ours, theirs, *inputs, kwargs=masks, constants=constants(**masks), modes=["train"])


@every_implementation
@pytest.mark.parametrize("batch_first", [True, False])
def test_unbatched_inputs(batch_first, implementation):
    masks = [None, causal_mask(3, 5), ATTENDED["boolean, each head"][:3], ATTENDED["floating"]]
    for mask, padded in itertools.product(masks, (None, PADDING["boolean"][0])):
        given_masks = {"attn_mask": mask, "key_padding_mask": padded}
        ours = CrossAttention(6, 3, batch_first=batch_first, implementation=implementation)
        theirs = TorchCrossAttention(6, 3, batch_first=batch_first)
        options = {"kwargs": given_masks, "constants": constants(**given_masks), "modes": ["train"]}
        check_twin(ours, theirs, X[0], MEMORY[0], **options)
    check_layer(CrossAttention(6, 3, batch_first=batch_first), X[0], MEMORY[0], batch_dim=None)


@pytest.mark.parametrize("padding", ["none", "boolean", "floating"])
def test_twin_where_the_mask_is_causal(padding):
    masks = {"attn_mask": causal_mask(3, 5), "key_padding_mask": PADDING[padding]}
    options = {"kwargs": {**masks, "is_causal": True}, "constants": constants(**masks), "modes": ["train"]}
    check_twin(CrossAttention(6, 3), TorchCrossAttention(6, 3), X, MEMORY, **options)


@every_implementation
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_twin(groups, implementation):
    inputs = [torch.randn(2, length, 12, generator=torch.Generator().manual_seed(0)) for length in (3, 5)]
    ours = CrossAttention(12, 4, num_kv_heads=groups, implementation=implementation)
    for padding in (None, PADDING["boolean"]):
        check_twin(
            ours, GroupedAttention(12, 4, groups), *inputs, kwargs={"key_padding_mask": padding}, modes=["train"]
        )
    assert ("num_kv_heads=" in repr(ours)) == (groups != 4)


@every_implementation
@pytest.mark.parametrize("dropout", [0.4, 1.0])
def test_gradients_under_dropout(dropout, implementation):
    kwargs = {"key_padding_mask": PADDING["boolean"]}
    layer = CrossAttention(6, 3, dropout=dropout, implementation=implementation)
    check_layer(layer, X, MEMORY, kwargs=kwargs, batch_dim=None)
    check_twin(layer, TorchCrossAttention(6, 3, dropout=dropout), X, MEMORY, kwargs=kwargs, modes=["eval"])


def test_the_same_seed_gives_torchs_weights():
    torch.manual_seed(3)
    ours = CrossAttention(8, 2)
    torch.manual_seed(3)
    for name, tensor in torch.nn.MultiheadAttention(8, 2).state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name
    again = [CrossAttention(8, 2, generator=torch.Generator().manual_seed(5)).in_proj_weight for _ in range(2)]
    assert torch.equal(*again)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    batch=st.integers(0, 3),
    queries=st.integers(0, 4),
    keys=st.integers(0, 4),
    groups=st.integers(1, 3),
    shared=st.integers(1, 2),
    masked=st.sampled_from(["none", "boolean", "floating", "padding"]),
    seed=st.integers(0, 99),
)
def test_the_implementations_agree(batch, queries, keys, groups, shared, masked, seed):
    generator = torch.Generator().manual_seed(seed)
    heads = groups * shared

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x, memory, dy = draw(batch, queries, 2 * heads), draw(batch, keys, 2 * heads), draw(batch, queries, 2 * heads)
    options = {
        "none": {},
        "boolean": {"attn_mask": draw(queries, keys) < 0},
        "floating": {"attn_mask": draw(batch * heads, queries, keys)},
        "padding": {"key_padding_mask": draw(batch, keys) < 0},
    }[masked]
    results = []
    for implementation in IMPLEMENTATIONS:
        options_of = {"num_kv_heads": groups, "implementation": implementation, "dtype": torch.float64}
        layer = CrossAttention(2 * heads, heads, generator=torch.Generator().manual_seed(seed), **options_of)
        with record():
            y = layer(x, memory, **options)
            gradients = layer.backward(dy)
        results.append([y, *gradients, *(tensor.grad for tensor in layer.parameters())])
        assert all(tensor.isfinite().all() for tensor in results[-1])
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-12, atol=1e-12)


def test_work_not_needed_is_not_done():
    layer = CrossAttention(6, 2).requires_grad_(False)
    with record():
        layer(X, MEMORY)
        with primitives_only() as operations:
            assert layer.backward(torch.ones_like(X), input_gradient=False) == (None, None)
    assert operations["bmm"] == operations["baddbmm"] == 0


def test_memory_kept_is_what_the_page_says():
    """x, Q and the joined heads: 3 B Tq E; the memory, K and V: 3 B Tk E; and B H Tq Tk probabilities."""
    with record() as trace:
        layer = CrossAttention(6, 2)
        layer(X, MEMORY)
        kept = sum(line.bytes for line in trace.kept())
        layer.backward(None)
    assert kept == 4 * (3 * 2 * 3 * 6 + 3 * 2 * 5 * 6 + 2 * 2 * 3 * 5)


@pytest.mark.parametrize("implementation", ["vectorized", "tiled"])
def test_traced_as_one_graph(implementation):
    layer = CrossAttention(6, 2, num_kv_heads=1, implementation=implementation)

    def step(x, memory):
        with record():
            y = layer(x, memory, PADDING["boolean"])
            return y, *layer.backward(x)

    compiled = one_graph(step)
    torch.testing.assert_close(compiled(X, MEMORY), step(X, MEMORY))


@every_implementation
def test_bfloat16(implementation):
    layer = CrossAttention(6, 2, implementation=implementation, dtype=torch.bfloat16)
    x, memory = X.bfloat16(), MEMORY.bfloat16()
    with record():
        y = layer(x, memory)
        gradients = layer.backward(x)
    assert {tensor.dtype for tensor in (y, *gradients)} == {torch.bfloat16}
    wide = CrossAttention(6, 2, implementation=implementation)
    wide.load_state_dict(layer.float().state_dict())
    with no_record():
        torch.testing.assert_close(y.float(), wide(x.float(), memory.float()), rtol=0.03, atol=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embed_dim": 6, "num_heads": 4}, "embed_dim=6 and num_heads=4"),
        ({"embed_dim": 6, "num_heads": 2, "num_kv_heads": 4}, "num_heads=2 and num_kv_heads=4"),
        ({"embed_dim": 6, "num_heads": 2, "dropout": 1.5}, "dropout=1.5"),
        ({"embed_dim": 6, "num_heads": 2, "implementation": "fast"}, "'fast', expected one of vectorized, tiled"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"CrossAttention: given .*{message}"):
        CrossAttention(**arguments)


@pytest.mark.parametrize(
    ("x", "memory", "message"),
    [
        ((2, 3, 5), (2, 5, 6), r"x \(2, 3, 5\) and memory \(2, 5, 6\), expected \(B, T, 6\) with one B"),
        ((2, 3, 6), (2, 5, 5), r"memory \(2, 5, 5\)"),
        ((2, 3, 6), (3, 5, 6), r"memory \(3, 5, 6\)"),
        ((3, 6), (2, 5, 6), r"x \(3, 6\)"),
        ((6,), (6,), r"x \(6,\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(x, memory, message):
    with pytest.raises(ShapeError, match=message):
        CrossAttention(6, 2)(torch.zeros(x), torch.zeros(memory))
    with pytest.raises(ShapeError, match=r"\(T, B, 6\) with one B"):
        CrossAttention(6, 2, batch_first=False)(torch.zeros(3, 2, 6), torch.zeros(5, 4, 6))
