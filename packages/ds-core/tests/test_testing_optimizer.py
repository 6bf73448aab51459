"""check_optimizer: PyTorch's own optimizers stand in for ours; planted faults are found and named."""

import copy

import pytest
import torch
from ds_core import BaseOptimizer, FlatOptimizer
from ds_core.testing import CheckFailed, check_optimizer, check_plain_optimizer


def theirs(parameters):
    return torch.optim.AdamW(parameters, lr=0.1)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_an_optimizer_follows_itself(name):
    make = getattr(torch.optim, name)
    check_optimizer(lambda p: make(p, lr=0.1, foreach=False), lambda p: make(p, lr=0.1, foreach=True))


def test_groups_and_changing_settings():
    def make(parameters):
        return torch.optim.SGD(
            [{"params": parameters[:2], "lr": 0.5}, {"params": parameters[2:]}], lr=0.1, momentum=0.9
        )

    steps = []

    def halve(optimizer, step):
        steps.append(step)
        for group in optimizer.param_groups:
            group["lr"] *= 0.5

    check_optimizer(make, make, steps=4, before_step=halve)
    assert steps == [0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]


class OtherDecay(torch.optim.AdamW):
    def __init__(self, parameters, lr):
        super().__init__(parameters, lr=lr, weight_decay=0.02)


class NoBiasCorrection(torch.optim.AdamW):
    def step(self, closure=None):
        for state in self.state.values():
            state["step"].fill_(1000)
        super().step()


class WritesGradients(torch.optim.AdamW):
    def step(self, closure=None):
        super().step()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(0.5)


class NoneIsZero(torch.optim.AdamW):
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        super().step()


class ForgetsState(torch.optim.AdamW):
    def load_state_dict(self, state_dict):
        pass


class GivesHalfState(torch.optim.AdamW):
    def state_dict(self):
        state_dict = copy.deepcopy(super().state_dict())
        for state in state_dict["state"].values():
            state["exp_avg"].zero_()
        return state_dict


class GivesForeignState(torch.optim.AdamW):
    def state_dict(self):
        return {"moments": []}


class Hides(torch.optim.AdamW):
    def step(self, closure=None):
        for group in self.param_groups:
            torch.sigmoid(group["params"][0])
        super().step()


FAULTS = [
    (OtherDecay, "trajectory", "parameter 0 after step 1"),
    (NoBiasCorrection, "trajectory", "parameter 0 after step 2"),
    (WritesGradients, "unchanged", "step 1 changed the gradient of parameter 0"),
    (NoneIsZero, "trajectory", "parameter 4 after step 1"),
    (ForgetsState, "trajectory", "after step 6.*ours after loading the state of PyTorch's"),
    (GivesHalfState, "trajectory", "after step 6.*PyTorch's after loading the state of ours"),
    (GivesForeignState, "state_dict", "PyTorch's cannot load the state_dict of ours: KeyError"),
    (Hides, "primitives", r"aten\.sigmoid ran at .*test_testing_optimizer\.py"),
]


@pytest.mark.parametrize(("fault", "check", "message"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_planted_faults_are_found_and_named(fault, check, message):
    with pytest.raises(CheckFailed, match="(?s)" + message) as caught:
        check_optimizer(lambda parameters: fault(parameters, lr=0.1), theirs, shapes=[(3, 4), (5,), (), (0,), (2, 3)])
    assert caught.value.check == check
    assert str(caught.value).startswith(fault.__name__)


class Rebinds(BaseOptimizer):
    """Makes a new tensor and leaves the parameter as it is."""

    def __init__(self, parameters, lr=0.1, through=None):
        super().__init__(parameters, {"lr": lr, "through": through})

    def update(self, parameter, gradient, state, group):
        moved = parameter - group["lr"] * gradient
        if group["through"] == "data":
            parameter.data = moved
        elif group["through"] == "copy":
            parameter.data.copy_(moved)
        elif group["through"] == "decay":
            parameter.mul_(1 - group["lr"] * 0.1)
        parameter = moved


class PlainRebinds(FlatOptimizer):
    """Its fast form moves, its plain form does not."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.1})

    def step_sizes(self, group, scalars):
        return (group["lr"],)

    def direction(self, gradient, tensors, step_sizes, group, first, out):
        return gradient, None

    def update(self, parameter, gradient, state, group):
        parameter = parameter - group["lr"] * gradient


class RebindsOnItsOwn:
    """An optimizer that inherits from nothing."""

    def __init__(self, parameters):
        self.param_groups = [{"params": list(parameters), "lr": 0.1}]

    def step(self):
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None:
                parameter = parameter - 0.1 * parameter.grad


def test_an_update_that_changes_nothing_is_found():
    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.1)

    for fault in (Rebinds, RebindsOnItsOwn):
        with pytest.raises(CheckFailed, match="has changed no") as caught:
            check_optimizer(fault, sgd)
        assert caught.value.check == "moves"
    with pytest.raises(CheckFailed, match="has changed none of") as caught:
        check_plain_optimizer(PlainRebinds)
    assert caught.value.check == "moves"


def test_the_first_step_says_that_an_update_changes_nothing():
    weights = [torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer = Rebinds(weights)
    optimizer.step()  # gradients of zero need not change anything
    optimizer.param_groups[0]["lr"] = 0.0
    weights[0].grad.fill_(1.0)
    optimizer.step()  # nor does a warm-up from 0
    optimizer.param_groups[0]["lr"] = 0.1
    message = "Rebinds: update has changed none of 1 parameters that have a gradient: change the parameter in place"
    with pytest.raises(TypeError, match=message):
        optimizer.step()
    for through in ("data", "copy", "decay"):
        Rebinds(weights, through=through).step()
