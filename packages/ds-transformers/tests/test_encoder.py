import itertools
import math

import pytest
import torch
from ds_core import Frozen, LayerNorm, Linear, Sequential, ShapeError, no_record, primitives_only, record
from ds_core.testing import check_layer, check_signature, check_twin, one_graph, pairwise
from ds_transformers import TransformerEncoder, TransformerEncoderLayer

CAUSAL = torch.ones(4, 4, dtype=torch.bool).triu(1)
ADDED = torch.zeros(4, 4).masked_fill(CAUSAL, -math.inf)
PADDING = {
    "boolean": torch.tensor([[False, False, False, True], [False, True, False, False]]),
    "floating": torch.tensor([[0.0, 1.0, -math.inf, 0.5], [0.3, -2.0, 0.0, 0.1]], dtype=torch.float64),
    "a whole example": torch.tensor([[False] * 4, [True] * 4]),
}
STACKS = pairwise({"norm_first": [False, True], "share_weights": [False, True], "recompute": [False, True]})


def make(num_layers=2, norm=True, dropout=0.0, norm_first=False, activation="gelu", **options):
    layer = TransformerEncoderLayer(6, 2, 5, dropout, activation, batch_first=True, norm_first=norm_first)
    stack = TransformerEncoder(layer, num_layers, LayerNorm(6) if norm else None, **options)
    for tensor in stack.parameters():  # copies begin equal
        tensor.data += 0.1 * torch.randn_like(tensor)
    return stack


def of_torch(num_layers, norm, norm_first=False):
    layer = torch.nn.TransformerEncoderLayer(6, 2, 5, 0.0, "gelu", batch_first=True, norm_first=norm_first)
    final = torch.nn.LayerNorm(6) if norm else None
    return torch.nn.TransformerEncoder(layer, num_layers, final, enable_nested_tensor=False)


def test_worked_example():
    """Layers and a norm that multiply by matrices: y = x A^T B^T, so dx = dy B A."""
    a, b = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[0.5, 0.0], [1.0, 1.0]])
    apart = TransformerEncoder(Whole(a), 2, Whole(b))
    x, dy = torch.tensor([[1.0, 3.0], [2.0, -1.0]]), torch.tensor([[1.0, 0.0], [2.0, 1.0]])
    with record():
        y = apart(x)
        dx = apart.backward(dy)
    assert y.tolist() == [[0.5, 4.0], [1.0, 1.0]]
    assert dx.tolist() == [[0.5, 0.0], [2.0, 1.0]]
    first, second = (layer.weight.grad for layer in apart.layers)
    assert first.tolist() == [[4.5, -0.5], [7.0, 0.0]]
    assert second.tolist() == [[3.5, 0.5], [0.0, 1.0]]
    shared = TransformerEncoder(Whole(a), 2, Whole(b), share_weights=True)
    with record():
        shared(x)
        assert torch.equal(shared.backward(dy), dx)
    assert shared.layers[0].weight.grad.tolist() == [[8.0, 0.0], [7.0, 1.0]]


class Whole(Linear):
    """A linear layer that can stand where an encoder layer does."""

    def __init__(self, weight):
        super().__init__(*weight.shape, bias=False)
        self.load_state_dict({"weight": weight})

    def forward(self, x, **masks):
        return super().forward(x)


@pytest.mark.parametrize("options", STACKS, ids=str)
def test_gradients(options):
    stack = make(2, options["norm_first"], 0.3, **options)
    masks = {"mask": CAUSAL, "src_key_padding_mask": PADDING["boolean"]}
    # a shared layer is called twice, with other inputs and gradients each time
    check_layer(stack, torch.randn(2, 4, 6), kwargs=masks, batch_dim=[0, None, 0], samples=2)


def test_gradients_without_layers():
    check_layer(make(0), torch.randn(2, 4, 6), samples=4)
    x, dy = torch.randn(2, 2, 4, 6)
    stack = make(0, norm=False)
    with record():
        assert torch.equal(stack(x), x)
        assert torch.equal(stack.backward(dy), dy)


