"""Against torch.optim.Muon where there is one (from 2.9 on), and against what it is for: orthogonal steps."""

import math

import pytest
import torch
from ds_core import AdamW, Muon, primitives_only
from ds_core.optimizers.muon import muon_factor, orthogonalized
from ds_core.testing import check_optimizer
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_checks import close, example, grid, like_eager_when_compiled

needs_twin = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim has Muon from 2.9 on")
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
SHAPES = [(3, 4), (5, 2), (6, 6), (1, 1), (0, 3), (40, 70)]
OPTIONS = [
    {"lr": torch.tensor(0.1, dtype=torch.float64)},
    {"eps": 50.0},
    *grid(
        weight_decay=[0, 0.3],
        momentum=[0.95, 0.5, 0.0],
        nesterov=[True, False],
        ns_coefficients=[COEFFICIENTS, (2.0, -1.5, 0.5)],
        ns_steps=[5, 1],
        adjust_lr_fn=[None, "original", "match_rms_adamw"],
    ),
]


def polynomial(s, steps, coefficients=COEFFICIENTS):
    a, b, c = coefficients
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return s


def test_worked_example():
    ((weight, state),) = example(lambda p: Muon(p, lr=0.1, weight_decay=0.5, momentum=0.5), [[[3.0, 0.0], [0.0, 4.0]]])
    close(state["momentum_buffer"], [[1.5, 0.0], [0.0, 2.0]])
    close([2.25 / math.hypot(2.25, 3.0), 3.0 / math.hypot(2.25, 3.0)], [0.6, 0.8])
    close([polynomial(0.6, 1), polynomial(0.8, 1)], [1.1933, 0.9765])
    close([polynomial(0.6, 5), polynomial(0.8, 5)], [0.7229, 1.1192])
    exact = [[0.95 - 0.07229, -1.9], [0.475, 3.8 - 0.11192]]
    close(exact, [[0.8777, -1.9], [0.475, 3.6881]])
    close(0.1 * 0.5, 0.05)
    close(weight, exact, digits=2)  # bfloat16 holds no more


@needs_twin
@pytest.mark.parametrize("options", [{}, *OPTIONS], ids=str)
@pytest.mark.parametrize("none_gradients", [True, False])
def test_like_torch_and_exchanging_state_half_way(options, none_gradients):
    """In float64 the same products in bfloat16, so that both agree far beyond its three digits."""
    check_optimizer(
        lambda p: Muon(p, **options),
        lambda p: torch.optim.Muon(p, **options),
        steps=12,
        shapes=SHAPES,
        none_gradients=none_gradients,
        rtol=1e-12,
    )


def walks(dtype, options, shapes, steps=20):
    ends = []
    for kind in (Muon, torch.optim.Muon):
        generator = torch.Generator().manual_seed(0)
        parameters = [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]
        optimizer = kind(parameters, lr=0.1, **options)
        for _ in range(steps):
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape, generator=generator).to(dtype)
            optimizer.step()
        ends.append(parameters)
    return ends


@needs_twin
@pytest.mark.parametrize("nesterov", [True, False])
def test_bit_for_bit_torchs_in_float32_where_no_factor_is_to_be_rounded(nesterov):
    ours, theirs = walks(torch.float32, {"nesterov": nesterov}, [(16, 33), (8, 8)])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    ours, theirs = walks(torch.float32, {"nesterov": nesterov}, [(33, 16)])
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@needs_twin
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loses_no_more_than_torch_does(dtype):
    ours, theirs = walks(dtype, {}, [(16, 33), (33, 16)])
    _, exact = walks(torch.float64, {}, [(16, 33), (33, 16)])
    for own, torchs, expected in zip(ours, theirs, exact, strict=True):
        assert (own - expected).abs().max() <= 2 * (torchs - expected).abs().max()
        assert (own - expected).abs().median() <= 2 * (torchs - expected).abs().median()


def test_a_buffer_in_bfloat16_is_not_changed_by_the_iteration():
    """PyTorch divides it by its norm, where it is the mean itself that is made orthogonal."""
    weight = torch.zeros(2, 2, dtype=torch.bfloat16, requires_grad=True)
    gradient = weight.grad = torch.full((2, 2), 8.0, dtype=torch.bfloat16)
    optimizer = Muon([weight], momentum=0.5, nesterov=False)
    optimizer.step()
    assert optimizer.state[weight]["momentum_buffer"].tolist() == [[4.0, 4.0], [4.0, 4.0]]
    assert gradient.tolist() == [[8.0, 8.0], [8.0, 8.0]]
    orthogonalized(gradient, COEFFICIENTS, 5, 1e-7)
    assert gradient.tolist() == [[8.0, 8.0], [8.0, 8.0]]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    steps=st.integers(0, 6),
)
def test_singular_vectors_stay_and_the_polynomial_is_applied_to_singular_values(rows, columns, seed, scale, steps):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    with primitives_only():
        result = orthogonalized(matrix * scale, (2.0, -1.5, 0.5), steps, 1e-7)
    assert result.dtype == torch.bfloat16
    left, values, right = torch.linalg.svd(matrix / torch.linalg.matrix_norm(matrix), full_matrices=False)
    expected = left @ torch.diag(polynomial(values, steps, (2.0, -1.5, 0.5))) @ right
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=0.03)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (25, 25)])
def test_steps_are_nearly_orthogonal(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalized(matrix, COEFFICIENTS, 5, 1e-7).double())
    assert values.max() < 1.25
    assert values.quantile(0.1) > 0.6


