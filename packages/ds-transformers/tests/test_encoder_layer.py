import itertools
import math

import pytest
import torch
from ds_core import ShapeError, SiLU, no_record, record
from ds_core.testing import check_layer, check_twin, check_twin_grid, full_grids
from ds_transformers import TransformerEncoderLayer
from hypothesis import given, settings
from hypothesis import strategies as st

ORDERS = pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
LAYOUTS = pytest.mark.parametrize("batch_first", [False, True], ids=["(T, B, E)", "(B, T, E)"])
CAUSAL = torch.ones(4, 4, dtype=torch.bool).triu(1)
MASKS = {
    "causal": CAUSAL,
    "boolean": torch.eye(4, dtype=torch.bool),
    "floating": torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
    "each head": torch.stack([CAUSAL.roll(shift, 0) for shift in range(4)]),
}
PADDING = {
    "boolean": torch.tensor([[False, False, False, True], [False, True, False, False]]),
    "floating": torch.tensor([[0.0, 1.0, -math.inf, 0.5], [0.3, -2.0, 0.0, 0.1]], dtype=torch.float64),
    "a whole example": torch.tensor([[False] * 4, [True] * 4]),
}


def make(dropout=0.0, **options):
    return TransformerEncoderLayer(6, 2, 5, dropout, **options)


def of_torch(**options):
    return torch.nn.TransformerEncoderLayer(6, 2, 5, 0.0, **options)


def matrix(*rows):
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("norm_first", [False, True])
def test_worked_example(norm_first):
    """Attention whose queries are 0 takes twice the mean of the tokens; eps = 3 makes the first norm a half."""
    options = {"layer_norm_eps": 3.0, "bias": False, "batch_first": True, "dtype": torch.float64}
    layer = TransformerEncoderLayer(2, 1, 2, 0.0, **options, norm_first=norm_first)
    eye = torch.eye(2, dtype=torch.float64)
    layer.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat([0 * eye, 0 * eye, eye]),
            "self_attn.out_proj.weight": 2 * eye,
            "linear1.weight": eye,
            "linear2.weight": 0.5 * eye,
            "norm1.weight": torch.ones(2, dtype=torch.float64),
            "norm2.weight": torch.ones(2, dtype=torch.float64),
        }
    )
    x, dz = matrix([3.0, 1.0], [1.0, 3.0]), matrix([1.0, 0.0], [0.0, 2.0])
    with record():
        z = layer(x[None])[0]
        dx = layer.backward(dz[None])[0]
    network = layer.linear1.weight.grad
    if norm_first:
        dy = matrix([1.0938, -0.0938], [-0.1875, 2.1875])
        expected = {
            "z": (z, matrix([3.25, 1.0], [1.0, 3.25])),
            "dx": (dx, matrix([0.8711, 0.1289], [-0.4102, 2.4102])),
            # each token's norm1 is given the sum of both rows of dy, times 2 / 2; xhat = x - 2 over 2
            "dnorm1": (layer.norm1.weight.grad, (dy.sum(0) * (x - 2) / 2).sum(0)),
            "dlinear1": (network, matrix([0.25, -0.25], [-0.5, 0.5])),
        }
    else:
        dv, dy = matrix([0.2403, -0.2403], [-0.4805, 0.4805]), matrix([0.3604, -0.2403], [-0.4805, 0.7208])
        du = matrix([0.1126, -0.1126], [-0.2252, 0.2252])
        expected = {
            "z": (z, matrix([0.3394, -0.3394], [-0.3394, 0.3394])),
            "dx": (dx, du + du.sum(0)),
            "the same": (dx, matrix([0.0, 0.0], [-0.3379, 0.3379])),
            "dnorm1": (layer.norm1.weight.grad, (dy * (x - 2) / 2).sum(0)),
            "dlinear1": (network, (0.5 * dv * torch.eye(2)).t() @ ((x - 2) / 2)),
        }
        assert abs(1 / math.sqrt(0.3906 + 3) - 0.5431) < 5e-5  # of v = (0.75, -0.5), whose mean is 0.125
    for name, (found, wanted) in expected.items():
        torch.testing.assert_close(found, wanted, rtol=0, atol=1.5e-4, msg=lambda text, name=name: f"{name}: {text}")


