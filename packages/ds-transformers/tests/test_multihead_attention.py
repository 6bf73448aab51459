import itertools
import math

import pytest
import torch
from ds_core import primitives_only, record
from ds_core.interop import as_torch
from ds_core.testing import check_layer, check_twin, check_twin_grid, full_grids
from ds_transformers import MultiheadAttention
from ds_transformers.attentions.implementations import IMPLEMENTATIONS
from hypothesis import given, settings
from hypothesis import strategies as st

CAUSAL = torch.ones(4, 4, dtype=torch.bool).triu(1)


def random_inputs(batch=2, queries=4, keys=5, widths=(6, 6, 6), batch_first=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = (queries, keys, keys)
    shapes = [(batch, n, width) if batch_first else (n, batch, width) for n, width in zip(lengths, widths, strict=True)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def make_inputs(chosen):
    widths = (6, chosen.get("kdim") or 6, chosen.get("vdim") or 6)
    return random_inputs(widths=widths, batch_first=chosen.get("batch_first", False))


def test_worked_example():
    """Projections that pass everything on, so that the numbers are those of the attention page, doubled by out_proj."""
    ln3 = math.log(3)
    layer = MultiheadAttention(2, 1, bias=False, batch_first=True, dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)
    layer.load_state_dict({"in_proj_weight": eye.repeat(3, 1), "out_proj.weight": 2 * eye})
    query = math.sqrt(2) * eye.view(1, 2, 2)
    key = torch.tensor([[[0.0, ln3], [ln3, 0.0]]], dtype=torch.float64)
    value = torch.tensor([[[1.0, 2.0], [3.0, -1.0]]], dtype=torch.float64)
    dy = torch.tensor([[[0.5, 1.0], [-0.5, 2.0]]], dtype=torch.float64)
    dweights = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    with record():
        y, weights = layer(query, key, value)
        dquery, dkey, dvalue = layer.backward(dy, dweights)
    for found, rows in [
        (y, [[5.0, -0.5], [3.0, 2.5]]),
        (weights, [[0.25, 0.75], [0.75, 0.25]]),
        (dvalue, [[-0.5, 3.5], [0.5, 2.5]]),
        # dA_11 = 1 makes dP_11 = 6: delta_1 = 2.25, dS_1 = 15/16, -15/16
        (
            dquery,
            [
                [-15 / 16 * ln3 / math.sqrt(2), 15 / 16 * ln3 / math.sqrt(2)],
                [-2.625 * ln3 / math.sqrt(2), 2.625 * ln3 / math.sqrt(2)],
            ],
        ),
        (dkey, [[15 / 16, 2.625], [-15 / 16, -2.625]]),
    ]:
        torch.testing.assert_close(found[0], torch.tensor(rows, dtype=torch.float64), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("need_weights", [False, True])
def test_twin_over_all_constructor_arguments(need_weights):
    compared = check_twin_grid(
        MultiheadAttention,
        torch.nn.MultiheadAttention,
        {
            "embed_dim": [6],
            "num_heads": [1, 3],
            "bias": [False, True],
            "add_bias_kv": [False, True],
            "add_zero_attn": [False, True],
            "kdim": [None, 3],
            "vdim": [None, 5],
            "batch_first": [False, True],
        },
        make_inputs,
        kwargs={"need_weights": need_weights},
        modes=["train"],
        thinned=True,
    )
    assert compared == (128 if full_grids() else 7)


def test_twin_under_dropout_in_evaluation():
    check_twin_grid(
        MultiheadAttention,
        torch.nn.MultiheadAttention,
        {"embed_dim": [6], "num_heads": [2], "dropout": [0.0, 0.5]},
        make_inputs,
        modes=["eval"],
    )


PADDING = {
    "boolean": torch.tensor([[False, False, True, True], [False, True, False, False]]),
    "floating": torch.tensor([[0.0, 1.0, -math.inf, 0.5], [0.3, -2.0, 0.0, 0.1]], dtype=torch.float64),
}
ATTENDED = {
    "boolean": CAUSAL,
    "floating": torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
    "boolean, each head": torch.stack([CAUSAL.roll(shift, 0) for shift in range(4)]),
    "floating, each head": torch.randn(4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("padding", [None, *PADDING])
@pytest.mark.parametrize("mask", [None, *ATTENDED])
@pytest.mark.parametrize("appended", [False, True])
def test_twin_over_all_masks_and_results(mask, padding, appended):
    arguments = {"add_bias_kv": appended, "add_zero_attn": appended, "batch_first": appended}
    inputs = random_inputs(keys=4, batch_first=appended)
    ways = [(True, True), (True, False), (False, True)]
    for (need_weights, averaged), implementation in itertools.product(ways, IMPLEMENTATIONS):
        check_twin(
            MultiheadAttention(6, 2, **arguments, implementation=implementation),
            torch.nn.MultiheadAttention(6, 2, **arguments),
            *inputs,
            kwargs={
                "attn_mask": ATTENDED.get(mask),
                "key_padding_mask": PADDING.get(padding),
                "need_weights": need_weights,
                "average_attn_weights": averaged,
            },
            constants=[
                name
                for name, given_mask in (("attn_mask", ATTENDED.get(mask)), ("key_padding_mask", PADDING.get(padding)))
                if given_mask is not None and given_mask.is_floating_point()
            ],
            modes=["train"],
        )


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("appended", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_unbatched_inputs(batch_first, appended, bias):
    arguments = {"bias": bias, "add_bias_kv": appended, "add_zero_attn": appended, "batch_first": batch_first}
    layers = MultiheadAttention(3, 3, **arguments), torch.nn.MultiheadAttention(3, 3, **arguments)
    query, key, value = (tensor[:, 0] for tensor in random_inputs(1, 4, 4, (3, 3, 3)))
    masks = [None, CAUSAL, torch.stack([CAUSAL.roll(shift, 0) for shift in range(3)])]
    paddings = [None, torch.tensor([False, True, False, False])]
    results = [{}, {"average_attn_weights": False}, {"need_weights": False}]
    for mask, padding, asked in itertools.product(masks, paddings, results):
        options = {"attn_mask": mask, "key_padding_mask": padding, **asked}
        check_twin(*layers, query, key, value, kwargs=options, modes=["train"])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("averaged", [False, True])
def test_gradients(averaged, dropout, batch_first):
    layer = MultiheadAttention(6, 2, dropout, add_bias_kv=True, add_zero_attn=True, batch_first=batch_first)
    check_layer(
        layer,
        *random_inputs(batch_first=batch_first),
        kwargs={"average_attn_weights": averaged},
        batch_dim=0 if batch_first else 1,
    )


@pytest.mark.parametrize("implementation", list(IMPLEMENTATIONS))
def test_gradients_without_weights(implementation):
    layer = MultiheadAttention(6, 2, 0.3, kdim=3, vdim=5, implementation=implementation)
    inputs = random_inputs(widths=(6, 3, 5))
    mask = torch.rand(4, 5, generator=torch.Generator().manual_seed(1)) < 0.3
    check_layer(layer, *inputs, kwargs={"need_weights": False, "attn_mask": mask}, batch_dim=1)


def test_one_tensor_as_query_key_and_value():
    class Selfish(MultiheadAttention):
        def forward(self, x):
            return super().forward(x, x, x, need_weights=False)[0]

        def backward(self, dy, *, input_gradient=True):
            gradients = super().backward(dy, input_gradient=input_gradient)
            return None if gradients[0] is None else sum(gradients)

    check_layer(Selfish(6, 2, batch_first=True), torch.randn(2, 4, 6))


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("hidden", ["padding", "mask"])
def test_a_query_that_sees_nothing_is_as_in_torch(hidden, need_weights):
    """NaN where weights are asked for; the bias of out_proj alone, and no gradient, where they are not."""
    torch.manual_seed(0)
    ours, theirs = MultiheadAttention(6, 2).double(), torch.nn.MultiheadAttention(6, 2).double()
    theirs.load_state_dict(ours.state_dict())
    inputs = random_inputs(keys=4)
    options = {"need_weights": need_weights}
    if hidden == "padding":
        options["key_padding_mask"] = torch.tensor([[False] * 4, [True] * 4])
    else:
        options["attn_mask"] = torch.zeros(4, 4, dtype=torch.bool)
        options["attn_mask"][2] = True
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    expected, expected_weights = theirs(*leaves, **options)
    dy = torch.randn_like(expected)
    expected.backward(dy)
    with record():
        y, weights = ours(*inputs, **options)
        gradients = ours.backward(dy)
    assert y.isnan().any() == need_weights
    torch.testing.assert_close(y, expected, equal_nan=True)
    torch.testing.assert_close(weights, expected_weights, equal_nan=True)
    for found, leaf in zip(gradients, leaves, strict=True):
        torch.testing.assert_close(found, leaf.grad, equal_nan=True)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("appended", [False, True])
@pytest.mark.parametrize("keys", [4, 6])
def test_is_causal_is_believed_where_torch_believes_it(keys, appended, padded, need_weights):
    """The mask is read where weights or a padding mask are asked for. Elsewhere appended keys are hidden too."""
    mask = torch.ones(4, keys, dtype=torch.bool).triu(1)
    options = {"attn_mask": mask, "is_causal": True, "need_weights": need_weights}
    if padded:
        options["key_padding_mask"] = torch.arange(keys) > torch.tensor([[1], [keys]])
    arguments = {"add_bias_kv": appended, "add_zero_attn": appended}
    inputs = random_inputs(keys=keys)
    for implementation in IMPLEMENTATIONS:
        ours = MultiheadAttention(6, 2, **arguments, implementation=implementation)
        check_twin(ours, torch.nn.MultiheadAttention(6, 2, **arguments), *inputs, kwargs=options, modes=["train"])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 3),
    queries=st.integers(0, 5),
    keys=st.integers(0, 5),
    heads=st.integers(1, 3),
    head_width=st.integers(1, 3),
    need_weights=st.booleans(),
    seed=st.integers(0, 100),
)
def test_twin_over_shapes(batch, queries, keys, heads, head_width, need_weights, seed):
    width = heads * head_width
    inputs = random_inputs(batch, queries, keys, (width, width, width), seed=seed)
    layers = [kind(width, heads).double() for kind in (MultiheadAttention, torch.nn.MultiheadAttention)]
    check_twin(*layers, *inputs, kwargs={"need_weights": need_weights}, modes=["train"])


def test_inside_a_torch_model():
    ours, theirs = (
        MultiheadAttention(6, 2, add_bias_kv=True).double(),
        torch.nn.MultiheadAttention(6, 2, add_bias_kv=True),
    )
    theirs.double().load_state_dict(ours.state_dict())
    found = []
    for layer in (as_torch(ours), theirs):
        x = random_inputs()[0].requires_grad_()
        y, weights = layer(x, x, x, attn_mask=CAUSAL)
        (y.pow(2).sum() + weights.pow(3).sum()).backward()
        found.append([y, x.grad, *(tensor.grad for tensor in layer.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("implementation", list(IMPLEMENTATIONS))
def test_a_gradient_of_weights_that_were_not_returned(implementation):
    layer = MultiheadAttention(6, 2, implementation=implementation, dtype=torch.float64)
    with record():
        y, weights = layer(*random_inputs(), need_weights=False)
        assert weights is None
        with pytest.raises(ValueError, match="dweights given, but forward returned no weights"):
            layer.backward(torch.ones_like(y), torch.ones(2, 4, 5, dtype=torch.float64))


@pytest.mark.parametrize("widths", [{}, {"kdim": 6, "vdim": 5}])
@pytest.mark.parametrize("appended", [False, True])
def test_work_that_nothing_needs_is_not_done(appended, widths):
    layer = MultiheadAttention(6, 2, add_bias_kv=appended, dtype=torch.float64, **widths).requires_grad_(False)
    inputs = random_inputs(widths=(6, 6, widths.get("vdim", 6)))
    with record():
        y, _ = layer(*inputs)
        with primitives_only() as operations:
            assert layer.backward(torch.ones_like(y), input_gradient=False) == (None, None, None)
        assert operations["bmm"] == operations["baddbmm"] == 0
        layer.out_proj.requires_grad_(True)
        layer(*inputs)
        layer.backward(torch.ones_like(y), input_gradient=False)
    assert layer.out_proj.weight.grad is not None
    assert [name for name, tensor in layer.named_parameters() if tensor.grad is not None] == [
        "out_proj.weight",
        "out_proj.bias",
    ]
    if appended:
        layer.bias_k.requires_grad_(True)
        with record():
            layer(*inputs)
            layer.backward(torch.ones_like(y), input_gradient=False)
        assert layer.bias_k.grad is not None
