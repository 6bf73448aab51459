"""The plain form of every optimizer, `update`, against its fast form, with all options; and the switch between them."""

import importlib
import pkgutil

import ds_core.optimizers
import pytest
import torch
from ds_core import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    FlatOptimizer,
    Lion,
    NAdam,
    RAdam,
    RMSprop,
    plain,
)
from ds_core.testing import CheckFailed, check_plain_optimizer
from optimizer_checks import like_eager_when_compiled

DECAY = {"weight_decay": 0.1}
UPHILL = {"weight_decay": 0.1, "maximize": True}
DECOUPLED = {"weight_decay": 0.1, "decoupled_weight_decay": True}
RATE = {"lr": torch.tensor(0.05, dtype=torch.float64)}

CASES = {
    SGD: [
        {"lr": 0.1},
        {"lr": 0.1, **UPHILL},
        {"lr": 0.1, "momentum": 0.9, **DECAY},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "maximize": True},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, **UPHILL},
        {**RATE, "momentum": 0.5, "dampening": 1.5},
    ],
    Adam: [
        {"flat": False},
        {"lr": 0.1, **DECAY, "amsgrad": True},
        {"lr": 0.1, **UPHILL, "amsgrad": True, "betas": (0.5, 0.7), "eps": 0.1},
        {**RATE, **DECOUPLED, "betas": (0.0, 0.0), "eps": 1e-3},
    ],
    AdamW: [
        {"flat": False},
        {"lr": 0.1, **DECAY},
        {"lr": 0.1, **UPHILL, "amsgrad": True},
        {**RATE, "betas": (0.8, 0.9)},
    ],
    Adagrad: [
        {"lr": 0.1, "eps": 1e-10},
        {"lr": 0.1, "lr_decay": 0.3, **DECAY, "initial_accumulator_value": 0.5},
        {**RATE, "lr_decay": 0.1, **UPHILL, "eps": 0.01},
    ],
    Adadelta: [{}, {"rho": 0.5, "eps": 0.1, **UPHILL}, {**RATE, "rho": 0.3, **DECAY}, {"rho": 0.0}],
    RMSprop: [
        {"alpha": 0.9},
        {"alpha": 0.9, "momentum": 0.9, **DECAY},
        {"alpha": 0.5, "centered": True, "eps": 0.1},
        {**RATE, "alpha": 0.9, "momentum": 0.5, "centered": True, "eps": 1e-4, **UPHILL},
    ],
    Adamax: [{"eps": 1e-30}, {"lr": 0.1, "betas": (0.9, 0.5), **UPHILL}, {**RATE, "betas": (0.0, 0.3), "eps": 0.1}],
    NAdam: [
        {},
        {"lr": 0.1, **UPHILL, "betas": (0.8, 0.9), "momentum_decay": 0.5},
        {**RATE, **DECOUPLED, "momentum_decay": 2.0, "eps": 0.1},
        {"betas": (0.0, 0.3), "momentum_decay": 0},
    ],
    RAdam: [
        {},  # rectified from the sixth step on
        {"lr": 0.1, "betas": (0.8, 0.6), **UPHILL},  # never
        {**RATE, "betas": (0.9, 0.9), **DECOUPLED, "eps": 0.1},
        {"lr": 0.1, "betas": (0.0, 0.95)},
    ],
    Lion: [{}, {"lr": 0.01, "betas": (0.5, 0.7), **UPHILL}, {**RATE, "betas": (0.0, 0.9), **DECAY}],
}


def cases():
    for kind, choices in CASES.items():
        for options in choices:
            yield pytest.param(kind, options, id=f"{kind.__name__} {options}")


@pytest.mark.parametrize(("kind", "options"), list(cases()))
def test_plain_and_fast_form_agree(kind, options):
    check_plain_optimizer(lambda parameters: kind(parameters, **options))


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_in_several_groups(kind):
    def make(parameters):
        groups = [{"params": parameters[:3], "lr": 0.02}, {"params": parameters[3:], "weight_decay": 0.3}]
        return kind(groups, lr=0.05)

    check_plain_optimizer(make, shapes=((3, 4), (5,), (), (2, 3), (6,), (4, 2), (0,)))


def test_big_parameters_in_chunks(monkeypatch):
    monkeypatch.setattr("ds_core.optimizers.flat_optimizer.chunk_size", lambda device: 8)
    check_plain_optimizer(lambda p: AdamW(p, lr=0.1), shapes=((7, 9), (20,)))


