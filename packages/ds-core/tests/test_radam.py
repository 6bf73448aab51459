import math

import pytest
import torch
from ds_core import RAdam
from ds_core.optimizers.radam import radam_direction, radam_step_sizes
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_checks import (
    GRADIENTS,
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
        betas=[(0.9, 0.999), (0.0, 0.9), (0.3, 0.0)],
        eps=[1e-8, 0.1],
        weight_decay=[0, 0.1],
        decoupled_weight_decay=[False, True],
    ),
]


def test_worked_example():
    walk = list(example(lambda p: RAdam(p, lr=0.01, betas=(0.9, 0.999)), gradients=[GRADIENTS[0]] * 6))
    close(walk[0][1]["exp_avg"], [[0.05, -0.2], [0.0, 1.0]])
    close(walk[0][0], [[0.995, -1.98], [0.5, 3.9]])
    close(walk[4][0], [[0.975, -1.9], [0.5, 3.5]])
    lengths = [1999 - 2 * t * 0.999**t / (1 - 0.999**t) for t in (5, 6)]
    close(lengths, [4.996, 5.9942])
    close(math.sqrt((5.9942 - 4) * (5.9942 - 2) * 1999 / ((1999 - 4) * (1999 - 2) * 5.9942)), 0.0258)
    close(walk[5][0], [[0.9747, -1.8997], [0.5, 3.4997]])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_like_torch_and_exchanging_state_half_way(options):
    like_torch(RAdam, torch.optim.RAdam, options)


@settings(max_examples=25, deadline=None)
@given(
    shapes=any_shapes,
    options=st.fixed_dictionaries(
        {
            "flat": st.booleans(),
            "lr": st.floats(0, 10),
            "betas": some_betas,
            "eps": st.floats(1e-8, 1),
            "decoupled_weight_decay": st.booleans(),
            "weight_decay": st.sampled_from([0, 0.01, 1.0]),
            "maximize": st.booleans(),
        }
    ),
)
def test_like_torch_for_any_shapes_and_options(shapes, options):
    like_torch(RAdam, torch.optim.RAdam, options, steps=10, shapes=shapes)


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.1, "maximize": True},
        {"betas": (0.8, 0.9), "weight_decay": 0.1, "decoupled_weight_decay": True},
        {"betas": (0.9, 0.6)},
    ],
)
def test_compiled_steps_are_the_eager_ones(options):
    like_eager_when_compiled(lambda p: RAdam(p, lr=0.1, **options))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes_lose_no_more_than_torch_does(dtype):
    options = {"lr": 0.05, "eps": 1e-4}
    lose_no_more_than_torch(
        lambda p, **flat: RAdam(p, **options, **flat), lambda p: torch.optim.RAdam(p, **options), dtype
    )


def test_a_squared_mean_that_overflows_spoils_no_step_before_it_is_used():
    ours, theirs = ([torch.ones(2, requires_grad=True) for _ in range(2)] for _ in range(2))
    pairs = ((ours, RAdam(ours, lr=1e-22)), (theirs, torch.optim.RAdam(theirs, lr=1e-22)))
    for _ in range(3):
        for parameters, optimizer in pairs:
            for parameter in parameters:
                parameter.grad = torch.full((2,), 1e22)
            optimizer.step()
        torch.testing.assert_close(ours, theirs)
    assert torch.isinf(pairs[0][1].state[ours[0]]["exp_avg_sq"]).all()
    step = torch.tensor(3.0, dtype=torch.float64)  # as in a compiled step
    size, rectified = radam_step_sizes(1e-22, 0.9, 0.999, step)
    mean, squares = torch.tensor([1e21]), torch.tensor([math.inf])
    numerator, denominator = radam_direction(torch.tensor([1e21]), mean, squares, rectified, 0.9, 0.999, 1e-8)
    assert (numerator.item(), denominator.item()) == (pytest.approx(1e21), 1.0)
    assert size.item() == pytest.approx(1e-22 / (1 - 0.9**3))


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
        ({"weight_decay": -1}, "Invalid weight_decay value: -1"),
        ({"weight_decay": math.nan}, "Invalid weight_decay value: nan"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        RAdam([torch.zeros(2, requires_grad=True)], **options)
    with pytest.raises(ValueError, match=message):  # in a group of its own too
        RAdam([{"params": [torch.zeros(2, requires_grad=True)], **options}])


def test_no_parameters_and_complex_ones_are_refused():
    with pytest.raises(ValueError, match="empty parameter list"):
        RAdam([])
    with pytest.raises(ValueError, match="complex parameters are not supported"):
        RAdam([torch.zeros(2, dtype=torch.complex64, requires_grad=True)])
