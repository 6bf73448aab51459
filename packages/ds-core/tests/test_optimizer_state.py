"""state_dict: as torch.optim's, exchangeable in mid-run, and never sharing what must not be shared."""

import copy
import io

import pytest
import torch
from ds_core import SGD, Adam, AdamW
from ds_core.training.compile_step import prepare_compile

PAIRS = {
    "SGD": (lambda p: SGD(p, lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "momentum": (lambda p: SGD(p, lr=0.1, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    "Adam": (lambda p: Adam(p, lr=0.1), lambda p: torch.optim.Adam(p, lr=0.1)),
    "AMSGrad": (lambda p: Adam(p, lr=0.1, amsgrad=True), lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True)),
    "AdamW": (lambda p: AdamW(p, lr=0.1), lambda p: torch.optim.AdamW(p, lr=0.1)),
}


def fresh():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in ((3, 2), (4,), ())]


def walk(parameters, optimizer, steps, missing=()):
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for index, parameter in enumerate(parameters):
            gradient = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.grad = None if index in missing else gradient.to(parameter.dtype)
        optimizer.step()


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_same_as_torchs_to_the_key(name, steps):
    pairs = []
    for make in PAIRS[name]:
        parameters = fresh()
        optimizer = make([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.01}])
        walk(parameters, optimizer, range(steps), missing=(1,))
        pairs.append(optimizer.state_dict())
    ours, theirs = pairs
    torch.testing.assert_close(ours["state"], theirs["state"], rtol=1e-12, atol=0)
    for our_group, their_group in zip(ours["param_groups"], theirs["param_groups"], strict=True):
        assert {**our_group, "capturable": False} == {**their_group, "capturable": False}


@pytest.mark.parametrize("name", PAIRS)
def test_taken_by_torch_and_back_through_a_file(name):
    """Ours for 5 steps, torch's for 5, ours for 10, each from a file of the other's state."""
    ours, theirs = PAIRS[name]
    parameters, expected = fresh(), fresh()
    steady = theirs(expected)
    walk(expected, steady, range(20))
    state = None
    for make, steps in ((ours, range(5)), (theirs, range(5, 10)), (ours, range(10, 20))):
        optimizer = make(parameters)
        if state is not None:
            state.seek(0)
            optimizer.load_state_dict(torch.load(state))
        walk(parameters, optimizer, steps)
        state = io.BytesIO()
        torch.save(optimizer.state_dict(), state)
    torch.testing.assert_close(parameters, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["momentum", "AMSGrad"])
def test_torch_going_on_with_our_state_does_not_count_one_step_for_many(name):
    ours, theirs = PAIRS[name]
    parameters = fresh()
    optimizer = ours(parameters)
    walk(parameters, optimizer, range(3))
    optimizer.prepare_compile()  # which makes all parameters share one count
    other = theirs(parameters)
    other.load_state_dict(optimizer.state_dict())
    walk(parameters, other, range(2))
    counts = [state["step"].item() for state in other.state.values() if "step" in state]
    assert counts in ([], [5.0, 5.0, 5.0])
    assert [state["step"].item() for state in optimizer.state.values() if "step" in state] in ([], [3.0, 3.0, 3.0])


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("flat", [True, False])
def test_loading_copies(name, side, flat):
    """Whether the state was ours or torch's, the optimizer that gave it goes its own way."""
    parameters = fresh()
    optimizer = PAIRS[name][side](parameters)
    walk(parameters, optimizer, range(3))
    before = copy.deepcopy(optimizer.state_dict())
    others = fresh()
    other = PAIRS[name][0](others)
    other.flat = flat
    other.load_state_dict(optimizer.state_dict())
    walk(others, other, range(3))
    other.param_groups[0]["lr"] = 7.0
    torch.testing.assert_close(optimizer.state_dict()["state"], before["state"], rtol=0, atol=0)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_loading_casts_as_torch_does():
    source = [torch.ones(3, requires_grad=True)]
    optimizer = torch.optim.Adam(source)
    walk(source, optimizer, range(2))
    state = optimizer.state_dict()
    state["state"][0]["step"] = 2  # as old versions of torch wrote it
    target = [torch.ones(3, dtype=torch.bfloat16, requires_grad=True)]
    ours = Adam(target)
    ours.load_state_dict(state)
    loaded = ours.state[target[0]]
    assert loaded["exp_avg"].dtype == torch.bfloat16
    assert loaded["step"].dtype == torch.float32
    assert loaded["step"].item() == 2
    assert loaded["step"].shape == ()


def test_machinery_of_torch_is_kept_and_does_nothing():
    parameters, expected = fresh(), fresh()
    theirs = torch.optim.Adam(expected, lr=0.1, foreach=True)
    walk(expected, theirs, range(3))
    for own, parameter in zip(parameters, expected, strict=True):
        own.data.copy_(parameter.data)
    ours = Adam(parameters)
    ours.load_state_dict(theirs.state_dict())
    assert ours.param_groups[0]["foreach"] is True
    walk(parameters, ours, range(3))
    walk(expected, theirs, range(3))
    torch.testing.assert_close(parameters, expected, rtol=1e-12, atol=1e-14)
    back = torch.optim.Adam(fresh())
    back.load_state_dict(ours.state_dict())
    assert back.param_groups[0]["foreach"] is True


def test_a_learning_rate_that_is_a_tensor_stays_that_tensor():
    lr = torch.tensor(0.5, dtype=torch.float64)
    ours = Adam(fresh(), lr=lr)
    ours.load_state_dict(Adam(fresh(), lr=0.125).state_dict())
    assert ours.param_groups[0]["lr"] is lr
    assert lr.item() == 0.125
    numbers = Adam(fresh(), lr=0.5)
    numbers.load_state_dict(ours.state_dict())
    assert numbers.param_groups[0]["lr"].item() == 0.125
    assert numbers.param_groups[0]["lr"] is not lr


def test_names_and_what_belongs_to_no_parameter_are_kept():
    ours = Adam([("x", torch.ones(2, requires_grad=True))])
    state = ours.state_dict()
    assert state["param_groups"][0]["param_names"] == ["x"]
    del state["param_groups"][0]["param_names"]
    state["state"]["mine"] = {"note": [1]}
    ours.load_state_dict(state)
    assert ours.param_groups[0]["param_names"] == ["x"]
    assert ours.state_dict()["state"]["mine"] == {"note": [1]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state["param_groups"].append({"params": [9]}),
            "different number of parameter groups: 2, expected 1",
        ),
        (lambda state: state["param_groups"][0]["params"].pop(), r"groups of \[2\] parameters, expected \[3\]"),
        (
            lambda state: state["state"][0].update(exp_avg=torch.zeros(5)),
            r"exp_avg of parameter 0 has shape \(5,\), but the parameter has shape \(3, 2\)",
        ),
        (lambda state: state["param_groups"][0].update(lr=-1.0), "Invalid learning rate: -1.0"),
        (lambda state: state["param_groups"][0].update(betas=(0.9, 2.0)), "Invalid beta parameter at index 1: 2.0"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    parameters = fresh()
    optimizer = Adam(parameters, lr=0.1)
    walk(parameters, optimizer, range(2))
    before = copy.deepcopy(optimizer.state_dict())
    state = copy.deepcopy(before)
    state["param_groups"][0]["eps"] = 0.5
    state["state"][1]["exp_avg"] += 1
    change(state)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    torch.testing.assert_close(optimizer.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
@pytest.mark.parametrize("options", [{}, {"flat": False}, {"compiled": True}])
def test_a_kept_state_is_all_of_one_time(kind, options):
    """Packed, unpacked, and with one step count for all as a compiled step has it."""
    options = dict(options)
    compiled = options.pop("compiled", False)
    parameters = [torch.ones(3, requires_grad=True), torch.ones(4, requires_grad=True)]
    rate = torch.tensor(0.1, dtype=torch.float64)
    optimizer = kind(parameters, lr=rate, **({"momentum": 0.9} if kind is SGD else {}), **options)
    if compiled:
        prepare_compile(optimizer)

    def take(steps):
        for _ in range(steps):
            for parameter in parameters:
                parameter.grad = torch.full_like(parameter, 0.5)
            optimizer.step()

    take(2)
    kept = optimizer.state_dict()
    before = copy.deepcopy(kept)
    rate.fill_(0.7)
    take(3)
    parameters[1].grad = None
    optimizer.step()
    torch.testing.assert_close(kept, before, rtol=0, atol=0)
    live = optimizer.live_state_dict()
    torch.testing.assert_close(live, optimizer.state_dict(), rtol=0, atol=0)
    moment = "momentum_buffer" if kind is SGD else "exp_avg"
    if not compiled or kind is not SGD:
        own = optimizer.state[parameters[0]][moment]
        assert live["state"][0][moment].data_ptr() == own.data_ptr()  # a checkpoint copies nothing
        assert optimizer.state_dict()["state"][0][moment].data_ptr() != own.data_ptr()
    optimizer.load_state_dict(kept)
    torch.testing.assert_close(optimizer.state_dict(), before, rtol=0, atol=0)
