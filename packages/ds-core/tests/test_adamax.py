import math

import pytest
import torch
from ds_core import Adamax
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_checks import (
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
        betas=[(0.9, 0.999), (0.5, 0.3), (0.0, 0.0)],
        eps=[1e-8, 0.1],
        weight_decay=[0, 0.1],
    ),
]


def test_worked_example():
    (first, state), (second, last) = example(lambda p: Adamax(p, lr=0.1, betas=(0.9, 0.5)))
    close(state["exp_avg"], [[0.05, -0.2], [0.0, 1.0]])
    close(state["exp_inf"], [[0.5, 2.0], [0.0, 10.0]])
    close(first, [[0.9, -1.9], [0.5, 3.9]])
    close(last["exp_avg"], [[0.195, -0.38], [0.0, -0.1]])
    close(last["exp_inf"], [[1.5, 2.0], [0.0, 10.0]])
    close(0.1 / (1 - 0.9**2), 0.5263)
    close(second, [[0.8316, -1.8], [0.5, 3.9053]])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_like_torch_and_exchanging_state_half_way(options):
    like_torch(Adamax, torch.optim.Adamax, options)


@settings(max_examples=25, deadline=None)
@given(
    shapes=any_shapes,
    options=st.fixed_dictionaries(
        {
            "flat": st.booleans(),
            "lr": st.floats(0, 10),
            "betas": some_betas,
            "eps": st.floats(1e-8, 1),
            "weight_decay": st.sampled_from([0, 0.01, 1.0]),
            "maximize": st.booleans(),
        }
    ),
)
def test_like_torch_for_any_shapes_and_options(shapes, options):
    like_torch(Adamax, torch.optim.Adamax, options, steps=6, shapes=shapes)


def test_compiled_steps_are_the_eager_ones():
    like_eager_when_compiled(lambda p: Adamax(p, lr=0.1, betas=(0.8, 0.7), weight_decay=0.1, maximize=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes_lose_no_more_than_torch_does(dtype):
    options = {"lr": 0.05, "eps": 1e-4}
    lose_no_more_than_torch(
        lambda p, **flat: Adamax(p, **options, **flat), lambda p: torch.optim.Adamax(p, **options), dtype
    )


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
        Adamax([torch.zeros(2, requires_grad=True)], **options)
    with pytest.raises(ValueError, match=message):  # in a group of its own too
        Adamax([{"params": [torch.zeros(2, requires_grad=True)], **options}])


def test_no_parameters_and_complex_ones_are_refused():
    with pytest.raises(ValueError, match="empty parameter list"):
        Adamax([])
    with pytest.raises(ValueError, match="complex parameters are not supported"):
        Adamax([torch.zeros(2, dtype=torch.complex64, requires_grad=True)])
