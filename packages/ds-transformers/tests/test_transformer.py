import itertools
import math

import pytest
import torch
from ds_core import Frozen, LayerNorm, ShapeError, no_record, primitives_only, record
from ds_core.testing import check_layer, check_twin, check_twin_grid, full_grids, one_graph
from ds_transformers import Transformer, TransformerEncoder, TransformerEncoderLayer

ORDERS = pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
CAUSAL = torch.ones(4, 4, dtype=torch.bool).triu(1)
SOURCE_PADDING = torch.tensor([[False, False, True], [False] * 3])
MASKS = {
    "none": {},
    "training": {
        "tgt_mask": CAUSAL,
        "src_key_padding_mask": SOURCE_PADDING,
        "memory_key_padding_mask": SOURCE_PADDING,
        "tgt_key_padding_mask": torch.tensor([[False] * 4, [False, False, True, True]]),
    },
    "added": {
        "tgt_mask": torch.zeros(4, 4, dtype=torch.float64).masked_fill(CAUSAL, -math.inf),
        "src_mask": torch.arange(9, dtype=torch.float64).view(3, 3).cos(),
        "memory_mask": torch.arange(12, dtype=torch.float64).view(4, 3).sin(),
    },
    "promised": {
        "tgt_mask": CAUSAL,
        "src_mask": CAUSAL[:3, :3],
        "memory_mask": CAUSAL[:, :3],
        "src_is_causal": True,
        "tgt_is_causal": True,
        "memory_is_causal": True,
    },
    "a whole example": {"src_key_padding_mask": torch.tensor([[True] * 3, [False] * 3])},
}


def make(dropout=0.0, batch_first=True, **options):
    return Transformer(6, 2, 2, 1, 5, dropout, "gelu", batch_first=batch_first, **options)


def make_inputs(batch_first=True, batch=2, source=3, target=4, dtype=torch.float64):
    shapes = [(batch, n, 6) if batch_first else (n, batch, 6) for n in (source, target)]
    return [torch.randn(shape, dtype=dtype) for shape in shapes]


def test_worked_example():
    """Without layers a stack is its norm; the decoder's does not see the source, whose gradient is None."""
    model = Transformer(2, 1, 0, 0, layer_norm_eps=3.0, dtype=torch.float64)
    src, tgt = torch.tensor([[[1.0, 3.0]], [[2.0, -2.0]]], dtype=torch.float64)
    with record():
        y = model(src, tgt)
        dsrc, dtgt = model.backward(torch.tensor([[6.0, -1.0]], dtype=torch.float64))
    assert dsrc is None
    torch.testing.assert_close(y, torch.tensor([[0.7559, -0.7559]], dtype=torch.float64), rtol=0, atol=5e-5)
    torch.testing.assert_close(dtgt, torch.tensor([[0.5669, -0.5669]], dtype=torch.float64), rtol=0, atol=5e-5)


@ORDERS
@pytest.mark.parametrize("options", [{}, {"share_weights": True}, {"recompute": True}], ids=str)
def test_gradients(options, norm_first):
    model = make(0.3, norm_first=norm_first, **options)
    batch_dims = [0, 0, None, 0, 0, 0]
    check_layer(model, *make_inputs(), kwargs=MASKS["training"], batch_dim=batch_dims, samples=2)


@ORDERS
def test_gradients_without_a_batch(norm_first):
    src, tgt = (tensor[0] for tensor in make_inputs())
    check_layer(make(norm_first=norm_first), src, tgt, batch_dim=None, samples=2)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
def test_twin_over_all_constructor_arguments():
    compared = check_twin_grid(
        Transformer,
        torch.nn.Transformer,
        {
            "d_model": [6],
            "nhead": [2],
            "num_encoder_layers": [2],
            "num_decoder_layers": [1, 2],
            "dim_feedforward": [5],
            "dropout": [0.0],
            "activation": ["relu", torch.nn.functional.gelu],
            "layer_norm_eps": [0.3],
            "batch_first": [False, True],
            "norm_first": [False, True],
            "bias": [True, False],
        },
        lambda chosen: make_inputs(chosen["batch_first"]),
        left_out=["activation"],  # its default is a function of PyTorch's there, and that function's name here
        modes=["train"],
        thinned=True,
    )
    assert compared == (32 if full_grids() else 7)


