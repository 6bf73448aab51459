"""Our optimizers where torch.optim's are asked for: schedules of torch and transformers, GradScaler, copies."""

import copy
import inspect
import io
import warnings

import pytest
import torch
from ds_core import SGD, AdamW, Linear, MSELoss, Muon, Sequential, Trainer
from ds_core.interop import as_torch_optimizer
from torch.optim import lr_scheduler

SCHEDULES = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (step + 1)),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2, 0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 4]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 3),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=4),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 5),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 5, 2.0),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=2, cycle_momentum=False),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=8),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=2), lr_scheduler.ExponentialLR(o, 0.8)], [2]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 3), lr_scheduler.ExponentialLR(o, 0.8)], optimizer=o
    ),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.02, anneal_epochs=3),
}


def weights():
    return [torch.arange(1.0, 4.0, dtype=torch.float64).requires_grad_(), torch.ones(2, 2).double().requires_grad_()]


def walk(make, schedule_of, driver="torch", steps=6):
    """Learning rates and weights, step by step."""
    parameters = weights()
    optimizer = make([{"params": [parameters[0]]}, {"params": [parameters[1]], "lr": 0.02}])
    wrapped = as_torch_optimizer(optimizer)
    schedule = schedule_of(wrapped)
    drives = wrapped if driver == "torch" else optimizer
    seen = []
    for step in range(steps):
        for parameter in parameters:
            parameter.grad = parameter.detach() * (step + 1)
        drives.step()
        schedule.step(*([1.0] if isinstance(schedule, lr_scheduler.ReduceLROnPlateau) else []))
        seen.append([float(group["lr"]) for group in optimizer.param_groups])
        seen.append([parameter.detach().clone() for parameter in parameters])
    return seen


def test_every_schedule_of_torch_is_tried():
    classes = {
        name
        for name, kind in inspect.getmembers(lr_scheduler, inspect.isclass)
        if issubclass(kind, lr_scheduler.LRScheduler) and kind.__module__ == lr_scheduler.__name__
    }
    assert classes - {"LRScheduler", "_LRScheduler"} <= set(SCHEDULES)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_of_torch_sets_our_rates(schedule):
    def theirs(groups):
        return torch.optim.AdamW(groups, lr=0.05)

    def ours(groups):
        return AdamW(groups, lr=0.05)

    expected = walk(theirs, SCHEDULES[schedule])
    for driver in ("torch", "ours"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of the wrong order of steps
            found = walk(ours, SCHEDULES[schedule], driver)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_a_schedule_of_transformers():
    transformers = pytest.importorskip("transformers")

    def schedule(optimizer):
        return transformers.get_cosine_schedule_with_warmup(optimizer, 2, 6)

    expected = walk(lambda groups: torch.optim.AdamW(groups, lr=0.05), schedule)
    torch.testing.assert_close(walk(lambda groups: AdamW(groups, lr=0.05), schedule), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("compile", [False, True])
def test_in_a_trainer(small, compile):
    losses = []
    for make in (torch.optim.AdamW, AdamW):
        torch.manual_seed(0)
        model = Sequential(Linear(2, 3), Linear(3, 1))
        optimizer = make(model.parameters(), lr=0.05)
        schedule = lr_scheduler.ExponentialLR(as_torch_optimizer(optimizer), 0.5)
        options = {"schedule": schedule, "progress": False, "compile": compile and make is AdamW}
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            history = Trainer(model, MSELoss(), optimizer, **options).fit(small.Points(), 4)
        losses.append([record["loss"] for record in history.training])
        assert [record["learning_rate"] for record in history.training] == pytest.approx([0.05, 0.025, 0.0125, 0.00625])
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=0)


def test_both_are_one_optimizer():
    first, second = weights()
    optimizer = SGD([first], lr=0.5, momentum=0.9)
    wrapped = as_torch_optimizer(optimizer)
    assert wrapped.param_groups is optimizer.param_groups
    assert isinstance(wrapped, torch.optim.Optimizer)
    assert as_torch_optimizer(wrapped) is wrapped
    first.grad = torch.ones(3).double()
    before = first.detach().clone()
    assert wrapped.step(lambda: 7.0) == 7.0
    torch.testing.assert_close(first.detach(), before - 0.5)
    assert wrapped.state is optimizer.state
    state = wrapped.state_dict()
    optimizer.load_state_dict(state)
    assert wrapped.state is optimizer.state  # which loading has replaced
    wrapped.add_param_group({"params": [second], "lr": 0.1})
    assert len(optimizer.param_groups) == 2
    wrapped.zero_grad()
    assert first.grad is None
    torch.testing.assert_close(wrapped.state_dict()["state"], state["state"])


def test_hooks_of_torch_are_called():
    (first, _) = weights()
    wrapped = as_torch_optimizer(AdamW([first], lr=0.1))
    called = []
    wrapped.register_step_pre_hook(lambda *_: called.append("before"))
    wrapped.register_step_post_hook(lambda *_: called.append("after"))
    first.grad = torch.ones(3).double()
    wrapped.step()
    assert called == ["before", "after"]


def test_it_is_copied_and_saved_with_what_it_wraps():
    (first, _) = weights()
    wrapped = as_torch_optimizer(AdamW([first], lr=0.1))
    first.grad = torch.ones(3).double()
    wrapped.step()
    saved = io.BytesIO()
    torch.save(wrapped, saved)
    saved.seek(0)
    for other in (copy.deepcopy(wrapped), torch.load(saved, weights_only=False)):
        assert type(other) is type(wrapped)
        assert other.wrapped is not wrapped.wrapped
        torch.testing.assert_close(other.state_dict(), wrapped.state_dict())
        assert other.param_groups is other.wrapped.param_groups


def test_a_gradient_scaler_steps_it():
    (first, _) = weights()
    wrapped = as_torch_optimizer(SGD([first], lr=1.0))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    loss = scaler.scale(first.sum())
    loss.backward()
    before = first.detach().clone()
    scaler.unscale_(wrapped)
    scaler.step(wrapped)
    scaler.update()
    torch.testing.assert_close(first.detach(), before - 1)


def test_every_optimizer_of_ours_and_what_is_none():
    matrix = torch.ones(2, 3, requires_grad=True)
    matrix.grad = torch.ones(2, 3)
    as_torch_optimizer(Muon([matrix])).step()
    for given, shown in ((None, "None"), (AdamW, "the class AdamW"), (Linear(1, 1), "Linear")):
        with pytest.raises(TypeError, match=f"as_torch_optimizer: given {shown}.*expected an optimizer such as AdamW"):
            as_torch_optimizer(given)