@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
def test_twin_over_all_arguments(norm_first):
    check_signature(TransformerEncoder, torch.nn.TransformerEncoder)
    x = torch.randn(2, 4, 6)
    masks = [(None, None), (None, False), (CAUSAL.T, None), (CAUSAL.T, False)]
    masks += itertools.product([CAUSAL, ADDED], [None, False, True])
    cases = []
    for num_layers, norm in itertools.product([1, 2, 3], [False, True]):
        for index, padding in itertools.product(range(len(masks)), [None, *PADDING]):
            mask, hidden = masks[index][0], PADDING.get(padding)
            if num_layers != 2 and (padding is None) != (mask is None):
                continue
            if mask is not None and hidden is not None and hidden.dtype != mask.dtype:
                continue  # PyTorch warns of a mixture; the layer's test has one
            cases.append({"num_layers": num_layers, "norm": norm, "mask": index, "padding": padding})
    for num_layers, norm, index, padding in (case.values() for case in pairwise(cases)):
        ours, theirs = make(num_layers, norm, norm_first=norm_first), of_torch(num_layers, norm, norm_first)
        mask, is_causal = masks[index]
        given = {"mask": mask, "src_key_padding_mask": PADDING.get(padding), "is_causal": is_causal}
        constants = [k for k, v in given.items() if isinstance(v, torch.Tensor) and v.is_floating_point()]
        check_twin(ours, theirs, x, kwargs=given, constants=constants, modes=["eval" if norm else "train"])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested:UserWarning")
def test_without_gradients_pytorchs_fast_path_leaves_zeros_in_place_of_padding():
    layer = torch.nn.TransformerEncoderLayer(6, 2, 5, 0.0, "gelu", batch_first=True, dtype=torch.float64)
    theirs, ours = torch.nn.TransformerEncoder(layer, 2).eval(), make(2, norm=False).double().eval()
    ours.load_state_dict(theirs.state_dict())
    x, padding = torch.randn(2, 4, 6, dtype=torch.float64), torch.arange(4) >= torch.tensor([[3], [2]])
    slow = theirs(x, src_key_padding_mask=padding)
    with torch.no_grad():
        fast, found = theirs(x, src_key_padding_mask=padding), ours(x, src_key_padding_mask=padding)
    assert (fast[padding[:, :3].nonzero(as_tuple=True)] == 0).all()
    torch.testing.assert_close(found, slow, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[~padding], fast[~padding[:, : fast.shape[1]].clone()], rtol=1e-12, atol=1e-12)


def test_copies_begin_equal_and_are_no_ones_but_their_own():
    layer = TransformerEncoderLayer(6, 2, 5)
    stack = TransformerEncoder(layer, 3)
    for name, tensor in layer.state_dict().items():
        for k in range(3):
            assert torch.equal(stack.state_dict()[f"layers.{k}.{name}"], tensor)
    storages = {tensor.data_ptr() for tensor in [*stack.parameters(), *layer.parameters()]}
    assert len(storages) == 4 * len(list(layer.parameters()))