@pytest.mark.parametrize("mode", ["train", "eval"])
@ORDERS
@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning", "ignore:The PyTorch API of nested:UserWarning")
def test_twin_over_masks(norm_first, mode):
    options = {"norm_first": norm_first, "batch_first": True}
    theirs = torch.nn.Transformer(6, 2, 2, 1, 5, 0.0, "gelu", **options)
    for masks in MASKS.values():
        constants = [k for k, v in masks.items() if isinstance(v, torch.Tensor) and v.is_floating_point()]
        check_twin(make(**options), theirs, *make_inputs(), kwargs=masks, constants=constants, modes=[mode])


def test_twin_with_the_paper_s_arguments_has_its_weights():
    states = []
    for cls in (Transformer, torch.nn.Transformer):
        torch.manual_seed(1)
        states.append(cls(d_model=16, nhead=4, dim_feedforward=24).state_dict())
    assert list(states[0]) == list(states[1])
    assert len(states[0]) == 6 * 12 + 6 * 18 + 4
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    first, second = (states[0][f"encoder.layers.{k}.linear1.weight"] for k in (0, 1))
    assert not torch.equal(first, second)


def test_custom_stacks_stand_where_they_are_given():
    layer = TransformerEncoderLayer(6, 2, 5, 0.0, "gelu", batch_first=True)
    encoder = TransformerEncoder(layer, 1, LayerNorm(6))
    model = make(custom_encoder=encoder)
    assert model.encoder is encoder
    whole = make(custom_encoder=make().encoder, custom_decoder=make().decoder)
    check_layer(whole, *make_inputs(), samples=2)


def test_both_stacks_share_and_recompute():
    model = Transformer(6, 2, 3, 2, 5, share_weights=True, recompute=True)
    for stack, calls in ((model.encoder, 3), (model.decoder, 2)):
        assert (len(stack.layers), stack.num_layers, stack.recompute) == (1, calls, True)


def test_the_mask_of_training():
    for size, dtype in itertools.product((0, 1, 4), (torch.float32, torch.float64)):
        ours = Transformer.generate_square_subsequent_mask(size, dtype=dtype)
        theirs = torch.nn.Transformer.generate_square_subsequent_mask(size, dtype=dtype)
        assert ours.dtype == dtype
        assert torch.equal(ours, theirs)


@ORDERS
def test_a_whole_step_is_made_of_primitives(norm_first):
    model = make(0.1, norm_first=norm_first)
    src, tgt = make_inputs(dtype=torch.float32)
    with primitives_only() as operations, record():
        y = model(src, tgt, **MASKS["training"])
        model.backward(torch.randn_like(y))
    assert operations["baddbmm"] + operations["bmm"] > 0


def products_in_backward(model, inputs, dy, **options):
    with record():
        model(*inputs)
        with primitives_only() as operations:
            gradients = model.backward(dy, **options)
    return sum(operations[name] for name in ("mm", "addmm", "bmm", "baddbmm")), gradients


def test_a_frozen_encoder():
    """Its own gradients are not there, the decoder's are the same, and no product is made for it."""
    model, inputs = make().double(), make_inputs()
    dy = torch.randn_like(inputs[1])
    _, wanted_inputs = products_in_backward(model, inputs, dy)
    wanted = {name: tensor.grad for name, tensor in model.named_parameters()}
    model.zero_grad()
    model.encoder.requires_grad_(False)
    _, found_inputs = products_in_backward(model, inputs, dy)
    assert all(map(torch.equal, found_inputs, wanted_inputs))
    model.zero_grad()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    apart = make(custom_encoder=Frozen(model.encoder), custom_decoder=model.decoder)
    model.load_state_dict(state)  # a new Transformer has drawn the stacks that it was given anew, as the twin does
    counts = []
    for each in (model, apart):
        each.zero_grad()
        count, gradients = products_in_backward(each, inputs, dy, input_gradient=False)
        counts.append(count)
        assert gradients == (None, None)
        for name, tensor in model.named_parameters():
            assert (tensor.grad is None) == name.startswith("encoder.")
            assert tensor.grad is None or torch.equal(tensor.grad, wanted[name])
    # one decoder layer's network, attention to the memory and to itself, less the product for its own input
    assert counts == [4 + 10 + 8 - 1] * 2
    for layer in model.decoder.layers:
        layer.requires_grad_(False)
    assert products_in_backward(model, inputs, dy, input_gradient=False)[0] == 0  # the last norm's are sums


