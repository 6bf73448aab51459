"""Every fast form of ds-transformers against the plain one it is linked to, and whole models on plain pairs."""

import importlib
import itertools
import math
import pkgutil
from contextlib import nullcontext

import ds_transformers
import pytest
import torch
from ds_core import GELU, RMSNorm, TokenCrossEntropy, plain, record
from ds_core.speed.elementwise import CHUNK
from ds_core.speed.plain import plain_pairs
from ds_core.testing import CheckFailed, check_plain
from ds_transformers import (
    CrossAttention,
    FeedForward,
    GatedFeedForward,
    MultiheadAttention,
    PreNormBlock,
    RotaryPositions,
    SelfAttention,
    Seq2SeqConfig,
    Seq2SeqTransformer,
    Transformer,
    attention,
    attention_backward,
    tiled_attention,
)
from ds_transformers.attentions.tiled_attention import LONG
from ds_transformers.positions.rotary import rotary_table

for module in pkgutil.walk_packages(ds_transformers.__path__, "ds_transformers."):
    importlib.import_module(module.name)

SMALLEST = torch.finfo(torch.float64).min
generator = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def attention_cases(function, **more):
    """Arguments of a form of attention and of its backward, of every kind of mask, with rows that see nothing."""
    forward, backward = [], []
    some = torch.rand(2, 3, 4, 5, generator=generator) < 0.6
    kinds = [
        None,
        some,
        some[:, :1, :1],
        some[0, 0],
        normal(2, 1, 4, 5),
        normal(4, 5).masked_fill(~some[0, 0], -math.inf).index_fill(0, torch.tensor([2]), -math.inf),
        torch.zeros(4, 5).double().masked_fill(~some[0, 0], SMALLEST).index_fill(0, torch.tensor([1]), SMALLEST),
    ]
    sizes = [(2, 3, 4, 5)] * 7 + [(2, 3, 5, 2), (1, 1, 1, 1), (0, 2, 3, 3), (2, 2, 0, 3), (2, 2, 3, 0)]
    sizes.append((1, 1, 3, LONG + 1))
    plans = [(size, visible, 1.0) for size, visible in itertools.zip_longest(sizes, kinds)]
    plans.append(((2, 3, 4, 5), None, 100.0))  # scores that lie far apart
    for (b, h, q, k), visible, factor in plans:
        inputs = (factor * normal(b, h, q, 4), normal(b, h, k, 4), normal(b, h, k, 3))
        for causal, dropped in itertools.product((False, True), repeat=2):
            dropout_mask = (torch.rand(b, h, q, k, generator=generator) < 0.7).double() / 0.7 if dropped else None
            scale = 0.3 if dropped else None
            options = {"visible": visible, "causal": causal, "scale": scale, "dropout_mask": dropout_mask, **more}
            forward.append((inputs, options))
            backward.append(((normal(b, h, q, 3), *inputs, *function(*inputs, **options)), options))
    return forward, backward


ATTENTION, ATTENTION_BACKWARD = attention_cases(attention)
TILED, TILED_BACKWARD = attention_cases(tiled_attention, rows=2)
# the gradient of the probabilities, which the tiled form does not return
OF_PROBABILITIES = [
    (arguments, {**options, "dprobabilities": normal(*arguments[5].shape)}) for arguments, options in ATTENTION_BACKWARD
]


def rotary_cases():
    cases = []
    for shape, rotary_dim, offset in [((2, 3, 5, 6), 6, 0), ((5, 6), 4, 7), ((1, 1, 8), 2, 5000), ((2, 0, 6), 6, 0)]:
        table = rotary_table(shape[-2], rotary_dim, offset, dtype=torch.float64)
        cases += [(normal(*shape), *table, interleaved) for interleaved in (False, True)]
    own = [
        part.view(2, 1, 5, 3) for part in rotary_table(10, 6, dtype=torch.float64)
    ]  # positions of each example's own
    return [*cases, (normal(2, 3, 5, 6), *own)]


# ordinary numbers, numbers whose exponential over- or underflows, more than a chunk, none
GATES = [
    normal(3, 4),
    torch.tensor([0.0, -0.0, 1e4, -1e4, 800, -800, 30, -30, 1e-10, 1]),
    normal(CHUNK + 3),
    normal(0, 3),
]
GATED = [(gate, normal(*gate.shape)) for gate in GATES]

# name of the fast form -> its cases, each a tuple of arguments, or a tuple of arguments and a dict of named ones
CASES = {
    "attention": ATTENTION,
    "attention_backward": ATTENTION_BACKWARD + OF_PROBABILITIES,
    "tiled_attention": TILED,
    "tiled_attention_backward": TILED_BACKWARD,
    "rotary": rotary_cases(),
    "rotary_backward": rotary_cases(),
    "swiglu": GATED,
    "swiglu_backward": [(normal(*gate.shape), gate, up) for gate, up in GATED],
}


@pytest.mark.parametrize("pair", plain_pairs("ds_transformers"), ids=lambda pair: pair.fast.__qualname__)
def test_plain_and_fast_agree(pair):
    cases = CASES.get(pair.fast.__qualname__, ())
    assert cases, f"{pair.name} has no case here"
    for case in cases:
        arguments, named = case if len(case) == 2 and isinstance(case[1], dict) else (case, {})
        check_plain(pair.fast, *arguments, **named)


