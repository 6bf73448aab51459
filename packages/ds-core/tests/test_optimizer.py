import copy

import pytest
import torch
from ds_core import (
    SGD,
    Adam,
    AdamW,
    BaseOptimizer,
    CrossEntropyLoss,
    FlatOptimizer,
    Linear,
    Optimizer,
    ReLU,
    Sequential,
    WarmupCosineLR,
    clip_grad_norm_,
    record,
)
from torch._dynamo.utils import counters


def vector(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_worked_example():
    a, b, c = vector(1.0, 2.0), vector(3.0), vector(4.0)
    optimizer = SGD([{"params": [a, b]}, {"params": [c], "lr": 0.01}], lr=0.1)
    a.grad, c.grad = torch.tensor([0.5, -1.0]).double(), torch.tensor([20.0]).double()
    optimizer.step()
    torch.testing.assert_close((a.tolist(), b.tolist(), c.tolist()), ([0.95, 2.1], [3.0], [3.8]))


def test_fits_the_protocol():
    assert isinstance(SGD([vector(1.0)]), Optimizer)
    assert isinstance(Adam([vector(1.0)]), Optimizer)


def test_a_parameter_without_gradient_is_passed_over_and_gets_no_state():
    a, b, frozen = vector(1.0), vector(2.0), vector(3.0).requires_grad_(False)
    optimizer = Adam([a, b, frozen], lr=0.1, weight_decay=0.5)
    for _ in range(3):
        a.grad = torch.ones_like(a)
        optimizer.step()
    assert (b.item(), frozen.item()) == (2.0, 3.0)
    assert list(optimizer.state) == [a]
    SGD([a]).step()
    assert SGD([a]).state == {}


def test_zero_grad():
    a, b = vector(1.0, 2.0), vector(3.0)
    optimizer = SGD([a, b])
    both = torch.ones(3).double()
    a.grad = both[:2]
    optimizer.zero_grad(set_to_none=False)
    assert both.tolist() == [0.0, 0.0, 1.0]
    assert b.grad is None
    optimizer.zero_grad()
    assert a.grad is None


def test_closure_runs_first_with_autograd_on():
    a = vector(2.0)
    optimizer = SGD([a], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (a * a).sum()
        loss.backward()
        return loss.item()

    with torch.no_grad():
        assert optimizer.step(closure) == 4.0
    assert a.item() == 1.0
    assert optimizer.step() is None


def test_autograd_notices_the_change_and_the_parameter_stays_a_leaf():
    a, b = vector(2.0), vector(3.0)
    optimizer = Adam([a, b], lr=0.5)
    for _ in range(3):
        loss = (a * a * b).sum()
        a.grad, b.grad = torch.ones(1).double(), torch.ones(1).double()
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
    assert a.is_leaf
    assert a.requires_grad
    assert not any(value.requires_grad for state in optimizer.state.values() for value in state.values())


def test_sparse_gradients_are_refused():
    a = torch.ones(4, 2, requires_grad=True)
    a.grad = torch.ones(4, 2).to_sparse()
    with pytest.raises(RuntimeError, match=r"Adam does not support sparse gradients: .* shape \(4, 2\)"):
        Adam([a]).step()


@pytest.mark.parametrize("scheduled", ["number", "tensor"])
def test_the_learning_rate_may_change_from_step_to_step(scheduled):
    ours, theirs = [[vector(1.0, -2.0), vector(0.5)] for _ in range(2)]
    rate = torch.tensor(0.1, dtype=torch.float64)
    optimizer = AdamW(ours, lr=rate if scheduled == "tensor" else 0.1)
    other = torch.optim.AdamW(theirs, lr=0.1)
    for step in range(10):
        if scheduled == "tensor":
            rate.fill_(0.1 / (step + 1))
        else:
            optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        other.param_groups[0]["lr"] = 0.1 / (step + 1)
        for own, its in zip(ours, theirs, strict=True):
            own.grad = torch.sin(torch.arange(len(own)).double() + step)
            its.grad = own.grad.clone()
        optimizer.step()
        other.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-15)


def batch(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 5, generator=generator, dtype=torch.float64), torch.randint(3, (8,), generator=generator)


def our_model():
    torch.manual_seed(0)
    return Sequential(Linear(5, 16), ReLU(), Linear(16, 3)).double()


def torch_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)).double()


def train(model, optimizer, handwritten):
    criterion = CrossEntropyLoss() if handwritten else torch.nn.CrossEntropyLoss()
    for step in range(12):
        x, target = batch(step)
        if handwritten:
            with record():
                criterion(model(x), target)
                model.backward(criterion.backward(), input_gradient=False)
                optimizer.step()
        else:
            criterion(model(x), target).backward()
            optimizer.step()
        optimizer.zero_grad()
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD"])
def test_ours_drives_torchs_model_and_theirs_drives_ours(name):
    ours, theirs = {"Adam": Adam, "AdamW": AdamW, "SGD": SGD}[name], getattr(torch.optim, name)
    ends = []
    for build, handwritten in ((our_model, True), (torch_model, False)):
        for kind in (ours, theirs):
            model = build()
            ends.append(train(model, kind(model.parameters(), lr=0.05, weight_decay=0.1), handwritten))
    for end in ends[:-1]:
        torch.testing.assert_close(end, ends[-1], rtol=1e-10, atol=1e-12)


