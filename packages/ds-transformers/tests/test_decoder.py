import itertools
import math

import pytest
import torch
from ds_core import LayerNorm, Linear, Module, ShapeError, no_record, primitives_only, record
from ds_core.testing import check_layer, check_signature, check_twin, pairwise
from ds_transformers import TransformerDecoder, TransformerDecoderLayer

ORDERS = pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
STACKS = pairwise({"norm_first": [False, True], "share_weights": [False, True], "recompute": [False, True]})
CAUSAL = torch.ones(4, 4, dtype=torch.bool).triu(1)
ADDED = torch.zeros(4, 4).masked_fill(CAUSAL, -math.inf)
FLOATING = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
PADDING = {
    "boolean": torch.tensor([[False, True, False, False], [False] * 4]),
    "floating": torch.tensor([[0.0, 1.0, -math.inf, 0.5], [0.3, -2.0, 0.0, 0.1]], dtype=torch.float64),
    "a whole example": torch.tensor([[True] * 4, [False] * 4]),
}


def make(num_layers=2, norm=True, dropout=0.0, norm_first=False, batch_first=True, **options):
    layer = TransformerDecoderLayer(6, 2, 5, dropout, "gelu", batch_first=batch_first, norm_first=norm_first)
    stack = TransformerDecoder(layer, num_layers, LayerNorm(6) if norm else None, **options)
    for tensor in stack.parameters():  # copies begin equal
        tensor.data += 0.1 * torch.randn_like(tensor)
    return stack


def of_torch(num_layers, norm, norm_first=False):
    layer = torch.nn.TransformerDecoderLayer(6, 2, 5, 0.0, "gelu", batch_first=True, norm_first=norm_first)
    return torch.nn.TransformerDecoder(layer, num_layers, torch.nn.LayerNorm(6) if norm else None)


def make_inputs(batch=2, target=4, memory=3, dtype=torch.float64):
    return torch.randn(batch, target, 6, dtype=dtype), torch.randn(batch, memory, 6, dtype=dtype)


class AddsMemory(Module):
    """y = x A^T + m, for an example with numbers."""

    def __init__(self, weight):
        self.linear = Linear(2, 2, bias=False)
        self.linear.load_state_dict({"weight": weight})

    def forward(self, x, memory, **masks):
        return self.linear.forward(x) + memory

    def backward(self, dy, *, input_gradient=True, memory_gradient=True):
        return self.linear.backward(dy, input_gradient=input_gradient), dy


def test_worked_example():
    """y = (x A^T + m) A^T + m: dx = dy A A and dm = dy A + dy."""
    stack = TransformerDecoder(AddsMemory(torch.tensor([[1.0, 2.0], [0.5, -1.0]])), 2)
    x, memory = torch.tensor([[1.0, 3.0], [2.0, -1.0]]), torch.tensor([[0.0, 1.0], [-2.0, 0.5]])
    dy = torch.tensor([[1.0, 0.0], [2.0, 1.0]])
    kept = dy.clone()
    with record():
        y = stack(x, memory)
        dx, dmemory = stack.backward(dy)
    with record():
        assert stack.layers[0](x, memory).tolist() == [[7.0, -1.5], [-2.0, 2.5]]
        assert stack.layers[0].backward(dy)[0].tolist() == [[1.0, 2.0], [2.5, 3.0]]
    assert y.tolist() == [[4.0, 6.0], [1.0, -3.0]]
    assert dx.tolist() == [[2.0, 0.0], [4.0, 2.0]]
    assert dmemory.tolist() == [[2.0, 2.0], [4.5, 4.0]]
    assert torch.equal(dy, kept)


@pytest.mark.parametrize("options", STACKS, ids=str)
def test_gradients(options):
    stack = make(2, options["norm_first"], 0.3, **options)
    masks = {"tgt_mask": CAUSAL, "memory_key_padding_mask": PADDING["boolean"][:, :3]}
    # a shared layer is called twice, with other inputs and gradients each time
    check_layer(stack, *make_inputs(), kwargs=masks, batch_dim=[0, 0, None, 0], samples=2)


def test_gradients_without_layers():
    with record():
        stack, (x, memory) = make(0).double(), make_inputs()
        stack(x, memory)
        dx, dmemory = stack.backward(torch.randn_like(x))
    assert dx.shape == x.shape
    assert dmemory is None
    bare = make(0, norm=False)
    with record():
        bare(x, memory)
        assert bare.backward(x, input_gradient=False) == (None, None)
    with no_record():
        assert torch.equal(stack(x, memory), stack.norm(x))  # PyTorch's looks into its first layer and fails


