"""What the encoder's and the decoder's layer keep and compute, and what they leave out; of either order of norms."""

import pytest
import torch
from ds_core import Recompute, primitives_only, record
from ds_core.testing import one_graph
from ds_transformers import TransformerDecoderLayer, TransformerEncoderLayer

ORDERS = pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
KINDS = pytest.mark.parametrize("decoder", [False, True], ids=["encoder", "decoder"])


def make(decoder, dropout=0.0, width=6, heads=2, hidden=5, **options):
    cls = TransformerDecoderLayer if decoder else TransformerEncoderLayer
    return cls(width, heads, hidden, dropout, **options, batch_first=True)


def make_inputs(decoder, width=6, dtype=torch.float32):
    """Inputs and the gradient of the output, each in a storage of its own."""
    x, memory, dy = (torch.randn(2, length, width, dtype=dtype) for length in (4, 3, 4))
    return ([x, memory] if decoder else [x]), dy


def gradients_of(layer):
    return [tensor.grad for tensor in layer.parameters()]


def flat(gradients):
    return list(gradients) if isinstance(gradients, tuple) else [gradients]


PARTS = {
    "norms": ["norm1", "norm2", "norm3"],
    "norm1": ["norm1"],
    "norm2": ["norm2"],
    "attention": ["self_attn", "multihead_attn"],
    "attention to the memory": ["multihead_attn"],
    "network": ["linear1", "linear2"],
    "linear2": ["linear2"],
    "nothing": [],
}
# Products in backward: post-norm and pre-norm where the inputs' gradients are not asked for, either where they are.
# The network takes 2 for its input and 2 for its weights; the projections of attention 2 and 2, attention itself 4;
# those of attention to the memory one more each, for the memory has a product of its own. (Where x's gradient is
# needed there and the memory's is not, the latter is made all the same: CrossAttention cannot be asked for one alone.)
PRODUCTS = {
    ("norms", False): (2, 8, 8),
    ("norm1", False): (2, 8, 8),
    ("norm2", False): (0, 2, 8),
    ("attention", False): (9, 9, 10),
    ("attention to the memory", False): (0, 0, 8),
    ("network", False): (3, 3, 10),
    ("linear2", False): (1, 1, 9),
    ("nothing", False): (0, 0, 8),
    ("norms", True): (9, 15, 15),
    ("norm1", True): (9, 15, 15),
    ("norm2", True): (2, 9, 15),
    ("attention", True): (19, 19, 20),
    ("attention to the memory", True): (10, 10, 18),
    ("network", True): (3, 3, 17),
    ("linear2", True): (1, 1, 16),
    ("nothing", True): (0, 0, 15),
}


@ORDERS
@KINDS
@pytest.mark.parametrize("trained", PARTS)
@pytest.mark.parametrize("input_gradient", [False, True])
def test_frozen_parts(input_gradient, trained, decoder, norm_first):
    """The other gradients are those of the whole; no product is made for what nobody asked for."""
    layer = make(decoder, norm_first=norm_first).double()
    inputs, dy = make_inputs(decoder, dtype=torch.float64)
    with record():
        layer(*inputs)
        expected_inputs = flat(layer.backward(dy))
    expected = {name: tensor.grad for name, tensor in layer.named_parameters()}
    layer.requires_grad_(False)
    layer.zero_grad()
    for part in PARTS[trained]:
        if hasattr(layer, part):
            getattr(layer, part).requires_grad_(True)
    with record():
        layer(*inputs)
        with primitives_only() as operations:
            found_inputs = flat(layer.backward(dy, input_gradient=input_gradient))
    for name, tensor in layer.named_parameters():
        assert (tensor.grad is not None) == (name.split(".")[0] in PARTS[trained])
        if tensor.grad is not None:
            torch.testing.assert_close(tensor.grad, expected[name], rtol=1e-12, atol=1e-12)
    if input_gradient:
        torch.testing.assert_close(found_inputs, expected_inputs, rtol=1e-12, atol=1e-12)
    else:
        assert found_inputs == [None] * len(inputs)
    products = sum(operations[name] for name in ("mm", "addmm", "bmm", "baddbmm"))
    assert products == PRODUCTS[trained, decoder][2 if input_gradient else norm_first]


@KINDS
def test_a_last_norm_that_is_trained_alone_computes_no_gradient_of_its_input(decoder):
    layer = make(decoder).requires_grad_(False)
    last = layer.norm3 if decoder else layer.norm2
    last.requires_grad_(True)
    inputs, dy = make_inputs(decoder)
    with record():
        layer(*inputs)
        with primitives_only() as operations:
            layer.backward(dy, input_gradient=False)
    assert last.weight.grad is not None
    assert operations["addcmul"] == 0  # of dx, (4) of layer_norm.md