def test_every_optimizer_with_a_fast_form_is_here():
    found = set()
    for module in pkgutil.iter_modules(ds_core.optimizers.__path__):
        members = vars(importlib.import_module(f"ds_core.optimizers.{module.name}")).values()
        found |= {member for member in members if isinstance(member, type) and issubclass(member, FlatOptimizer)}
    assert found - {FlatOptimizer} == set(CASES)


def parameters_with_gradients():
    parameters = [torch.ones(3, dtype=torch.float64, requires_grad=True), torch.ones(2, 2, requires_grad=True)]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    return parameters


def test_the_plain_form_runs_inside_the_block_only(monkeypatch):
    calls = []
    plain_form, fast_form = Adam.update, Adam.direction
    monkeypatch.setattr(Adam, "update", lambda self, *given: calls.append("plain") or plain_form(self, *given))
    monkeypatch.setattr(Adam, "direction", lambda self, *given: calls.append("fast") or fast_form(self, *given))
    optimizer = Adam(parameters_with_gradients())
    with plain():
        optimizer.step()
    assert calls == ["plain", "plain"]
    optimizer.step()
    assert calls == ["plain", "plain", "fast", "fast"]


def test_gradients_stay_as_they_were_given():
    for kind in CASES:
        parameters = parameters_with_gradients()
        optimizer = kind(parameters)
        given = [parameter.grad for parameter in parameters]
        with plain():
            optimizer.step()
            optimizer.step()
        for parameter, gradient in zip(parameters, given, strict=True):
            assert parameter.grad is gradient
            assert gradient.eq(1).all()


def test_a_state_shared_for_a_compiled_step_counts_once():
    parameters = parameters_with_gradients()
    optimizer = Adam(parameters)
    optimizer.prepare_compile()
    for _ in range(2):
        with plain():
            optimizer.step()
    assert [optimizer.state[parameter]["step"].item() for parameter in parameters] == [2.0, 2.0]


def test_a_compiled_step_uses_the_fast_form_also_inside_plain():
    """The plain form of RAdam branches on a number, which no graph can."""
    with plain():
        like_eager_when_compiled(lambda p: RAdam(p, lr=0.1, betas=(0.8, 0.9), **DECOUPLED))


class OnlyHooks(FlatOptimizer):
    def step_sizes(self, group, scalars):
        return (group["lr"],)

    def direction(self, gradient, tensors, step_sizes, group, first, out):
        return gradient, None


def test_an_optimizer_without_a_plain_form_keeps_to_its_hooks():
    parameters = parameters_with_gradients()
    optimizer = OnlyHooks(parameters, {"lr": 0.25})
    with plain():
        optimizer.step()
    assert all(parameter.eq(0.75).all() for parameter in parameters)


class WrongDirection(AdamW):
    def direction(self, gradient, tensors, step_sizes, group, first, out):
        numerator, denominator = super().direction(gradient, tensors, step_sizes, group, first, out)
        return numerator, denominator.mul_(1 + 1e-9)


class WrongState(AdamW):
    def direction(self, gradient, tensors, step_sizes, group, first, out):
        direction = super().direction(gradient, tensors, step_sizes, group, first, out)
        tensors[1].mul_(1 + 1e-9)
        return direction


class CountsTwice(Adadelta):
    def update(self, parameter, gradient, state, group):
        super().update(parameter, gradient, state, group)
        state["step"] += 1


class MoreState(AdamW):
    def update(self, parameter, gradient, state, group):
        state["more"] = 1
        super().update(parameter, gradient, state, group)


class OtherCount(AdamW):
    def update(self, parameter, gradient, state, group):
        super().update(parameter, gradient, state, group)
        state["step"] = state["step"].double()


class BlackBox(AdamW):
    def update(self, parameter, gradient, state, group):
        super().update(parameter, torch.tanh(gradient), state, group)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (WrongDirection, "parameter 0 after step 1, .*: plain .*, fast"),
        (WrongState, "parameter 0 after step 2, .*: plain .*, fast"),
        (CountsTwice, r"step of parameter \d after step 3, .*: plain [46], fast [23]"),
        (MoreState, r"state of parameter 0 after step 3: plain has .*'more'\], fast"),
        (OtherCount, "step of parameter 0 after step 3: plain has torch.float64, fast torch.float32"),
        (BlackBox, "tanh"),
    ],
)
def test_a_fault_is_found(kind, message):
    with pytest.raises(CheckFailed, match=message):
        check_plain_optimizer(lambda parameters: kind(parameters, lr=0.1))