@ORDERS
@pytest.mark.filterwarnings("ignore:Support for mismatched:UserWarning")
def test_twin_over_all_arguments(norm_first):
    """PyTorch's own list of cases has none for this class."""
    check_signature(TransformerDecoder, torch.nn.TransformerDecoder)
    owns = [(None, None), (None, False), (CAUSAL.T, None), (CAUSAL.T, False)]
    owns += itertools.product([CAUSAL, ADDED], [None, False, True])
    others = [(None, False), (FLOATING, False), (FLOATING > 0.5, False), (CAUSAL[:, :3], True)]
    paddings = [(None, None), ("boolean", "a whole example"), ("a whole example", "floating"), ("floating", "boolean")]
    stacks = {
        (n, norm): (make(n, norm, norm_first=norm_first), of_torch(n, norm, norm_first))
        for n in (1, 2, 3)
        for norm in (False, True)
    }
    cases = []
    for index, (own, other) in enumerate(itertools.product(range(len(owns)), range(4))):
        # each padding beside each mask of either kind
        case = {"own": own, "other": other, "padding": (own + other) % 4, "mode": "train" if index % 3 else "eval"}
        keys = stacks if index % 10 == 0 else [(2, index % 2 == 0)]
        cases += [{**case, "num_layers": num_layers, "norm": norm} for num_layers, norm in keys]
    for case in pairwise(cases):
        own, other, (tgt, memory) = owns[case["own"]], others[case["other"]], paddings[case["padding"]]
        masks = {
            "tgt_mask": own[0],
            "memory_mask": other[0],
            "tgt_key_padding_mask": PADDING.get(tgt),
            "memory_key_padding_mask": None if memory is None else PADDING[memory][:, :3],
            "tgt_is_causal": own[1],
            "memory_is_causal": other[1],
        }
        constants = [k for k, mask in masks.items() if isinstance(mask, torch.Tensor) and mask.is_floating_point()]
        layers = stacks[case["num_layers"], case["norm"]]
        check_twin(*layers, *make_inputs(), kwargs=masks, constants=constants, modes=[case["mode"]])


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("share_weights", [False, True])
def test_recomputing_changes_nothing_but_the_memory(share_weights, dropout):
    stacks = [make(3, dropout=dropout, share_weights=share_weights, recompute=r) for r in (False, True)]
    stacks[1].load_state_dict(stacks[0].state_dict())
    assert list(stacks[0].state_dict()) == list(stacks[1].state_dict())
    x, memory = make_inputs(dtype=torch.float32)
    dy = torch.randn_like(x)
    found, kept = [], []
    for stack in stacks:
        torch.manual_seed(0)
        with record() as trace:
            y = stack(x, memory)
            kept.append(sum(line.bytes for line in trace.kept()))
            found.append([y, *stack.backward(dy), *(tensor.grad for tensor in stack.parameters())])
    assert all(map(torch.equal, *found))
    if dropout == 0:  # each layer's input, the memory once, and what the norm keeps
        assert kept[1] == 4 * (4 * x.numel() + memory.numel() + 2 * 8)
    assert kept[1] < kept[0] / 2


def test_sharing_weights_adds_the_gradients_of_all_calls():
    shared, apart = make(3, share_weights=True).double(), make(3).double()
    for layer in apart.layers:
        layer.load_state_dict(shared.layers[0].state_dict())
    apart.norm.load_state_dict(shared.norm.state_dict())
    x, memory = make_inputs()
    dy, found = torch.randn_like(x), []
    for stack in (shared, apart):
        with record():
            found.append((stack(x, memory), *stack.backward(dy)))
    torch.testing.assert_close(*found, rtol=1e-13, atol=1e-13)
    for one, *three in zip(*(layer.parameters() for layer in (shared.layers + apart.layers)), strict=True):
        torch.testing.assert_close(one.grad, sum(t.grad for t in three), rtol=1e-12, atol=1e-12)


TRAINED = {"norm": ("norm",), "the last layer": ("layers.1",), "the first layer": ("layers.0",), "nothing": ()}


@pytest.mark.parametrize("trained", TRAINED)
@pytest.mark.parametrize("of_memory", [False, True])
def test_no_work_below_what_is_trained(of_memory, trained):
    stack, (x, memory) = make(2).double(), make_inputs()
    dy = torch.randn_like(x)
    with record():
        stack(x, memory)
        _, wanted_memory = stack.backward(dy)
    expected = {name: tensor.grad for name, tensor in stack.named_parameters()}
    stack.zero_grad()
    for name, tensor in stack.named_parameters():
        tensor.requires_grad_(bool(TRAINED[trained]) and name.startswith(TRAINED[trained]))
    with record():
        stack(x, memory)
        with primitives_only() as operations:
            dx, dmemory = stack.backward(dy, input_gradient=False, memory_gradient=of_memory)
    assert dx is None
    assert torch.equal(dmemory, wanted_memory) if of_memory else dmemory is None
    for name, tensor in stack.named_parameters():
        wanted = expected[name] if tensor.requires_grad else None
        assert tensor.grad is wanted or torch.equal(tensor.grad, wanted)
    products = sum(operations[name] for name in ("mm", "addmm", "bmm", "baddbmm"))
    assert (products > 0) == (of_memory or "layer" in trained)
    if of_memory and trained == "nothing":  # in the first layer nothing below the attention to the memory
        assert products == (2 + 7 + 6) + (2 + 7)
    if not of_memory and trained == "the last layer":
        with record():
            stack(x, memory)
            with primitives_only() as whole:
                stack.backward(dy, input_gradient=True)
        assert products < sum(whole[name] for name in ("mm", "addmm", "bmm", "baddbmm")) / 2 + 6