def test_sharing_weights_adds_the_gradients_of_all_calls():
    shared, apart = make(3, share_weights=True).double(), make(3).double()
    own = {name: t for name, t in shared.state_dict().items() if not name.startswith("norm.")}
    whole = {name.replace("layers.0", f"layers.{k}"): t for name, t in own.items() for k in range(3)}
    apart.load_state_dict({**whole, "norm.weight": shared.norm.weight, "norm.bias": shared.norm.bias})
    x, dy = torch.randn(2, 2, 4, 6, dtype=torch.float64)
    found = []
    for stack in (shared, apart):
        with record():
            found.append((stack(x), stack.backward(dy)))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-13, atol=1e-13)
    for one, *three in zip(*(layer.parameters() for layer in (shared.layers + apart.layers)), strict=True):
        torch.testing.assert_close(one.grad, sum(t.grad for t in three), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("share_weights", [False, True])
def test_recomputing_changes_nothing_but_the_memory(share_weights, dropout):
    stacks = [make(3, dropout=dropout, share_weights=share_weights, recompute=r) for r in (False, True)]
    stacks[1].load_state_dict(stacks[0].state_dict())
    assert list(stacks[0].state_dict()) == list(stacks[1].state_dict())
    x, dy = torch.randn(2, 4, 6), torch.randn(2, 4, 6)
    found, kept = [], []
    for stack in stacks:
        torch.manual_seed(0)
        with record() as trace:
            y = stack(x)
            kept.append(sum(line.bytes for line in trace.kept()))
            found.append([y, stack.backward(dy), *(tensor.grad for tensor in stack.parameters())])
    assert all(map(torch.equal, *found))
    if dropout == 0:  # each layer's input, and what the norm keeps
        assert kept[1] == 4 * (3 * x.numel() + x.numel() + 2 * 8)
    assert kept[1] < kept[0] / 2


TRAINED = {"norm": ("norm",), "the last layer": ("layers.1",), "the first layer": ("layers.0",), "nothing": ()}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("trained", TRAINED)
def test_no_work_below_what_is_trained(trained, recompute):
    stack = make(2, recompute=recompute).double()
    x, dy = torch.randn(2, 2, 4, 6, dtype=torch.float64)
    with record():
        stack(x)
        stack.backward(dy)
    expected = {name: tensor.grad for name, tensor in stack.named_parameters()}
    stack.requires_grad_(False)
    stack.zero_grad()
    for name, tensor in stack.named_parameters():
        tensor.requires_grad_(name.startswith(TRAINED[trained]) if TRAINED[trained] else False)
    with record():
        stack(x)
        with primitives_only() as operations:
            assert stack.backward(dy, input_gradient=False) is None
    for name, tensor in stack.named_parameters():
        wanted = expected[name] if tensor.requires_grad else None
        assert tensor.grad is wanted or torch.equal(tensor.grad, wanted)
    products = sum(operations[name] for name in ("mm", "addmm", "bmm", "baddbmm"))
    assert (products > 0) == ("layer" in trained)
    if not recompute:  # else those of the layers' forwards are among them
        # 8 in a layer for its input, 4 for its weights, less the product that only the first one's input needs
        assert products == {"norm": 0, "the last layer": 11, "the first layer": 8 + 11, "nothing": 0}[trained]


def test_a_frozen_encoder_keeps_nothing_and_passes_nothing_on():
    encoder = make(2).double()
    model = Sequential(Frozen(encoder), Linear(6, 3, dtype=torch.float64))
    with record() as trace:
        model(torch.randn(2, 4, 6, dtype=torch.float64))
        assert len(trace) == 1
        assert model.backward(torch.randn(2, 4, 3, dtype=torch.float64), input_gradient=False) is None
    assert all(tensor.grad is None for tensor in encoder.parameters())


@pytest.mark.parametrize("options", [{}, {"share_weights": True, "recompute": True}], ids=str)
def test_traced_as_one_graph(options):
    stack = make(2, **options).eval()
    x, dy = torch.randn(2, 4, 6), torch.randn(2, 4, 6)

    def step(x, dy):
        with record():
            y = stack(x, mask=CAUSAL)
            return y, stack.backward(dy)

    expected = step(x, dy)
    gradients = [tensor.grad for tensor in stack.parameters()]
    stack.zero_grad()
    found = one_graph(step)(x, dy)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close([tensor.grad for tensor in stack.parameters()], gradients)


def test_what_is_refused():
    layer = TransformerEncoderLayer(6, 2, 5, batch_first=True)
    with pytest.raises(ValueError, match=r"TransformerEncoder: given num_layers=-1, expected at least 0"):
        TransformerEncoder(layer, -1)
    with pytest.raises(ValueError, match=r"num_layers=0, expected at least 1"):
        TransformerEncoder(layer, 0, share_weights=True)
    stack, x = TransformerEncoder(layer, 2), torch.zeros(2, 4, 6)
    with no_record():
        with pytest.raises(ShapeError, match=r"attn_mask \(5, 5\), expected"):
            stack(x, mask=torch.ones(5, 5, dtype=torch.bool).triu(1))
        with pytest.raises(RuntimeError, match="none was given"):
            stack(x, is_causal=True)
        with pytest.raises(ValueError, match="contradicts"):
            stack(x, mask=CAUSAL.T, is_causal=True)
        with pytest.raises(ShapeError, match=r"\(2, 4, 5\)"):
            stack(x[..., :5])
