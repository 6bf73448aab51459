import math
import pickle

import pytest
import torch
from ds_core import Adam, AdamW
from ds_core.testing import check_optimizer
from hypothesis import given, settings
from hypothesis import strategies as st

TWINS = {"Adam": (Adam, torch.optim.Adam), "AdamW": (AdamW, torch.optim.AdamW)}

OPTIONS = [
    {},
    {"lr": 0.01},
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "maximize": True},
    {"weight_decay": 0.1, "amsgrad": True},
    {"betas": (0.5, 0.7), "eps": 0.1, "amsgrad": True, "maximize": True},
    {"betas": (0.0, 0.0), "eps": 1e-3},
    {"lr": torch.tensor(0.01, dtype=torch.float64), "weight_decay": 0.1},
]


class NumbersForBetas(torch.optim.Adam):
    """For a torch whose Adam takes tensors and cannot step with them."""

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group["betas"] = tuple(float(beta) for beta in group["betas"])


def test_worked_example():
    weight = torch.tensor([[1.0, -2.0], [0.5, 4.0]], dtype=torch.float64, requires_grad=True)
    optimizer = Adam([weight], lr=0.1, betas=(0.9, 0.999))
    for gradient in ([[0.5, -2.0], [0.0, 10.0]], [[1.5, -2.0], [0.0, -10.0]]):
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        if optimizer.state[weight]["step"] == 1:
            first = weight.detach().clone()
            means = [optimizer.state[weight][name].clone() for name in ("exp_avg", "exp_avg_sq")]
    torch.testing.assert_close(means[0].tolist(), [[0.05, -0.2], [0.0, 1.0]])
    torch.testing.assert_close(means[1].tolist(), [[0.00025, 0.004], [0.0, 0.1]])
    torch.testing.assert_close(first.tolist(), [[0.9, -1.9], [0.5, 3.9]], rtol=0, atol=1e-8)
    torch.testing.assert_close(optimizer.state[weight]["exp_avg"].tolist(), [[0.195, -0.38], [0.0, -0.1]])
    torch.testing.assert_close(optimizer.state[weight]["exp_avg_sq"].tolist(), [[0.00249975, 0.007996], [0.0, 0.1999]])
    assert weight[0, 0].item() == pytest.approx(0.80822, abs=5e-6)
    assert weight[0, 1].item() == pytest.approx(-1.8, abs=1e-7)
    assert weight[1].tolist() == pytest.approx([0.5, 3.90526], abs=5e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("none_gradients", [True, False])
def test_like_torch_and_exchanging_state_half_way(name, options, none_gradients):
    ours, theirs = TWINS[name]
    check_optimizer(
        lambda parameters: ours(parameters, **options),
        lambda parameters: theirs(parameters, **options),
        steps=20,
        none_gradients=none_gradients,
        rtol=1e-12,
    )


@pytest.mark.parametrize("name", TWINS)
def test_like_torch_on_the_inputs_of_its_own_tests(name):
    from torch.testing._internal import common_optimizers as common

    ours, theirs = TWINS[name]
    (info,) = (info for info in common.optim_db if info.optim_cls is theirs)
    for case in info.optim_inputs_func(device="cpu", dtype=torch.float64):
        options = {key: value for key, value in case.kwargs.items() if key not in ("foreach", "fused", "capturable")}
        check_optimizer(lambda p, o=options: ours(p, **o), lambda p, o=options: theirs(p, **o), steps=20, rtol=1e-12)


shapes = st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=5)
betas = st.sampled_from([0.0, 0.3, 0.9, 0.95, 0.999])


@settings(max_examples=25, deadline=None)
@given(
    shapes=shapes,
    flat=st.booleans(),
    name=st.sampled_from(sorted(TWINS)),
    options=st.fixed_dictionaries(
        {
            "lr": st.floats(0, 10),
            "betas": st.tuples(betas, betas),
            "eps": st.floats(1e-8, 1),
            "weight_decay": st.sampled_from([0, 0.01, 1.0]),
            "amsgrad": st.booleans(),
            "maximize": st.booleans(),
        }
    ),
)
def test_like_torch_for_any_shapes_and_options(shapes, flat, name, options):
    ours, theirs = TWINS[name]
    check_optimizer(
        lambda parameters: ours(parameters, flat=flat, **options),
        lambda parameters: theirs(parameters, foreach=False, **options),
        steps=6,
        shapes=shapes,
    )


