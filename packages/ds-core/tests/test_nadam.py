import math

import pytest
import torch
from ds_core import NAdam
from ds_core.optimizers.nadam import nadam_momentum
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_checks import (
    GRADIENTS,
    TorchNAdam,
    any_shapes,
    close,
    example,
    grid,
    like_eager_when_compiled,
    like_torch,
    lose_no_more_than_torch,
    some_betas,
)

OPTIONS = [
    {"lr": torch.tensor(0.1, dtype=torch.float64)},
    {"weight_decay": 0.1, "maximize": True},
    *grid(
        betas=[(0.9, 0.999), (0.0, 0.3)],
        eps=[1e-8, 0.1],
        weight_decay=[0, 0.1],
        momentum_decay=[4e-3, 2.0],
        decoupled_weight_decay=[False, True],
    ),
]


def test_worked_example():
    close(GRADIENTS[1], [[1.5, -2.0], [0.0, -10.0]])
    (first, state), (second, last) = example(lambda p: NAdam(p, lr=0.1, betas=(0.9, 0.999)))
    close([nadam_momentum(0.9, 0.004, t) for t in (1, 2, 3)], [0.4501, 0.4501, 0.4502])
    close([state["mu_product"], last["mu_product"]], [0.4501, 0.2026])
    close(state["exp_avg"], [[0.05, -0.2], [0.0, 1.0]])
    close(first, [[0.8944, -1.8944], [0.5, 3.8944]])
    close(last["exp_avg"], [[0.195, -0.38], [0.0, -0.1]])
    close(last["exp_avg_sq"], [[0.0025, 0.008], [0.0, 0.1999]])
    close(second, [[0.7932, -1.816], [0.5, 3.9638]])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_like_torch_and_exchanging_state_half_way(options):
    like_torch(NAdam, TorchNAdam, options)


@settings(max_examples=25, deadline=None)
@given(
    shapes=any_shapes,
    options=st.fixed_dictionaries(
        {
            "flat": st.booleans(),
            "lr": st.floats(0, 10),
            "betas": some_betas,
            "eps": st.floats(1e-8, 1),
            "momentum_decay": st.sampled_from([0, 0.004, 1.0]),
            "decoupled_weight_decay": st.booleans(),
            "weight_decay": st.sampled_from([0, 0.01, 1.0]),
            "maximize": st.booleans(),
        }
    ),
)
def test_like_torch_for_any_shapes_and_options(shapes, options):
    like_torch(NAdam, TorchNAdam, options, steps=6, shapes=shapes)


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.1, "maximize": True},
        {"betas": (0.8, 0.9), "momentum_decay": 0.5, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
)
def test_compiled_steps_are_the_eager_ones(options):
    like_eager_when_compiled(lambda p: NAdam(p, lr=0.1, **options))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes_lose_no_more_than_torch_does(dtype):
    options = {"lr": 0.05, "eps": 1e-4}
    lose_no_more_than_torch(
        lambda p, **flat: NAdam(p, **options, **flat), lambda p: torch.optim.NAdam(p, **options), dtype
    )


def test_pytorchs_own_loading_rounds_the_product_otherwise():
    """So that states are exchanged to seven digits only; what `TorchNAdam` mends."""
    like_torch(NAdam, torch.optim.NAdam, {}, rtol=1e-7)


def test_the_product_of_momentums_is_kept_as_torch_keeps_it():
    parameters = [torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)]
    ours, theirs = NAdam(parameters), torch.optim.NAdam(parameters)
    for step in range(5):
        for index, parameter in enumerate(parameters):  # the second takes part in every other step only
            parameter.grad = None if index and step % 2 else torch.ones_like(parameter)
        ours.step()
        theirs.step()
    for parameter, steps in zip(parameters, (5.0, 3.0), strict=True):
        (own, its) = (optimizer.state[parameter] for optimizer in (ours, theirs))
        assert own["step"].item() == its["step"].item() == steps
        assert own["mu_product"].dtype == torch.float32
        assert own["mu_product"].item() == its["mu_product"].item()


def test_a_product_that_is_a_plain_number_is_taken():
    """As old versions of torch wrote it."""
    parameter = torch.ones(2, requires_grad=True)
    optimizer = NAdam([parameter])
    parameter.grad = torch.ones(2)
    optimizer.step()
    state = optimizer.state_dict()
    state["state"][0].update(step=1, mu_product=0.5)
    optimizer.load_state_dict(state)
    loaded = optimizer.state[parameter]
    assert (loaded["mu_product"].item(), loaded["mu_product"].dtype) == (0.5, torch.float32)
    optimizer.step()
    assert loaded["mu_product"].item() == pytest.approx(0.5 * nadam_momentum(0.9, 0.004, 2))


def test_groups_and_copies_keep_products_apart():
    parameters = [torch.ones(2, requires_grad=True) for _ in range(4)]
    optimizer = NAdam([{"params": parameters[:2]}, {"params": parameters[2:], "betas": (0.5, 0.9)}])
    for _ in range(3):
        for parameter in parameters:
            parameter.grad = torch.ones(2)
        optimizer.step()
    products = [optimizer.state[parameter]["mu_product"].item() for parameter in parameters]
    assert products[0] == products[1] == pytest.approx(math.prod(nadam_momentum(0.9, 0.004, t) for t in (1, 2, 3)))
    assert products[2] == products[3] == pytest.approx(math.prod(nadam_momentum(0.5, 0.004, t) for t in (1, 2, 3)))
    saved = optimizer.state_dict()["state"]
    optimizer.step()
    assert [saved[index]["mu_product"].item() for index in range(4)] == products


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"lr": math.nan}, "Invalid learning rate: nan"),
        ({"lr": torch.tensor([0.1, 0.1])}, "Tensor lr must be 1-element"),
        ({"betas": (1.0, 0.0)}, "Invalid beta parameter at index 0: 1.0"),
        ({"betas": (-0.1, 0.5)}, "Invalid beta parameter at index 0: -0.1"),
        ({"betas": (0.9, math.nan)}, "Invalid beta parameter at index 1: nan"),
        ({"eps": -1e-8}, "Invalid epsilon value: -1e-08"),
        ({"eps": math.nan}, "Invalid epsilon value: nan"),
        ({"momentum_decay": -0.2}, "Invalid momentum_decay value: -0.2"),
        ({"momentum_decay": math.nan}, "Invalid momentum_decay value: nan"),
        ({"weight_decay": -1}, "Invalid weight_decay value: -1"),
        ({"weight_decay": math.nan}, "Invalid weight_decay value: nan"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        NAdam([torch.zeros(2, requires_grad=True)], **options)
    with pytest.raises(ValueError, match=message):  # in a group of its own too
        NAdam([{"params": [torch.zeros(2, requires_grad=True)], **options}])


def test_no_parameters_and_complex_ones_are_refused():
    with pytest.raises(ValueError, match="empty parameter list"):
        NAdam([])
    with pytest.raises(ValueError, match="complex parameters are not supported"):
        NAdam([torch.zeros(2, dtype=torch.complex64, requires_grad=True)])