@ORDERS
@pytest.mark.parametrize("of_target", [False, True])
@pytest.mark.parametrize("of_memory", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_either_gradient_of_a_decoder_layer_alone(frozen, of_memory, of_target, norm_first):
    layer = make(True, norm_first=norm_first).double().requires_grad_(not frozen)
    inputs, dz = make_inputs(True, dtype=torch.float64)
    found = []
    for options in ({}, {"input_gradient": of_target, "memory_gradient": of_memory}):
        layer.zero_grad()
        with record():
            layer(*inputs)
            found.append((layer.backward(dz, **options), gradients_of(layer)))
    (expected, expected_own), (gradients, own) = found
    assert own == expected_own if frozen else all(map(torch.equal, own, expected_own))
    for asked, gradient, wanted in zip((of_target, of_memory), gradients, expected, strict=True):
        assert torch.equal(gradient, wanted) if asked else gradient is None


@ORDERS
@KINDS
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_recomputed_it_gives_the_same_bit_for_bit_and_keeps_its_inputs(dropout, decoder, norm_first):
    layer = make(decoder, dropout, norm_first=norm_first)
    inputs, dy = make_inputs(decoder)
    found = []
    for run in (layer, Recompute(layer)):
        layer.zero_grad()
        torch.manual_seed(0)
        with record() as trace:
            y = run.forward(*inputs)
            kept = [line.bytes for line in trace.kept()]
            found.append([y, *flat(run.backward(dy)), *gradients_of(layer)])
    assert all(map(torch.equal, *found))
    if dropout == 0:
        assert kept == [4 * sum(tensor.numel() for tensor in inputs)]


@ORDERS
@KINDS
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_memory_kept_is_what_the_page_says(dropout, decoder, norm_first):
    width, heads, hidden, batch, length, memory = 6, 2, 7, 2, 4, 3
    layer = make(decoder, dropout, hidden=hidden, norm_first=norm_first)
    inputs, _ = make_inputs(decoder)
    with record() as trace:
        layer(*inputs)
        kept = sum(line.bytes for line in trace.kept())
        layer.backward(None)
    each = 8 * width + hidden + 4 + heads * length
    of_memory = 0
    if decoder:  # one more norm, and attention to the memory: x, Q, the joined heads; K, V, the memory itself
        each += width + 2 + 3 * width + heads * memory
        of_memory = 3 * width
    if dropout > 0:
        each += (2 + decoder) * width + 2 * hidden + heads * (length + decoder * memory)
    assert kept == 4 * batch * (length * each + memory * of_memory)


@ORDERS
@KINDS
def test_autocast_keeps_the_residual_stream_in_float32(decoder, norm_first):
    layer = make(decoder, width=16, hidden=32, norm_first=norm_first, activation="gelu")  # ReLU's kink is a step
    inputs, dy = make_inputs(decoder, 16)
    with record():
        exact = [layer(*inputs), *flat(layer.backward(dy))]
    wanted = gradients_of(layer)
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16), record() as trace:
        y = layer(*inputs)
        dtypes = [entry.saved[0].dtype for entry in trace.entries if type(entry.layer).__name__ == "LayerNorm"]
        found = [y, *flat(layer.backward(dy))]
    assert dtypes == [torch.float32] * (2 + decoder)  # what goes into the norms: the sums, or x
    assert {tensor.dtype for tensor in found + gradients_of(layer)} == {torch.float32}
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.1)
    for gradient, expected in zip(gradients_of(layer), wanted, strict=True):
        assert (gradient - expected).norm() < 0.05 * expected.norm() + 0.05


@ORDERS
@KINDS
def test_bfloat16(decoder, norm_first):
    layer = make(decoder, width=16, hidden=32, norm_first=norm_first)
    halved = make(decoder, width=16, hidden=32, norm_first=norm_first, dtype=torch.bfloat16)
    halved.load_state_dict(layer.state_dict())
    inputs, dy = make_inputs(decoder, 16, torch.bfloat16)
    with record():
        found = [halved(*inputs), *flat(halved.backward(dy))]
    with record():
        expected = [layer(*(x.float() for x in inputs)), *flat(layer.backward(dy.float()))]
    assert {tensor.dtype for tensor in found + gradients_of(halved)} == {torch.bfloat16}
    torch.testing.assert_close([tensor.float() for tensor in found], expected, rtol=0.05, atol=0.1)


@ORDERS
@KINDS
def test_traced_as_one_graph(decoder, norm_first):
    layer = make(decoder, 0.2, norm_first=norm_first).eval()
    inputs, dy = make_inputs(decoder)
    causal = torch.ones(4, 4, dtype=torch.bool).triu(1)
    name = "tgt" if decoder else "src"
    masks = {f"{name}_mask": causal, f"{name}_is_causal" if decoder else "is_causal": True}

    def step(dy, *inputs):
        with record():
            y = layer(*inputs, **masks)
            return y, layer.backward(dy)

    expected = step(dy, *inputs)
    gradients = gradients_of(layer)
    layer.zero_grad()
    found = one_graph(step)(dy, *inputs)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients_of(layer), gradients)