def test_decoupled_decay_of_adam_is_adamw():
    check_optimizer(
        lambda p: Adam(p, weight_decay=0.1, decoupled_weight_decay=True),
        lambda p: torch.optim.AdamW(p, weight_decay=0.1),
    )


@pytest.mark.parametrize("lr", [0.0, torch.tensor(0.0)])
@pytest.mark.parametrize("flat", [True, False])
def test_a_learning_rate_of_zero_moves_nothing_and_divides_by_nothing(lr, flat):
    parameters = [torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)]
    optimizer = Adam(parameters, lr=lr, flat=flat)
    for _ in range(3):
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    assert all(parameter.tolist() == [1.0] * len(parameter) for parameter in parameters)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("flat", [True, False])
def test_other_dtypes_lose_no_more_than_torch_does(dtype, flat):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(50, generator=generator)
    gradients = [torch.randn(50, generator=generator) for _ in range(20)]

    def walk(dtype, make):
        parameters = [start.to(dtype, copy=True).requires_grad_() for _ in range(2)]
        optimizer = make(parameters)
        for gradient in gradients:
            for parameter in parameters:
                parameter.grad = gradient.to(dtype)
            optimizer.step()
        assert optimizer.state[parameters[1]]["exp_avg"].dtype == dtype
        assert optimizer.state[parameters[1]]["step"].dtype == torch.float32
        return parameters[1].detach().double()

    exact = walk(torch.float64, lambda p: torch.optim.AdamW(p, lr=0.05, eps=1e-4))
    ours = walk(dtype, lambda p: AdamW(p, lr=0.05, eps=1e-4, flat=flat))
    theirs = walk(dtype, lambda p: torch.optim.AdamW(p, lr=0.05, eps=1e-4))
    assert (ours - exact).abs().max() <= 2 * (theirs - exact).abs().max()
    assert (ours - exact).abs().median() <= 2 * (theirs - exact).abs().median()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"lr": math.nan}, "Invalid learning rate: nan"),
        ({"lr": torch.tensor([0.001, 0.001])}, "Tensor lr must be 1-element"),
        ({"eps": -1e-8}, "Invalid epsilon value: -1e-08"),
        ({"eps": math.nan}, "Invalid epsilon value: nan"),
        ({"betas": (1.0, 0.0)}, "Invalid beta parameter at index 0: 1.0"),
        ({"betas": (0.9, math.nan)}, "Invalid beta parameter at index 1: nan"),
        ({"betas": (0.9, torch.tensor(0.99))}, "betas must be either both floats or both Tensors"),
        ({"betas": (torch.tensor([0.9, 0.9]), torch.tensor(0.99))}, r"Tensor betas\[0\] must be 1-element"),
        ({"weight_decay": -1}, "Invalid weight_decay value: -1"),
        ({"weight_decay": math.nan}, "Invalid weight_decay value: nan"),
    ],
)
@pytest.mark.parametrize("optimizer", [Adam, AdamW])
def test_impossible_options_are_named(optimizer, options, message):
    with pytest.raises(ValueError, match=message):
        optimizer([torch.zeros(2, requires_grad=True)], **options)
    with pytest.raises(ValueError, match=message):  # in a group of its own too
        optimizer([{"params": [torch.zeros(2, requires_grad=True)], **options}])


def test_betas_may_be_tensors():
    options = {"lr": 0.1, "betas": (torch.tensor([0.5], dtype=torch.float64), torch.tensor(0.9, dtype=torch.float64))}
    parameter = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    parameter.grad = torch.ones_like(parameter)
    try:
        torch.optim.Adam([parameter], **options).step()
        twin = torch.optim.Adam
    except TypeError:
        twin = NumbersForBetas
    check_optimizer(lambda p: Adam(p, **options), lambda p: twin(p, lr=0.1, betas=(0.5, 0.9)))


def test_adamw_stays_adamw_when_it_takes_the_state_of_adam():
    parameter = torch.zeros(2, requires_grad=True)
    optimizer = AdamW([parameter])
    optimizer.load_state_dict(torch.optim.Adam([parameter]).state_dict())
    assert optimizer.param_groups[0]["decoupled_weight_decay"] is True
    assert pickle.loads(pickle.dumps(optimizer)).param_groups[0]["decoupled_weight_decay"] is True
