import math

import numpy as np
import pytest
import torch
from ds_core import SGD
from ds_core.testing import check_optimizer
from hypothesis import given, settings
from hypothesis import strategies as st

OPTIONS = [
    {},
    {"lr": 0.1, "weight_decay": 0.5},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.5, "maximize": True},
    {"momentum": 0.9, "dampening": 1.5, "weight_decay": 0.1},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True},
    {"lr": torch.tensor(0.1, dtype=torch.float64), "momentum": 0.5},
]


def test_worked_example():
    weight = torch.tensor([[1.0, -2.0], [0.5, 4.0]], dtype=torch.float64, requires_grad=True)
    optimizer = SGD([weight], lr=0.1, momentum=0.9, weight_decay=0.01)
    weight.grad = torch.tensor([[0.5, -2.0], [0.0, 10.0]], dtype=torch.float64)
    optimizer.step()
    torch.testing.assert_close(optimizer.state[weight]["momentum_buffer"].tolist(), [[0.51, -2.02], [0.005, 10.04]])
    torch.testing.assert_close(weight.tolist(), [[0.949, -1.798], [0.4995, 2.996]])
    weight.grad = torch.tensor([[1.5, -2.0], [0.0, -10.0]], dtype=torch.float64)
    optimizer.step()
    buffer = [[1.96849, -3.83598], [0.009495, -0.93404]]
    torch.testing.assert_close(optimizer.state[weight]["momentum_buffer"].tolist(), buffer)
    torch.testing.assert_close(weight.tolist(), [[0.752151, -1.414402], [0.4985505, 3.089404]])


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("nesterov", [True, False])
def test_is_the_recurrence_of_sutskever(nesterov, flat):
    """Their velocity is -lr times our buffer; Nesterov's gradient is taken at the point looked ahead to."""
    random = np.random.default_rng(0)
    matrix, start = np.diag([1.0, 3.0, 0.2]), random.normal(size=3)  # f(x) = x A x / 2 has gradient A x
    rate, mu = 0.1, 0.8
    x, velocity = start, np.zeros(3)
    for _ in range(30):
        velocity = mu * velocity - rate * matrix @ (x + mu * velocity if nesterov else x)
        x = x + velocity
    parameters = [torch.tensor(start, requires_grad=True) for _ in range(2)]
    optimizer = SGD(parameters, lr=rate, momentum=mu, nesterov=nesterov, flat=flat)
    for _ in range(30):
        for parameter in parameters:
            parameter.grad = torch.tensor(matrix) @ parameter.detach()
        optimizer.step()
    # ours stands where the next gradient is taken, so with Nesterov one momentum step ahead of x
    expected = x + mu * velocity if nesterov else x
    np.testing.assert_allclose(parameters[1].detach(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("none_gradients", [True, False])
def test_like_torch_and_exchanging_state_half_way(options, none_gradients):
    check_optimizer(
        lambda parameters: SGD(parameters, **options),
        lambda parameters: torch.optim.SGD(parameters, **options),
        steps=20,
        none_gradients=none_gradients,
        rtol=1e-12,
    )


def test_like_torch_on_the_inputs_of_its_own_tests():
    from torch.testing._internal import common_optimizers as common

    (info,) = (info for info in common.optim_db if info.optim_cls is torch.optim.SGD)
    for case in info.optim_inputs_func(device="cpu", dtype=torch.float64):
        options = dict(case.kwargs)
        if isinstance(options.get("lr"), torch.Tensor):
            options["lr"] = options[
                "lr"
            ].double()  # in float32 the two round its product with other numbers differently
        check_optimizer(
            lambda p, o=options: SGD(p, **o), lambda p, o=options: torch.optim.SGD(p, **o), steps=20, rtol=1e-12
        )


@settings(max_examples=25, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=5),
    flat=st.booleans(),
    lr=st.floats(0, 2),
    momentum=st.sampled_from([0, 0.5, 0.9]),
    dampening=st.sampled_from([0, 0, 0.3, 1]),
    nesterov=st.booleans(),
    weight_decay=st.sampled_from([0, 0.1]),
    maximize=st.booleans(),
)
def test_like_torch_for_any_shapes_and_options(shapes, flat, nesterov, **options):
    options["nesterov"] = nesterov and options["momentum"] > 0 and options["dampening"] == 0
    check_optimizer(
        lambda parameters: SGD(parameters, flat=flat, **options),
        lambda parameters: torch.optim.SGD(parameters, foreach=False, **options),
        steps=6,
        shapes=shapes,
    )


def test_momentum_may_be_switched_on_later():
    def before_step(optimizer, step):
        optimizer.param_groups[0]["momentum"] = 0.9 if step >= 3 else 0

    check_optimizer(
        lambda p: SGD(p, lr=0.1, dampening=0.2),
        lambda p: torch.optim.SGD(p, lr=0.1, dampening=0.2),
        before_step=before_step,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"lr": math.nan}, "Invalid learning rate: nan"),
        ({"lr": torch.tensor([0.1, 0.1])}, "Tensor lr must be 1-element"),
        ({"momentum": -0.5}, "Invalid momentum value: -0.5"),
        ({"momentum": math.nan}, "Invalid momentum value: nan"),
        ({"momentum": 0.5, "dampening": math.nan}, "Invalid dampening value: nan"),
        ({"weight_decay": -1}, "Invalid weight_decay value: -1"),
        ({"weight_decay": math.nan}, "Invalid weight_decay value: nan"),
        ({"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
        ({"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "Nesterov momentum requires"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SGD([torch.zeros(2, requires_grad=True)], **options)