@pytest.mark.parametrize("options", STACKS, ids=str)
@pytest.mark.parametrize("batch_first", [False, True])
def test_steps_with_caches_are_the_causal_forward(batch_first, options):
    """In pieces of any length, in three beams over each of two memories, one of them padded, and after a choice."""
    stack = make(2, True, batch_first=batch_first, **options).double()
    time, swap = (1, lambda t: t) if batch_first else (0, lambda t: t.transpose(0, 1))
    x, memory = make_inputs(6, 5, 3)[0], make_inputs(2, 5, 3)[1]
    padding = torch.tensor([[False, False, True], [False] * 3])
    wide = {"memory": swap(memory.repeat_interleave(3, 0)), "memory_key_padding_mask": padding.repeat_interleave(3, 0)}
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1)
    rows = torch.tensor([2, 0, 0, 5, 5, 4])
    with no_record():
        whole = stack(swap(x), **wide, tgt_mask=mask)
        caches = stack.new_caches(swap(memory), 6, 9)
        assert len(caches) == 2
        parts = [stack.step(piece, caches, padding) for piece in swap(x).split([2, 1, 1, 1], time)]
        torch.testing.assert_close(torch.cat(parts, time), whole, rtol=1e-12, atol=1e-12)
        for cache in caches:
            cache.tokens.select(rows)
        more = torch.randn(6, 1, 6, dtype=torch.float64)
        found = stack.step(swap(more), caches, padding)
        again = torch.cat([x[rows], more], 1)
        longer = torch.ones(6, 6, dtype=torch.bool).triu(1)
        expected = stack(swap(again), **wide, tgt_mask=longer)
    torch.testing.assert_close(swap(found)[:, 0], swap(expected)[:, -1], rtol=1e-12, atol=1e-12)


def test_caches_under_autocast():
    stack, (x, memory) = make(2).eval(), make_inputs(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16), no_record():
        caches = stack.new_caches(memory, 2, 4)
        y = torch.cat([stack.step(piece, caches) for piece in x.split(1, 1)], 1)
        whole = stack(x, memory, tgt_mask=CAUSAL)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, whole, rtol=0.05, atol=0.05)


def test_autocast_adds_the_memorys_gradients_in_float32():
    stack, (x, memory) = make(2), make_inputs(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16), record():
        stack(x, memory)
        gradients = stack.backward(torch.randn_like(x))
    assert [gradient.dtype for gradient in gradients] == [torch.float32] * 2


def test_what_is_refused():
    layer = TransformerDecoderLayer(6, 2, 5, batch_first=True)
    with pytest.raises(ValueError, match=r"TransformerDecoder: given num_layers=-1, expected at least 0"):
        TransformerDecoder(layer, -1)
    with pytest.raises(ValueError, match=r"num_layers=0, expected at least 1"):
        TransformerDecoder(layer, 0, share_weights=True)
    stack, (x, memory) = TransformerDecoder(layer, 2), make_inputs(dtype=torch.float32)
    with pytest.raises(RuntimeError, match="no_record"):
        stack.new_caches(memory, 2, 4)
    with no_record():
        caches = stack.new_caches(memory, 2, 4)
        with pytest.raises(ShapeError, match="given 1 caches, expected 2, one for each layer"):
            stack.step(x, caches[:1])
        with pytest.raises(ValueError, match="another layer"):
            stack.step(x, caches[::-1])
        with pytest.raises(ShapeError, match="B=2"):
            stack.step(x[:1], stack.new_caches(memory, 2, 4))
        with pytest.raises(ShapeError, match="no room"):
            stack.step(torch.zeros(2, 5, 6), stack.new_caches(memory, 2, 4))
        with pytest.raises(ShapeError, match=r"attn_mask \(5, 5\), expected"):
            stack(x, memory, tgt_mask=torch.ones(5, 5, dtype=torch.bool).triu(1))
        with pytest.raises(RuntimeError, match="none was given"):
            stack(x, memory, tgt_is_causal=True)
        with pytest.raises(RuntimeError, match="none was given"):
            stack(x, memory, memory_is_causal=True)
    with pytest.raises(RuntimeError, match="no_record"):
        stack.step(x, caches)