@ORDERS
@LAYOUTS
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients(dropout, batch_first, norm_first):
    layer = make(dropout, batch_first=batch_first, norm_first=norm_first, activation="gelu")
    check_layer(layer, torch.randn(2, 4, 6), batch_dim=0 if batch_first else 1, samples=4)


@ORDERS
@pytest.mark.parametrize("activation", ["relu", SiLU()], ids=["relu", "a layer"])
def test_gradients_of_other_activations_without_biases(activation, norm_first):
    layer = make(activation=activation, bias=False, norm_first=norm_first, batch_first=True)
    check_layer(layer, torch.randn(2, 4, 6), samples=4, seed=1)


@ORDERS
@pytest.mark.parametrize("implementation", ["vectorized", "tiled"])
def test_gradients_under_masks(implementation, norm_first):
    layer = make(0.2, norm_first=norm_first, batch_first=True, implementation=implementation, activation="gelu")
    masks = {"src_mask": CAUSAL, "src_key_padding_mask": PADDING["boolean"], "is_causal": True}
    # rows that hide every key but one, and an example of three tokens
    check_layer(layer, torch.randn(2, 4, 6), kwargs=masks, batch_dim=[0, None, 0, None], samples=4)


@ORDERS
@LAYOUTS
def test_gradients_without_a_batch(batch_first, norm_first):
    layer = make(0.3, batch_first=batch_first, norm_first=norm_first, activation="gelu")
    padding = torch.tensor([False, True, False, False])
    check_layer(layer, torch.randn(4, 6), kwargs={"src_key_padding_mask": padding}, batch_dim=None, samples=4)


def test_twin_over_all_constructor_arguments():
    compared = check_twin_grid(
        TransformerEncoderLayer,
        torch.nn.TransformerEncoderLayer,
        {
            "d_model": [6],
            "nhead": [1, 2],
            "dim_feedforward": [5],
            "dropout": [0.0],
            "activation": ["relu", "gelu", torch.nn.functional.silu, torch.tanh],
            "layer_norm_eps": [1e-5, 0.3],
            "batch_first": [False, True],
            "norm_first": [False, True],
            "bias": [False, True],
        },
        [torch.randn(3, 4, 6)],
        left_out=["activation"],  # its default is a function of PyTorch's there, and that function's name here
        thinned=True,
    )
    assert compared == (128 if full_grids() else 12)


def test_twin_defaults_and_dropout_in_evaluation():
    compared = check_twin_grid(
        TransformerEncoderLayer,
        torch.nn.TransformerEncoderLayer,
        {"d_model": [6], "nhead": [2, 4], "dropout": [0.0, 0.1, 1.5], "activation": ["relu", "swish"]},
        [torch.randn(3, 4, 6)],
        modes=["eval"],
        left_out=["activation"],
    )
    assert compared == 2  # PyTorch refuses the rest, and so do we


@ORDERS
@LAYOUTS
def test_twin_over_all_masks(batch_first, norm_first):
    options = {"batch_first": batch_first, "norm_first": norm_first}
    x = torch.randn(2, 4, 6) if batch_first else torch.randn(4, 2, 6)
    for mask, padding in itertools.product([None, *MASKS], [None, *PADDING]):
        given_masks = {"src_mask": MASKS.get(mask), "src_key_padding_mask": PADDING.get(padding)}
        if len({tensor.dtype for tensor in given_masks.values() if tensor is not None}) > 1:
            continue  # PyTorch warns of a mixture, which has a test of its own
        constants = [name for name, tensor in given_masks.items() if tensor is not None and tensor.is_floating_point()]
        for is_causal in (False, True) if mask == "causal" else (False,):
            check_twin(
                make(**options),
                of_torch(**options),
                x,
                kwargs={**given_masks, "is_causal": is_causal},
                constants=constants,
            )