@pytest.mark.parametrize("sizes", [(2, 3, 0), (0, 3, 4), (2, 1, 1), (2, 0, 4)])
@ORDERS
def test_empty_targets_batches_and_sources(sizes, norm_first):
    model, (src, tgt) = make(norm_first=norm_first).double(), make_inputs(True, *sizes)
    leaves = [src.clone().requires_grad_(), tgt.clone().requires_grad_()]
    expected = model(*leaves)
    dy = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, leaves, dy, materialize_grads=True, allow_unused=True)
    with record():
        y = model(src, tgt)
        gradients = model.backward(dy)
    assert y.shape == tgt.shape
    assert y.isfinite().all()
    torch.testing.assert_close((y, *gradients), (expected, *wanted), rtol=1e-11, atol=1e-11)


@ORDERS
def test_no_gradient_comes_from_the_future_or_from_padding(norm_first):
    model, (src, tgt) = make(norm_first=norm_first), make_inputs(dtype=torch.float32)
    dy = torch.zeros(2, 4, 6)
    dy[:, 1] = torch.randn(2, 6)
    with record():
        model(src, tgt, **MASKS["training"])
        dsrc, dtgt = model.backward(dy)
    assert (dtgt[:, 2:] == 0).all()
    assert (dtgt[:, :2].abs().sum(-1) > 0).all()
    assert (dsrc[SOURCE_PADDING] == 0).all()
    assert (dsrc[~SOURCE_PADDING].abs().sum(-1) > 0).all()


def test_traced_as_one_graph():
    # one layer each: test_encoder.py has a stack
    model = Transformer(6, 2, 1, 1, 5, 0.1, "gelu", batch_first=True, recompute=True).eval()
    src, tgt = make_inputs(dtype=torch.float32)
    dy = torch.randn_like(tgt)

    def step(src, tgt, dy):
        with record():
            y = model(src, tgt, **MASKS["training"])
            return y, model.backward(dy)

    expected = step(src, tgt, dy)
    gradients = [tensor.grad for tensor in model.parameters()]
    model.zero_grad()
    found = one_graph(step)(src, tgt, dy)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close([tensor.grad for tensor in model.parameters()], gradients)


SRC, TGT = torch.zeros(2, 3, 6), torch.zeros(2, 4, 6)


@pytest.mark.parametrize(
    ("src", "tgt", "masks", "error", "message"),
    [
        (SRC[:1], TGT, {}, ShapeError, r"src \(1, 3, 6\) and tgt \(2, 4, 6\), expected \(B, S, E\) and \(B, T, E\)"),
        (SRC[..., :5], TGT, {}, ShapeError, r"src \(2, 3, 5\) and tgt .* E = 6"),
        (SRC, TGT[..., :5], {}, ShapeError, r"tgt \(2, 4, 5\)"),
        (SRC[0], TGT, {}, ShapeError, r"src \(3, 6\) and tgt"),
        (SRC[0, 0], TGT[0, 0], {}, ShapeError, r"src \(6,\) and tgt"),
        (SRC, TGT, {"src_mask": CAUSAL}, ShapeError, r"attn_mask \(4, 4\), expected \(3, 3\)"),
        (SRC, TGT, {"memory_mask": CAUSAL}, ShapeError, r"attn_mask \(4, 4\), expected \(4, 3\)"),
        (SRC, TGT, {"memory_key_padding_mask": CAUSAL[:2]}, ShapeError, r"\(2, 4\), expected \(2, 3\)"),
        (SRC, TGT, {"tgt_is_causal": True}, RuntimeError, "none was given"),
        (SRC, TGT, {"src_is_causal": True}, RuntimeError, "none was given"),
        (SRC, TGT, {"memory_is_causal": True}, RuntimeError, "none was given"),
        (SRC, TGT, {"tgt_mask": CAUSAL.T, "tgt_is_causal": True}, ValueError, "contradicts attn_mask"),
    ],
)
def test_inputs_that_do_not_fit_are_named(src, tgt, masks, error, message):
    with no_record(), pytest.raises(error, match=message):
        make()(src, tgt, **masks)


def test_impossible_arguments_and_the_other_layout():
    with pytest.raises(ValueError, match="embed_dim=6 and num_heads=4"):
        Transformer(6, 4)
    with pytest.raises(ValueError, match="num_layers=-1"):
        Transformer(6, 2, -1)
    with no_record(), pytest.raises(ShapeError, match=r"expected \(S, B, E\) and \(T, B, E\)"):
        make(batch_first=False)(SRC.transpose(0, 1), TGT)
