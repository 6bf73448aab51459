import math

import pytest
import torch
from ds_core import Adadelta
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
)

OPTIONS = [
    {"lr": torch.tensor(0.1, dtype=torch.float64)},
    {"weight_decay": 0.1, "maximize": True},
    *grid(
        rho=[0.9, 0.3],
        eps=[1e-6, 0.1],
        weight_decay=[0, 0.1],
    ),
]


def test_worked_example():
    close(GRADIENTS[1], [[1.5, -2.0], [0.0, -10.0]])
    (first, state), (second, last) = example(lambda p: Adadelta(p, rho=0.5, eps=0.01))
    close(state["square_avg"], [[0.125, 2.0], [0.0, 50.0]])
    close(state["acc_delta"], [[0.0093, 0.01], [0.0, 0.01]])
    close(first, [[0.8639, -1.8589], [0.5, 3.8586]])
    close(last["square_avg"], [[1.1875, 3.0], [0.0, 75.0]])
    close(last["acc_delta"], [[0.0227, 0.0182], [0.0, 0.0183]])
    close(second, [[0.6737, -1.6961], [0.5, 4.0219]])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_like_torch_and_exchanging_state_half_way(options):
    like_torch(Adadelta, torch.optim.Adadelta, options)


@settings(max_examples=25, deadline=None)
@given(
    shapes=any_shapes,
    options=st.fixed_dictionaries(
        {
            "flat": st.booleans(),
            "lr": st.floats(0, 10),
            "rho": st.sampled_from([0.0, 0.5, 0.9, 1.0]),
            "eps": st.floats(1e-8, 1),
            "weight_decay": st.sampled_from([0, 0.01, 1.0]),
            "maximize": st.booleans(),
        }
    ),
)
def test_like_torch_for_any_shapes_and_options(shapes, options):
    like_torch(Adadelta, torch.optim.Adadelta, options, steps=6, shapes=shapes)


def test_compiled_steps_are_the_eager_ones():
    like_eager_when_compiled(lambda p: Adadelta(p, rho=0.7, eps=1e-3, weight_decay=0.1, maximize=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes_lose_no_more_than_torch_does(dtype):
    options = {"rho": 0.5, "eps": 1e-3}
    lose_no_more_than_torch(
        lambda p, **flat: Adadelta(p, **options, **flat), lambda p: torch.optim.Adadelta(p, **options), dtype
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"lr": math.nan}, "Invalid learning rate: nan"),
        ({"lr": torch.tensor([0.1, 0.1])}, "Tensor lr must be 1-element"),
        ({"rho": -0.1}, "Invalid rho value: -0.1"),
        ({"rho": 1.1}, "Invalid rho value: 1.1"),
        ({"rho": math.nan}, "Invalid rho value: nan"),
        ({"eps": -1e-8}, "Invalid epsilon value: -1e-08"),
        ({"eps": math.nan}, "Invalid epsilon value: nan"),
        ({"weight_decay": -1}, "Invalid weight_decay value: -1"),
        ({"weight_decay": math.nan}, "Invalid weight_decay value: nan"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Adadelta([torch.zeros(2, requires_grad=True)], **options)
    with pytest.raises(ValueError, match=message):  # in a group of its own too
        Adadelta([{"params": [torch.zeros(2, requires_grad=True)], **options}])


def test_no_parameters_and_complex_ones_are_refused():
    with pytest.raises(ValueError, match="empty parameter list"):
        Adadelta([])
    with pytest.raises(ValueError, match="complex parameters are not supported"):
        Adadelta([torch.zeros(2, dtype=torch.complex64, requires_grad=True)])