class Hooks(FlatOptimizer):
    """The smallest optimizer that has a fast form, as docs/optimizer.md shows it."""

    def step_sizes(self, group, scalars):
        return (group["lr"],)

    def direction(self, gradient, tensors, step_sizes, group, first, out):
        return torch.sign(gradient), None


def test_an_optimizer_of_ones_own_with_hooks():
    parameters = [vector(1.0, -1.0), vector(0.5)]
    optimizer = Hooks(parameters, {"lr": 0.25, "weight_decay": 0, "maximize": False})
    for _ in range(2):
        parameters[0].grad, parameters[1].grad = torch.tensor([3.0, -0.1]).double(), torch.tensor([2.0]).double()
        optimizer.step()
    assert [parameter.tolist() for parameter in parameters] == [[0.5, -0.5], [0.0]]
    (pack,) = optimizer._packs[0]
    assert pack.parameters == parameters


def test_the_base_classes_say_what_is_missing():
    class Nothing(FlatOptimizer):
        pass

    weight = vector(1.0)
    weight.grad = torch.ones_like(weight)
    with pytest.raises(NotImplementedError, match=r"BaseOptimizer has no update\(parameter, gradient, state, group\)"):
        BaseOptimizer([weight], {}).step()
    optimizer = Nothing([weight], {})
    for call in (
        lambda: optimizer.update(weight, weight.grad, {}, {}),
        lambda: optimizer.step_sizes({}, ()),
        lambda: optimizer.direction(vector(1.0), [], (), {}, True, None),
    ):
        with pytest.raises(NotImplementedError, match="Nothing has no "):
            call()


def test_repr_shows_what_changes_the_mathematics():
    text = repr(SGD([vector(1.0)], lr=0.5))
    assert text.startswith("SGD (\nParameter Group 0\n    dampening: 0\n    lr: 0.5\n")
    assert "foreach" not in text


def test_a_compiled_step_is_compiled_once_and_equals_torchs():
    """Learning rates, counts and the norm change; there are two groups, and a parameter without gradient."""
    torch._dynamo.reset()
    counters.clear()
    sides = []
    for adam, sgd, clip in (
        (AdamW, SGD, clip_grad_norm_),
        (torch.optim.AdamW, torch.optim.SGD, torch.nn.utils.clip_grad_norm_),
    ):
        parameters = [vector(1.0, -2.0), vector(0.5), vector(3.0), vector(2.0, 2.0, 2.0), vector(9.0)]
        groups = [{"params": parameters[:2]}, {"params": parameters[2:3], "weight_decay": 0.5, "amsgrad": True}]
        sides.append((parameters, adam(groups, lr=0.1), sgd(parameters[3:], lr=0.2, momentum=0.9, nesterov=True), clip))
    (ours, adam, sgd, clip), (theirs, *others, their_clip) = sides
    for optimizer in (adam, sgd):
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float64)
        optimizer.prepare_compile()
    schedules = [WarmupCosineLR(optimizer, 2, 6, 0.01) for optimizer in (adam, sgd, *others)]

    @torch.compile(fullgraph=True, backend="aot_eager")  # test_compile_step.py runs the generated code
    def compiled(gradients):
        for parameter, gradient in zip(ours[:4], gradients, strict=True):
            parameter.grad = gradient * 1.0
        norm = clip(ours, 1.0)
        adam.step()
        sgd.step()
        for parameter in ours:
            parameter.grad = None
        return norm

    for step in range(7):
        gradients = [torch.sin(torch.arange(len(p)).double() + step) * (step + 0.5) for p in ours[:4]]
        if step < 5:
            norm = compiled(gradients)
        else:  # and eagerly on from there
            for parameter, gradient in zip(ours[:4], gradients, strict=True):
                parameter.grad = gradient.clone()
            norm = clip(ours, 1.0)
            adam.step()
            sgd.step()
        for parameter, gradient in zip(theirs[:4], gradients, strict=True):
            parameter.grad = gradient
        torch.testing.assert_close(norm, their_clip(theirs, 1.0))
        for optimizer in others:
            optimizer.step()
        for schedule in schedules:
            schedule.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    assert counters["stats"]["unique_graphs"] == 1
    assert [state["step"].item() for state in adam.state.values()] == [7.0, 7.0, 7.0]


def test_a_shared_count_is_left_by_who_falls_behind():
    """What the compiler would trace, run without it."""
    parameters, expected = [[vector(1.0), vector(2.0), vector(3.0)] for _ in range(2)]
    optimizer, other = Adam(parameters, lr=0.1), torch.optim.Adam(expected, lr=0.1)
    optimizer.prepare_compile()
    for step in range(4):
        for index, (own, its) in enumerate(zip(parameters, expected, strict=True)):
            own.grad = None if (step, index) in {(1, 1), (2, 1)} else torch.ones(1).double() * step
            its.grad = copy.deepcopy(own.grad)
        ready = [parameter for parameter in parameters if parameter.grad is not None]
        with torch.no_grad():
            optimizer._update_group_traced(0, ready)
        other.step()
        torch.testing.assert_close(parameters, expected, rtol=1e-12, atol=1e-14)
    assert [optimizer.state[parameter]["step"].item() for parameter in parameters] == [4.0, 2.0, 4.0]
