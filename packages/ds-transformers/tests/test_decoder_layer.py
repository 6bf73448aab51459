import math

import pytest
import torch
from ds_core import ShapeError, SiLU, no_record, record
from ds_core.testing import check_layer, check_twin, check_twin_grid, full_grids, pairwise
from ds_transformers import DecoderCache, TransformerDecoderLayer
from hypothesis import given, settings
from hypothesis import strategies as st

ORDERS = pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
CAUSAL = torch.ones(4, 4, dtype=torch.bool).triu(1)
FLOATING = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
PADDING = {
    "boolean": torch.tensor([[False, True, False, False], [False] * 4]),
    "floating": torch.tensor([[0.0, 1.0, -math.inf, 0.5], [0.3, -2.0, 0.0, 0.1]], dtype=torch.float64),
    "a whole example": torch.tensor([[True] * 4, [False] * 4]),
}


def make(dropout=0.0, **options):
    return TransformerDecoderLayer(6, 2, 5, dropout, **options)


def make_inputs(batch_first=False, batch=2, target=4, memory=3):
    shapes = [(batch, n, 6) if batch_first else (n, batch, 6) for n in (target, memory)]
    return [torch.randn(shape, dtype=torch.float64) for shape in shapes]


def matrix(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_worked_example():
    """Pre-norm, one token and a memory of two; eps = 3, weights that are multiples of I."""
    options = {"layer_norm_eps": 3.0, "bias": False, "batch_first": True, "norm_first": True, "dtype": torch.float64}
    layer = TransformerDecoderLayer(2, 1, 2, 0.0, **options)
    eye, one = torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    layer.load_state_dict(
        {
            "self_attn.in_proj_weight": eye.repeat(3, 1),
            "self_attn.out_proj.weight": 2 * eye,
            "multihead_attn.in_proj_weight": torch.cat([math.sqrt(2) * math.log(3) * eye, eye, eye]),
            "multihead_attn.out_proj.weight": 4 * eye,
            "linear1.weight": eye,
            "linear2.weight": eye,
            **{f"norm{k}.weight": one for k in (1, 2, 3)},
        }
    )
    x, memory, dz = matrix([1.0, 3.0]), matrix([1.0, 0.0], [0.0, 1.0]), matrix([0.0, 1.0])
    with record() as trace:
        z = layer(x[None], memory[None])[0]
        sums = [entry.saved for entry in trace.entries if type(entry.layer).__name__ == "LayerNorm"]
        dx, dmemory = (gradient[0] for gradient in layer.backward(dz[None]))
    expected = {
        "x1": (sums[1][0][0], matrix([0.0, 4.0])),
        "x2": (sums[2][0][0], matrix([0.6385, 7.3615])),
        "r": (torch.stack([saved[2] for saved in sums]).flatten(), torch.tensor([0.5, 0.3780, 0.2645]).double()),
        "normed": ((sums[1][0][0] - 2) * 0.3780, matrix([-0.7559, 0.7559])),
        "normed again": ((sums[2][0][0] - 4) * 0.2645, matrix([-0.8889, 0.8889])),
        "P": ((sums[2][0][0] - sums[1][0][0]) / 4, matrix([0.1596, 0.8404])),
        "z": (z, matrix([0.6385, 8.2504])),
        "dx": (dx, matrix([-0.5999, 1.5999])),
        "dmemory": (dmemory, matrix([0.4527, 0.1859], [-0.5637, 3.9251])),
        # what the step before each norm was given: norm1 of dx1 2, norm2 of ln 3 dS, norm3 of dz where ReLU lets it by
        "dx1": (layer.norm1.weight.grad, torch.tensor([-0.5, 0.5]).double() * 2 * matrix([-0.1285, 1.1285])[0]),
        "dS": (
            layer.norm2.weight.grad,
            math.log(3) * matrix([-0.7559 * -0.5664, 0.7559 * 0.5664])[0],
        ),
        "dx2": (dmemory.sum(0), 4 * matrix([-0.0277, 1.0277])[0]),
    }
    for name, (found, wanted) in expected.items():
        torch.testing.assert_close(found, wanted, rtol=0, atol=3e-4, msg=lambda text, name=name: f"{name}: {text}")


@ORDERS
@pytest.mark.parametrize(("batch_first", "dropout"), [(False, 0.0), (True, 0.3)])
def test_gradients(batch_first, dropout, norm_first):
    layer = make(dropout, batch_first=batch_first, norm_first=norm_first, activation="gelu")
    check_layer(layer, *make_inputs(batch_first), batch_dim=0 if batch_first else 1, samples=4)


@ORDERS
def test_gradients_of_another_activation_without_biases(norm_first):
    layer = make(activation=SiLU(), bias=False, norm_first=norm_first, batch_first=True)
    check_layer(layer, *make_inputs(True), samples=4)


@ORDERS
@pytest.mark.parametrize("implementation", ["vectorized", "tiled"])
def test_gradients_under_masks(implementation, norm_first):
    layer = make(0.2, norm_first=norm_first, batch_first=True, implementation=implementation, activation="gelu")
    masks = {
        "tgt_mask": CAUSAL,
        "memory_mask": FLOATING > 0.5,
        "tgt_key_padding_mask": PADDING["boolean"],
        "memory_key_padding_mask": PADDING["boolean"][:, :3],
        "tgt_is_causal": True,
    }
    check_layer(layer, *make_inputs(True), kwargs=masks, batch_dim=[0, 0, None, None, 0, 0, None], samples=4)


@ORDERS
def test_gradients_without_a_batch(norm_first):
    layer = make(0.3, norm_first=norm_first, activation="gelu")
    inputs = [tensor[:, 0] for tensor in make_inputs()]
    padding = {"memory_key_padding_mask": torch.tensor([False, True, False])}
    check_layer(layer, *inputs, kwargs=padding, batch_dim=None, samples=4)


def test_twin_over_all_constructor_arguments():
    compared = check_twin_grid(
        TransformerDecoderLayer,
        torch.nn.TransformerDecoderLayer,
        {
            "d_model": [6],
            "nhead": [1, 2],
            "dim_feedforward": [5],
            "dropout": [0.0],
            "activation": ["relu", "gelu", torch.nn.functional.silu],
            "layer_norm_eps": [1e-5, 0.3],
            "batch_first": [False, True],
            "norm_first": [False, True],
            "bias": [False, True],
        },
        lambda chosen: make_inputs(chosen["batch_first"]),
        left_out=["activation"],  # its default is a function of PyTorch's there, and that function's name here
        modes=["train"],
        thinned=True,
    )
    assert compared == (96 if full_grids() else 8)


def test_twin_defaults_and_dropout_in_evaluation():
    compared = check_twin_grid(
        TransformerDecoderLayer,
        torch.nn.TransformerDecoderLayer,
        {"d_model": [6], "nhead": [2, 4], "dropout": [0.0, 0.1, 1.5], "activation": ["relu", "swish"]},
        make_inputs(),
        modes=["eval"],
        left_out=["activation"],
    )
    assert compared == 2  # PyTorch refuses the rest, and so do we


@ORDERS
@pytest.mark.filterwarnings("ignore:Support for mismatched:UserWarning")
def test_twin_over_all_masks(norm_first):
    theirs = torch.nn.TransformerDecoderLayer(6, 2, 5, 0.0, norm_first=norm_first)
    tgt_masks = [(None, False), (CAUSAL, False), (CAUSAL, True), (torch.eye(4).bool(), False)]
    memory_masks = [(None, False), (FLOATING, False), (FLOATING > 0.5, False), (CAUSAL[:, :3], True)]
    paddings = [(None, None), ("boolean", "a whole example"), ("a whole example", "floating"), ("floating", "boolean")]
    for chosen in pairwise({"own": range(4), "other": range(4), "padding": paddings}):
        own, other, (tgt, memory) = tgt_masks[chosen["own"]], memory_masks[chosen["other"]], chosen["padding"]
        masks = {
            "tgt_mask": own[0],
            "memory_mask": other[0],
            "tgt_key_padding_mask": PADDING.get(tgt),
            "memory_key_padding_mask": None if memory is None else PADDING[memory][:, :3],
            "tgt_is_causal": own[1],
            "memory_is_causal": other[1],
        }
        constants = [k for k, mask in masks.items() if isinstance(mask, torch.Tensor) and mask.is_floating_point()]
        check_twin(
            make(norm_first=norm_first), theirs, *make_inputs(), kwargs=masks, constants=constants, modes=["train"]
        )


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    batch=st.integers(0, 3),
    target=st.integers(0, 4),
    memory=st.integers(1, 4),
    norm_first=st.booleans(),
    implementation=st.sampled_from(["vectorized", "tiled"]),
    pieces=st.integers(0, 3),
)
def test_any_sizes_and_a_step_is_the_causal_forward(batch, target, memory, norm_first, implementation, pieces):
    layer = make(norm_first=norm_first, batch_first=True, implementation=implementation).double()
    x, m = make_inputs(True, batch, target, memory)
    dz = torch.randn_like(x)
    mask = torch.ones(target, target, dtype=torch.bool).triu(1)
    leaves = [x.clone().requires_grad_(), m.clone().requires_grad_()]
    expected = layer(*leaves, tgt_mask=mask)
    wanted = torch.autograd.grad(expected, leaves, dz, materialize_grads=True, allow_unused=True)
    with record():
        z = layer(x, m, tgt_mask=mask, tgt_is_causal=True)
        gradients = layer.backward(dz)
    torch.testing.assert_close((z, *gradients), (expected, *wanted), rtol=1e-11, atol=1e-11)
    with no_record():
        cache = layer.new_cache(m, batch, target + 1)
        first = min(pieces, target)
        parts = [layer.step(piece, cache) for piece in (x[:, :first], x[:, first:])]
    torch.testing.assert_close(torch.cat(parts, 1), z, rtol=1e-11, atol=1e-11)
    assert isinstance(cache, DecoderCache)
    assert cache.tokens.length == target


