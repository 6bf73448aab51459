"""Initializers against those of torch.nn.init: the same numbers from the same seed, and the same errors."""

import inspect
import math

import pytest
import torch
from ds_core import ShapeError
from ds_core.initializers import (
    calculate_gain,
    dirac_,
    distributions,
    eye_,
    filling,
    kaiming_normal_,
    kaiming_uniform_,
    lecun_normal_,
    lecun_uniform_,
    normal_,
    ones_,
    orthogonal,
    orthogonal_,
    trunc_normal_,
    uniform_,
    variance_scaling,
    xavier_normal_,
    xavier_uniform_,
    zeros_,
)
from ds_core.initializers.variance_scaling import fans
from newer_trunc_normal import newer_trunc_normal_, trunc_normal_twin

init = torch.nn.init
SHAPES = [(3, 5), (5, 3), (4, 4), (1, 7), (6, 2, 3), (4, 2, 3, 3), (2, 3, 2, 2, 2)]
NONLINEARITIES = ["linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]
NONLINEARITIES += ["sigmoid", "tanh", "relu", "leaky_relu", "selu"]
# Each twin, with keyword arguments.
DRAWN = [
    ("uniform_", {}),
    ("uniform_", {"a": -3.0, "b": 5.0}),
    ("uniform_", {"a": 2.0, "b": 2.0}),
    ("normal_", {}),
    ("normal_", {"mean": -2.0, "std": 0.3}),
    ("normal_", {"std": 0.0}),
    ("trunc_normal_", {}),
    ("trunc_normal_", {"mean": 0.5, "std": 0.02}),
    ("trunc_normal_", {"a": -0.1, "b": 0.2}),
    ("trunc_normal_", {"mean": 1.0, "std": 0.5, "a": 2.5, "b": 3.0}),
    ("trunc_normal_", {"mean": -1.0, "std": 2.0, "a": -7.0, "b": -4.0}),
    # just below or above the part from which on numbers are drawn again
    ("trunc_normal_", {"std": 0.1, "a": 0.0, "b": 0.1}),
    ("trunc_normal_", {"std": 0.1, "a": -0.1, "b": 0.0}),
    ("trunc_normal_", {"mean": 1.0, "a": 1.0, "b": 1.7}),
    ("trunc_normal_", {"mean": 1.0, "a": -0.5, "b": 1.0}),
    ("trunc_normal_", {"a": -math.inf, "b": 1.0}),
    ("xavier_uniform_", {}),
    ("xavier_uniform_", {"gain": 1.7}),
    ("xavier_normal_", {}),
    ("xavier_normal_", {"gain": 0.3}),
    ("orthogonal_", {}),
    ("orthogonal_", {"gain": -1.5}),
    *[
        (name, {"a": a, "mode": mode, "nonlinearity": nonlinearity})
        for name in ("kaiming_uniform_", "kaiming_normal_")
        for mode in ("fan_in", "fan_out")
        for a, nonlinearity in [(0, "leaky_relu"), (0.3, "leaky_relu"), (0, "relu"), (0, "tanh"), (0, "selu")]
    ],
    ("kaiming_uniform_", {}),
    ("kaiming_normal_", {}),
]
pytestmark = pytest.mark.filterwarnings("ignore:mean is more than 2 std:UserWarning")  # where the twin is not sure
OURS = {
    name: getattr(module, name)
    for module in (filling, distributions, variance_scaling, orthogonal)
    for name in vars(module)
    if inspect.isfunction(vars(module)[name]) and inspect.isfunction(getattr(init, name, None))
}
TWINS = {name: getattr(init, name) for name in OURS} | {"trunc_normal_": trunc_normal_twin}


@pytest.mark.parametrize(("name", "options"), DRAWN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_seed_same_numbers(name, options, dtype):
    for shape in SHAPES:
        for weight in (torch.empty(shape, dtype=dtype), torch.zeros(shape, dtype=dtype, requires_grad=True)):
            expected = weight.detach().clone()
            torch.manual_seed(5)
            assert OURS[name](weight, **options) is weight
            after = torch.rand(1)
            torch.manual_seed(5)
            TWINS[name](expected, **options)
            assert torch.equal(weight.detach(), expected)
            assert torch.equal(torch.rand(1), after)  # neither has drawn more
            assert weight.is_leaf
            assert weight.grad_fn is None


@pytest.mark.parametrize(("name", "options"), DRAWN)
def test_drawn_from_the_generator_that_is_given(name, options):
    weight, expected = torch.empty(6, 4), torch.empty(6, 4)
    state = torch.get_rng_state()
    OURS[name](weight, **options, generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), state)
    TWINS[name](expected, **options, generator=torch.Generator().manual_seed(3))
    assert torch.equal(weight, expected)


@pytest.mark.skipif("erfinv" in inspect.getsource(init._no_grad_trunc_normal_), reason="this torch draws otherwise")
@pytest.mark.parametrize("options", [options for name, options in DRAWN if name == "trunc_normal_"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_what_stands_for_the_twin_on_an_older_torch_is_the_newer_twin(options, dtype):
    ours, theirs = torch.empty(2, 40, 30, dtype=dtype)
    newer_trunc_normal_(ours, **options, generator=torch.Generator().manual_seed(4))
    init.trunc_normal_(theirs, **options, generator=torch.Generator().manual_seed(4))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", [name for name in OURS if name not in ("orthogonal_", "calculate_gain")])
def test_bfloat16_and_memory_with_gaps(name):
    arguments = {"constant_": (0.3,)}.get(name, ())
    shape = (4, 3, 2) if name == "dirac_" else (8, 6)
    for make in (
        lambda: torch.empty(shape, dtype=torch.bfloat16),
        lambda: torch.empty(*shape[:-1], 2 * shape[-1])[..., ::2],
    ):
        weight, expected = make(), make()
        torch.manual_seed(1)
        OURS[name](weight, *arguments)
        torch.manual_seed(1)
        TWINS[name](expected, *arguments)
        assert torch.equal(weight, expected)


def test_orthogonal_in_bfloat16_and_in_memory_with_gaps():
    exact = orthogonal_(torch.empty(4, 2, 3), generator=torch.Generator().manual_seed(0))
    for weight in (torch.empty(4, 2, 3, dtype=torch.bfloat16), torch.empty(4, 2, 6)[..., ::2]):
        orthogonal_(weight, generator=torch.Generator().manual_seed(0))
        assert torch.equal(weight, exact.to(weight.dtype))


@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_constants(shape):
    weight = torch.full(shape, 7.0, requires_grad=True)
    assert zeros_(weight) is weight
    assert not weight.any()
    assert torch.equal(ones_(weight), torch.ones(shape))
    assert torch.equal(filling.constant_(weight, -0.25), torch.full(shape, -0.25))
    assert weight.is_leaf


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2), (0, 3)])
def test_eye(shape):
    weight = torch.full(shape, 7.0, requires_grad=True)
    assert eye_(weight) is weight
    assert torch.equal(weight, torch.eye(*shape))


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("space", [(3,), (4, 5), (2, 3, 5)])
@pytest.mark.parametrize("channels", [(6, 6), (6, 2), (12, 9)])
def test_dirac(groups, space, channels):
    weight = torch.full((*channels, *space), 7.0, requires_grad=True)
    assert dirac_(weight, groups) is weight
    assert torch.equal(weight, init.dirac_(torch.empty(*channels, *space), groups))


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_gains(name):
    assert calculate_gain(name) == init.calculate_gain(name)
    for slope in (0, 0.2, -1.5, 2):
        assert calculate_gain(name, slope) == init.calculate_gain(name, slope)


