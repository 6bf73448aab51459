import math

import pytest
import torch
from ds_core import RMSprop
from hypothesis import assume, given, settings
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
        alpha=[0.9, 0.5],
        eps=[1e-8, 0.1],
        weight_decay=[0, 0.1],
        momentum=[0, 0.9],
        centered=[False, True],
    ),
]


def test_worked_example():
    close(GRADIENTS[1], [[1.5, -2.0], [0.0, -10.0]])
    (first, state), (second, last) = example(lambda p: RMSprop(p, lr=0.1, alpha=0.9, momentum=0.5))
    close(state["square_avg"], [[0.025, 0.4], [0.0, 10.0]])
    close(first, [[0.6838, -1.6838], [0.5, 3.6838]])
    close(last["square_avg"], [[0.2475, 0.76], [0.0, 19.0]])
    close(last["momentum_buffer"], [[4.5963, -3.8753], [0.0, -0.713]])
    close(second, [[0.2241, -1.2962], [0.5, 3.7551]])
    _, (_, centered) = example(lambda p: RMSprop(p, lr=0.1, alpha=0.9, centered=True))
    close(centered["grad_avg"], [[0.195, -0.38], [0.0, -0.1]])
    close(math.sqrt(0.2475 - 0.195**2), 0.4577)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_like_torch_and_exchanging_state_half_way(options):
    like_torch(RMSprop, torch.optim.RMSprop, options)


@settings(max_examples=25, deadline=None)
@given(
    shapes=any_shapes,
    options=st.fixed_dictionaries(
        {
            "flat": st.booleans(),
            "lr": st.floats(0, 10),
            "alpha": st.sampled_from([0.0, 0.5, 0.99, 1.0]),
            "eps": st.floats(1e-3, 1),
            "momentum": st.sampled_from([0, 0.5, 0.9]),
            "centered": st.booleans(),
            "weight_decay": st.sampled_from([0, 0.01, 1.0]),
            "maximize": st.booleans(),
        }
    ),
)
def test_like_torch_for_any_shapes_and_options(shapes, options):
    # with alpha = 0 the variance g^2 - g g is zero but for rounding, whose root is no number to compare
    assume(options["alpha"] != 0 or not options["centered"])
    like_torch(RMSprop, torch.optim.RMSprop, options, steps=6, shapes=shapes)


@pytest.mark.parametrize(
    "options", [{}, {"alpha": 0.9, "momentum": 0.9, "centered": True, "weight_decay": 0.1, "maximize": True}]
)
def test_compiled_steps_are_the_eager_ones(options):
    like_eager_when_compiled(lambda p: RMSprop(p, lr=0.1, **options))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes_lose_no_more_than_torch_does(dtype):
    options = {"lr": 0.01, "eps": 1e-2, "momentum": 0.5}
    lose_no_more_than_torch(
        lambda p, **flat: RMSprop(p, **options, **flat), lambda p: torch.optim.RMSprop(p, **options), dtype
    )


def test_momentum_and_centering_may_be_switched_on_later():
    """PyTorch then raises a KeyError; here what is lacking starts from zero."""
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    optimizer = RMSprop([weight], lr=0.1, alpha=0.5)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    optimizer.param_groups[0].update(momentum=0.5, centered=True)
    before = weight.detach().clone()
    optimizer.step()
    square = 0.5 * 0.5 + 0.5
    torch.testing.assert_close(weight.detach(), before - 0.1 / math.sqrt(square - 0.5**2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"lr": math.nan}, "Invalid learning rate: nan"),
        ({"lr": torch.tensor([0.1, 0.1])}, "Tensor lr must be 1-element"),
        ({"alpha": -0.1}, "Invalid alpha value: -0.1"),
        ({"alpha": math.nan}, "Invalid alpha value: nan"),
        ({"eps": -1e-8}, "Invalid epsilon value: -1e-08"),
        ({"eps": math.nan}, "Invalid epsilon value: nan"),
        ({"momentum": -0.5}, "Invalid momentum value: -0.5"),
        ({"momentum": math.nan}, "Invalid momentum value: nan"),
        ({"weight_decay": -1}, "Invalid weight_decay value: -1"),
        ({"weight_decay": math.nan}, "Invalid weight_decay value: nan"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        RMSprop([torch.zeros(2, requires_grad=True)], **options)
    with pytest.raises(ValueError, match=message):  # in a group of its own too
        RMSprop([{"params": [torch.zeros(2, requires_grad=True)], **options}])


def test_no_parameters_and_complex_ones_are_refused():
    with pytest.raises(ValueError, match="empty parameter list"):
        RMSprop([])
    with pytest.raises(ValueError, match="complex parameters are not supported"):
        RMSprop([torch.zeros(2, dtype=torch.complex64, requires_grad=True)])