def test_every_case_is_of_a_pair():
    assert set(CASES) == {pair.fast.__qualname__ for pair in plain_pairs("ds_transformers")}


def test_a_fault_in_a_fast_form_is_found(monkeypatch):
    monkeypatch.setattr(
        "ds_transformers.attentions.attention.row_products",
        lambda first, second: (first * second).sum(-1, True) * 1.001,
    )
    arguments, named = CASES["attention_backward"][0]
    with pytest.raises(CheckFailed, match=r"attention_backward.*\n.*result 0: fast and plain form differ"):
        check_plain(attention_backward, *arguments, **named)


def both_ways(model, run):
    """What `run(model)` returns and every gradient, on the fast forms and inside `with plain():`."""
    results = []
    for switch in (nullcontext, plain):
        model.zero_grad()
        with switch(), record():
            found = run(model)
        gradients = {name: tensor.grad for name, tensor in model.named_parameters()}
        assert all(gradient is not None for gradient in gradients.values())
        results.append((found, gradients))
    return results


def assert_agree(results):
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


SMALL = {"dropout": 0.0, "batch_first": True, "dtype": torch.float64}
PADDING = torch.tensor([[False, False, False, True, True], [False] * 5])
MASKS = {
    "none": {},
    "boolean": {
        "tgt_mask": torch.ones(4, 4, dtype=torch.bool).triu(1),
        "src_key_padding_mask": PADDING,
        "memory_key_padding_mask": PADDING,
        "tgt_key_padding_mask": torch.tensor([[False] * 4, [False, False, False, True]]),
    },
    "floating": {
        "src_mask": normal(5, 5),
        "tgt_mask": Transformer.generate_square_subsequent_mask(4, dtype=torch.float64),
        "memory_mask": normal(4, 5).masked_fill(PADDING[0], -math.inf),
        "src_key_padding_mask": normal(2, 5),
    },
}


@pytest.mark.parametrize("implementation", ["vectorized", "tiled"])
@pytest.mark.parametrize("masks", list(MASKS))
@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
def test_the_transformer(norm_first, masks, implementation):
    torch.manual_seed(0)
    model = Transformer(8, 2, 2, 2, 12, norm_first=norm_first, implementation=implementation, **SMALL)
    src, tgt, dy = normal(2, 5, 8), normal(2, 4, 8), normal(2, 4, 8)

    def run(model):
        y = model(src, tgt, **MASKS[masks])
        return y, *model.backward(dy)

    assert_agree(both_ways(model, run))


@pytest.mark.parametrize("implementation", ["vectorized", "tiled"])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
def test_the_translation_model_with_its_loss(norm_first, recompute, implementation):
    torch.manual_seed(0)
    config = Seq2SeqConfig(11, 11, 8, 2, 12, 2, 2, 0.0, "gelu", norm_first)
    model = Seq2SeqTransformer(config, implementation=implementation, recompute=recompute, dtype=torch.float64)
    source, target = torch.randint(1, 11, (2, 3, 6)).unbind()
    source[1, 3:], target[0, 4:] = config.pad, config.pad
    criterion = TokenCrossEntropy(ignore_index=config.pad, label_smoothing=0.1)

    def run(model):
        loss = criterion(model(source, target[:, :-1]), target[:, 1:])
        model.backward(criterion.backward())
        return loss

    assert_agree(both_ways(model, run))


@pytest.mark.parametrize("implementation", ["vectorized", "tiled"])
def test_a_block_of_all_parts(implementation):
    torch.manual_seed(0)
    block = PreNormBlock(
        SelfAttention(8, 2, causal=True, num_kv_heads=1, rotary=RotaryPositions(4), implementation=implementation),
        GatedFeedForward(8, 6),
        norm1=RMSNorm(8),
        norm2=RMSNorm(8),
        stochastic_depth=0.5,
    ).double()
    x, dz = normal(3, 5, 8), normal(3, 5, 8)

    def run(block):
        torch.manual_seed(1)
        return block(x), block.backward(dz)

    assert_agree(both_ways(block, run))


@pytest.mark.parametrize("implementation", ["vectorized", "tiled"])
@pytest.mark.parametrize(("kind", "inputs"), [(SelfAttention, 1), (CrossAttention, 2), (MultiheadAttention, 3)])
def test_a_block_may_end_or_begin_between_the_two_passes(kind, inputs, implementation):
    torch.manual_seed(0)
    layer = kind(8, 2, implementation=implementation, dtype=torch.float64)
    x, dy = [normal(2, 3, 8) for _ in range(inputs)], normal(2, 3, 8)
    found = []
    for forward_switch, backward_switch in itertools.product((nullcontext, plain), repeat=2):
        layer.zero_grad()
        with record():
            with forward_switch():
                y = layer(*x, **({"need_weights": False} if inputs == 3 else {}))
            with backward_switch():
                gradients = layer.backward(dy)
        found.append((y, gradients, [tensor.grad for tensor in layer.parameters()]))
    for other in found[1:]:
        assert_agree((found[0], other))


def test_feed_forward_networks():
    for layer in (FeedForward(4, 6, GELU()), GatedFeedForward(4, 6), GatedFeedForward(4, 6, GELU())):
        x, dy = normal(2, 3, 4), normal(2, 3, 4)
        assert_agree(both_ways(layer.double(), lambda layer, x=x, dy=dy: (layer(x), layer.backward(dy))))
