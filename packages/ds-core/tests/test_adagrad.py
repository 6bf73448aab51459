import copy
import math

import pytest
import torch
from ds_core import Adagrad
from ds_core.testing import check_optimizer
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
    {"lr": torch.tensor(0.1, dtype=torch.float64), "lr_decay": 0.3},
    {"weight_decay": 0.1, "maximize": True},
    *grid(
        lr_decay=[0, 0.3],
        weight_decay=[0, 0.1],
        initial_accumulator_value=[0, 0.5],
        eps=[1e-10, 0.01],
    ),
]


def test_worked_example():
    close(GRADIENTS[1], [[1.5, -2.0], [0.0, -10.0]])
    (first, state), (second, last) = example(lambda p: Adagrad(p, lr=0.1, lr_decay=0.25))
    close(state["sum"], [[0.25, 4.0], [0.0, 100.0]])
    close(first, [[0.9, -1.9], [0.5, 3.9]])
    close(last["sum"], [[2.5, 8.0], [0.0, 200.0]])
    close(0.1 / 1.25, 0.08)
    close(second, [[0.8241, -1.8434], [0.5, 3.9566]])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_like_torch_and_exchanging_state_half_way(options):
    like_torch(Adagrad, torch.optim.Adagrad, options)


@settings(max_examples=25, deadline=None)
@given(
    shapes=any_shapes,
    options=st.fixed_dictionaries(
        {
            "flat": st.booleans(),
            "lr": st.floats(0, 10),
            "lr_decay": st.floats(0, 2),
            "weight_decay": st.sampled_from([0, 0.01, 1.0]),
            "initial_accumulator_value": st.floats(0, 2),
            "eps": st.floats(1e-10, 1),
            "maximize": st.booleans(),
        }
    ),
)
def test_like_torch_for_any_shapes_and_options(shapes, options):
    like_torch(Adagrad, torch.optim.Adagrad, options, steps=6, shapes=shapes)


def test_compiled_steps_are_the_eager_ones():
    like_eager_when_compiled(
        lambda p: Adagrad(p, lr=0.1, lr_decay=0.2, weight_decay=0.1, initial_accumulator_value=0.3, maximize=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes_lose_no_more_than_torch_does(dtype):
    lose_no_more_than_torch(
        lambda p, **flat: Adagrad(p, lr=0.1, eps=1e-4, **flat),
        lambda p: torch.optim.Adagrad(p, lr=0.1, eps=1e-4),
        dtype,
    )


def test_the_state_is_there_from_the_start_as_torchs_is():
    def make(kind):
        parameters = [torch.ones(2, 3, requires_grad=True), torch.ones((), requires_grad=True)]
        return kind(parameters, initial_accumulator_value=0.5)

    ours, theirs = make(Adagrad), make(torch.optim.Adagrad)
    torch.testing.assert_close(ours.state_dict()["state"], theirs.state_dict()["state"], rtol=0, atol=0)
    assert ours.state_dict()["state"][0]["sum"].tolist() == [[0.5] * 3] * 2
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    ours.load_state_dict(theirs.state_dict())


def test_a_group_may_have_a_start_of_its_own():
    """torch.optim takes the constructor's for all groups."""
    a, b, c = (torch.ones(1, requires_grad=True) for _ in range(3))
    ours = Adagrad([{"params": [a]}, {"params": [b], "initial_accumulator_value": 0.5}], lr=0.1)
    ours.add_param_group({"params": [c], "initial_accumulator_value": 3.0})
    for parameter in (a, b, c):
        parameter.grad = torch.ones(1)
    ours.step()
    assert [ours.state[parameter]["sum"].item() for parameter in (a, b, c)] == [1.0, 1.5, 4.0]


def test_groups_of_several_options():
    def groups(parameters):
        return [
            {"params": parameters[:2], "lr": 0.5, "weight_decay": 0.1},
            {"params": parameters[2:], "lr_decay": 0.5, "eps": 0.1, "maximize": True},
        ]

    check_optimizer(lambda p: Adagrad(groups(p)), lambda p: torch.optim.Adagrad(groups(p)), rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"lr": math.nan}, "Invalid learning rate: nan"),
        ({"lr": torch.tensor([0.1, 0.1])}, "Tensor lr must be 1-element"),
        ({"lr_decay": -0.5}, "Invalid lr_decay value: -0.5"),
        ({"lr_decay": math.nan}, "Invalid lr_decay value: nan"),
        ({"weight_decay": -1}, "Invalid weight_decay value: -1"),
        ({"weight_decay": math.nan}, "Invalid weight_decay value: nan"),
        ({"initial_accumulator_value": -0.1}, "Invalid initial_accumulator_value value: -0.1"),
        ({"initial_accumulator_value": math.nan}, "Invalid initial_accumulator_value value: nan"),
        ({"eps": -1e-8}, "Invalid epsilon value: -1e-08"),
        ({"eps": math.nan}, "Invalid epsilon value: nan"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Adagrad([torch.zeros(2, requires_grad=True)], **options)
    with pytest.raises(ValueError, match=message):  # in a group of its own too
        Adagrad([{"params": [torch.zeros(2, requires_grad=True)], **options}])


def test_no_parameters_and_complex_ones_are_refused():
    with pytest.raises(ValueError, match="empty parameter list"):
        Adagrad([])
    with pytest.raises(ValueError, match="complex parameters are not supported"):
        Adagrad([torch.zeros(2, dtype=torch.complex64, requires_grad=True)])