@ORDERS
def test_a_floating_mask_beside_boolean_padding(norm_first):
    masks = {"src_mask": MASKS["floating"], "src_key_padding_mask": PADDING["boolean"]}
    with pytest.warns(UserWarning, match="mismatched"):
        check_twin(
            make(norm_first=norm_first),
            of_torch(norm_first=norm_first),
            torch.randn(4, 2, 6),
            kwargs=masks,
            constants=["src_mask"],
        )


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    batch=st.integers(0, 3),
    length=st.integers(0, 4),
    heads=st.integers(1, 3),
    width=st.integers(1, 3),
    hidden=st.integers(1, 4),
    norm_first=st.booleans(),
    implementation=st.sampled_from(["vectorized", "tiled"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_any_sizes(batch, length, heads, width, hidden, norm_first, implementation, dtype):
    options = {"norm_first": norm_first, "batch_first": True, "dtype": dtype}
    theirs = torch.nn.TransformerEncoderLayer(heads * width, heads, hidden, 0.0, **options)
    ours = TransformerEncoderLayer(heads * width, heads, hidden, 0.0, **options, implementation=implementation)
    ours.load_state_dict(theirs.state_dict())
    x, dy = torch.randn(2, batch, length, heads * width, dtype=dtype)
    leaf = x.clone().requires_grad_()
    expected = theirs(leaf) if batch * length else leaf * 1
    expected.backward(dy)
    with record():
        y = ours(x)
        dx = ours.backward(dy)
    tolerance = {"rtol": 0, "atol": 1e-11 if dtype == torch.float64 else 2e-3}
    torch.testing.assert_close(y, expected, **tolerance)
    torch.testing.assert_close(dx, leaf.grad, **tolerance)


@ORDERS
def test_the_same_seed_gives_torchs_weights_and_a_generator_its_own(norm_first):
    states = []
    for cls in (TransformerEncoderLayer, torch.nn.TransformerEncoderLayer):
        torch.manual_seed(4)
        states.append(cls(8, 2, 12, norm_first=norm_first).state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    before = torch.get_rng_state()
    first, second = (make(generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, first.parameters(), second.parameters()))


def test_without_gradients_pytorchs_fast_path_gives_the_same_where_padding_leaves_a_token():
    """In eval under no_grad PyTorch runs a kernel of its own; a wholly hidden row is NaN there, not here."""
    theirs = of_torch(batch_first=True).double().eval()
    ours = make(batch_first=True).double().eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 4, 6, dtype=torch.float64)
    with torch.no_grad():
        for name, finite in (("boolean", True), ("a whole example", False)):
            found, expected = (layer(x, src_key_padding_mask=PADDING[name]) for layer in (ours, theirs))
            assert bool(expected.isfinite().all()) == finite
            assert bool(found.isfinite().all())
            seen = expected.isfinite()
            torch.testing.assert_close(found[seen], expected[seen], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d_model": 6, "nhead": 4}, "embed_dim=6 and num_heads=4, expected embed_dim to be a positive multiple"),
        ({"d_model": 6, "nhead": 0}, "num_heads=0"),
        ({"d_model": 6, "nhead": 2, "dropout": -0.1}, "dropout=-0.1"),
        ({"d_model": 6, "nhead": 2, "implementation": "fast"}, "'fast', expected one of"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        TransformerEncoderLayer(**arguments)


X = torch.zeros(2, 4, 6)


@pytest.mark.parametrize(
    ("x", "masks", "error", "message"),
    [
        (X[..., :5], {}, ShapeError, r"\(2, 4, 5\), expected"),
        (X[0, 0], {}, ShapeError, r"\(6,\), expected"),
        (X, {"src_mask": CAUSAL[:3]}, ShapeError, r"attn_mask \(3, 4\), expected \(4, 4\) or \(4, 4, 4\)"),
        (X, {"src_mask": torch.zeros(4, 4).long()}, ShapeError, "torch.int64, expected torch.bool or a floating"),
        (X, {"src_key_padding_mask": CAUSAL}, ShapeError, r"key_padding_mask \(4, 4\), expected \(2, 4\)"),
        (X, {"is_causal": True}, RuntimeError, "none was given"),
        (X, {"is_causal": True, "src_mask": CAUSAL.t()}, ValueError, "is_causal=True contradicts attn_mask"),
        (X, {"is_causal": True, "src_mask": torch.ones(5, 5).bool().triu(1)}, ShapeError, r"\(5, 5\), expected"),
    ],
)
@ORDERS
def test_inputs_that_do_not_fit_are_named(x, masks, error, message, norm_first):
    layer = make(batch_first=True, norm_first=norm_first)
    with no_record(), pytest.raises(error, match=message):
        layer(x, **masks)