def test_the_step_depends_on_the_shape():
    assert muon_factor(None, 2, 8) == muon_factor("original", 2, 8) == 1.0
    assert muon_factor(None, 8, 2) == 2.0
    assert muon_factor("match_rms_adamw", 25, 9) == muon_factor("match_rms_adamw", 9, 25) == 1.0
    assert muon_factor(None, 5, 0) == pytest.approx(math.sqrt(5))  # of an empty matrix


def test_matrices_are_neither_packed_nor_cut(monkeypatch):
    def walk():
        parameters = [torch.ones(4, 5, requires_grad=True), torch.ones(5, 4, requires_grad=True)]
        optimizer = Muon(parameters, lr=0.1)
        for step in range(3):
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
            optimizer.step()
        return parameters

    whole = walk()
    monkeypatch.setattr("ds_core.optimizers.flat_optimizer.chunk_size", lambda device: 8)
    torch.testing.assert_close(walk(), whole, rtol=0, atol=0)


def test_zero_gradients_move_nothing():
    weight = torch.ones(3, 2, requires_grad=True)
    optimizer = Muon([weight], weight_decay=0)
    weight.grad = torch.zeros(3, 2)
    optimizer.step()
    assert weight.tolist() == [[1.0, 1.0]] * 3


@pytest.mark.parametrize("options", [{}, {"nesterov": False, "momentum": 0.5, "adjust_lr_fn": "match_rms_adamw"}])
def test_compiled_steps_are_the_eager_ones(options):
    like_eager_when_compiled(lambda p: Muon(p, lr=0.1, **options), shapes=((3, 4), (5, 2), (1, 1)))


def test_under_autocast_the_precision_is_its_own():
    matrix = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    expected = orthogonalized(matrix, COEFFICIENTS, 5, 1e-7)
    with torch.autocast("cpu", torch.float16):
        assert torch.equal(orthogonalized(matrix, COEFFICIENTS, 5, 1e-7), expected)


def test_other_optimizers_take_what_is_no_matrix():
    matrix, bias = torch.ones(2, 3, requires_grad=True), torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match=r"Muon only supports 2D parameters .* size: torch.Size\(\[3\]\)"):
        Muon([matrix, bias])
    optimizer = Muon([matrix])
    with pytest.raises(ValueError, match="Muon only supports 2D parameters"):
        optimizer.add_param_group({"params": [bias]})
    assert len(optimizer.param_groups) == 1
    AdamW([bias])


def test_decay_stays_decoupled_whatever_state_is_loaded():
    matrix = torch.zeros(2, 2, requires_grad=True)
    optimizer, other = Muon([matrix]), Muon([matrix])
    state = other.state_dict()
    state["param_groups"][0]["decoupled_weight_decay"] = False
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["decoupled_weight_decay"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "Learning rate should be >= 0 but is: -1.0"),
        ({"lr": math.nan}, "Learning rate should be >= 0 but is: nan"),
        ({"lr": torch.tensor([0.1, 0.1])}, "Tensor lr must be 1-element"),
        ({"momentum": -0.5}, "momentum should be >= 0 but is: -0.5"),
        ({"momentum": math.nan}, "momentum should be >= 0 but is: nan"),
        ({"weight_decay": -1}, "weight decay should be >= 0 but is: -1"),
        ({"weight_decay": math.nan}, "weight decay should be >= 0 but is: nan"),
        ({"eps": -1.0}, "epsilon should be >= 0 but is: -1.0"),
        ({"eps": math.nan}, "epsilon should be >= 0 but is: nan"),
        ({"ns_steps": -1}, "ns_steps should be >= 0 but is: -1"),
        ({"ns_steps": 100}, "Number of steps must be less than 100 for computational efficiency"),
        ({"ns_coefficients": (1.0, 2.0)}, "Coefficients must be a tuple of exactly 3 values"),
        ({"adjust_lr_fn": "other"}, "Adjust learning rate function other is not supported"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Muon([torch.zeros(2, 2, requires_grad=True)], **options)
    with pytest.raises(ValueError, match=message):  # in a group of its own too
        Muon([{"params": [torch.zeros(2, 2, requires_grad=True)], **options}])


def test_no_parameters_and_complex_ones_are_refused():
    with pytest.raises(ValueError, match="empty parameter list"):
        Muon([])
    with pytest.raises(ValueError, match="complex parameters are not supported"):
        Muon([torch.zeros(2, 2, dtype=torch.complex64, requires_grad=True)])