def test_fans():
    assert fans(torch.empty(7, 3)) == (3, 7)
    assert fans(torch.empty(8, 4, 3, 5)) == (60, 120) == init._calculate_fan_in_and_fan_out(torch.empty(8, 4, 3, 5))


def test_modes_in_capitals_as_the_twin_takes_them():
    weights = [torch.empty(4, 9) for _ in range(2)]
    for weight, mode in zip(weights, ("FAN_OUT", "fan_out"), strict=True):
        kaiming_normal_(weight, mode=mode, generator=torch.Generator().manual_seed(0))
    assert torch.equal(*weights)


def test_lecun_is_kaiming_for_a_linear_layer():
    for own, other in ((lecun_uniform_, init.kaiming_uniform_), (lecun_normal_, init.kaiming_normal_)):
        weight, expected = torch.empty(5, 8), torch.empty(5, 8)
        own(weight, generator=torch.Generator().manual_seed(2))
        other(expected, nonlinearity="linear", generator=torch.Generator().manual_seed(2))
        assert torch.equal(weight, expected)


@pytest.mark.parametrize("name", [name for name in OURS if name != "calculate_gain"])
def test_nothing_to_fill_and_meta_tensors(name):
    arguments = {"constant_": (0.3,)}.get(name, ())
    shape = (3, 2, 2) if name == "dirac_" else (3, 2)
    meta = torch.empty(shape, device="meta")
    assert OURS[name](meta, *arguments) is meta
    empty = torch.empty(0, *shape[1:])
    assert OURS[name](empty, *arguments) is empty


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda w: uniform_(w, 1.0, 0.5), ValueError, "uniform_: given a=1.0 and b=0.5, expected finite numbers with"),
        (lambda w: uniform_(w, math.nan), ValueError, "uniform_: given a=nan"),
        (lambda w: uniform_(w, 0, math.inf), ValueError, "uniform_: given a=0 and b=inf"),
        (lambda w: normal_(w, 0, -1), ValueError, "normal_: given mean=0 and std=-1, expected .* std >= 0"),
        (lambda w: normal_(w, math.nan), ValueError, "normal_: given mean=nan"),
        (lambda w: trunc_normal_(w, std=-1), ValueError, "trunc_normal_: given mean=0.0 and std=-1, expected .* > 0"),
        (lambda w: trunc_normal_(w, std=0), ValueError, "std > 0"),
        (lambda w: trunc_normal_(w, a=2.0), ValueError, "trunc_normal_: given a=2.0 and b=2.0, expected a < b"),
        (lambda w: trunc_normal_(w, b=math.nan), ValueError, "given a=-2.0 and b=nan"),
        (lambda w: xavier_normal_(w, -1), ValueError, "xavier: given gain=-1"),
        (lambda w: xavier_uniform_(w, math.inf), ValueError, "xavier: given gain=inf"),
        (lambda w: orthogonal_(w, math.nan), ValueError, "orthogonal_: given gain=nan"),
        (lambda w: kaiming_uniform_(w, mode="fan_on"), ValueError, r"Mode fan_on not supported.*; did you mean fan_"),
        (lambda w: kaiming_normal_(w, nonlinearity="rely"), ValueError, "Unsupported nonlinearity rely; did you mean"),
        (lambda w: calculate_gain("leaky_rlu"), ValueError, "leaky_rlu; did you mean leaky_relu?"),
        (lambda w: calculate_gain("leaky_relu", True), ValueError, "negative_slope True not a valid number"),
        (lambda w: calculate_gain("leaky_relu", "0.1"), ValueError, "negative_slope 0.1 not a valid number"),
        (lambda w: kaiming_uniform_(w[0]), ShapeError, r"fewer than 2 dimensions: given shape \(3,\)"),
        (lambda w: xavier_normal_(w[0]), ShapeError, "Fan in and fan out can not be computed"),
        (lambda w: lecun_normal_(w[0, 0]), ShapeError, r"given shape \(\)"),
        (lambda w: orthogonal_(w[0]), ShapeError, r"orthogonal_: given shape \(3,\). Only tensors with 2 or more"),
        (lambda w: eye_(w[0]), ShapeError, r"eye_: given shape \(3,\). Only tensors with 2 dimensions"),
        (lambda w: dirac_(w), ShapeError, r"dirac_: given shape \(2, 3\). Only tensors with 3, 4, or 5 dimensions"),
        (lambda w: dirac_(w[None], 2), ShapeError, r"given shape \(1, 2, 3\) and groups=2. dim 0 must be divisible"),
        (lambda w: dirac_(w[None], 0), ShapeError, "groups=0"),
    ],
)
def test_impossible_arguments_are_named(call, error, message):
    weight = torch.full((2, 3), 7.0)
    with pytest.raises(error, match=message):
        call(weight)
    assert torch.equal(weight, torch.full((2, 3), 7.0))