def test_the_same_seed_gives_torchs_weights():
    states = []
    for cls in (TransformerDecoderLayer, torch.nn.TransformerDecoderLayer):
        torch.manual_seed(4)
        states.append(cls(8, 2, 12).state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


X, MEMORY = torch.zeros(2, 4, 6), torch.zeros(2, 3, 6)


@pytest.mark.parametrize(
    ("tgt", "memory", "masks", "error", "message"),
    [
        (X[..., :5], MEMORY, {}, ShapeError, r"\(2, 4, 5\), expected"),
        (X, MEMORY[..., :5], {}, ShapeError, r"x \(2, 4, 6\) and memory \(2, 3, 5\), expected"),
        (X, MEMORY[:1], {}, ShapeError, r"x \(2, 4, 6\) and memory \(1, 3, 6\), expected .* with one B"),
        (X, MEMORY[0], {}, ShapeError, r"x \(2, 4, 6\) and memory \(3, 6\), expected"),
        (X, MEMORY, {"tgt_mask": CAUSAL[:3]}, ShapeError, r"attn_mask \(3, 4\), expected \(4, 4\)"),
        (X, MEMORY, {"memory_mask": CAUSAL}, ShapeError, r"attn_mask \(4, 4\), expected \(4, 3\)"),
        (X, MEMORY, {"memory_key_padding_mask": CAUSAL[:2]}, ShapeError, r"\(2, 4\), expected \(2, 3\)"),
        (X, MEMORY, {"tgt_is_causal": True}, RuntimeError, "none was given"),
        (X, MEMORY, {"memory_is_causal": True}, RuntimeError, "none was given"),
        (X, MEMORY, {"tgt_is_causal": True, "tgt_mask": ~CAUSAL}, ValueError, "contradicts attn_mask"),
        (X, MEMORY, {"memory_is_causal": True, "memory_mask": ~CAUSAL[:, :3]}, ValueError, "contradicts attn_mask"),
    ],
)
@ORDERS
def test_inputs_that_do_not_fit_are_named(tgt, memory, masks, error, message, norm_first):
    layer = make(batch_first=True, norm_first=norm_first)
    with no_record(), pytest.raises(error, match=message):
        layer(tgt, memory, **masks)


def test_impossible_arguments():
    with pytest.raises(ValueError, match="embed_dim=6 and num_heads=4"):
        TransformerDecoderLayer(6, 4)
    with pytest.raises(ValueError, match=r"dropout=1\.5"):
        TransformerDecoderLayer(6, 2, dropout=1.5)
