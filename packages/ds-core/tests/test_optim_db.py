"""PyTorch's own inputs for the tests of its optimizers, run through ours: torch.testing._internal.common_optimizers.

Each constructor call that PyTorch tests is made on both sides, and the walks are compared step by step; each call that
PyTorch says must fail has to fail here too, with its message.
"""

import inspect

import pytest
import torch
from ds_core import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Muon, NAdam, RAdam, RMSprop
from ds_core.testing import check_optimizer, full_grids
from optimizer_checks import TorchNAdam
from torch.testing._internal.common_optimizers import optim_db

OURS = {ours.__name__: ours for ours in (SGD, Adagrad, RMSprop, Adadelta, Adam, AdamW, Adamax, NAdam, RAdam, Muon)}
# Optimizers of PyTorch's list that have no twin here.
NOT_OURS = {"ASGD", "Adafactor", "LBFGS", "Rprop", "SparseAdam"}
# Arguments that choose how PyTorch computes and change no result; taken out before a call on our side.
MACHINERY = {"foreach", "fused", "capturable", "differentiable"}
# Calls that fail with another error here, by their `desc`: PyTorch warns of the first, and finds the second in a step.
OTHERWISE = {
    "a param group cannot have duplicate parameters": (ValueError, "some parameters appear more than once"),
    "does not support complex parameters": (ValueError, "complex parameters are not supported"),
}
# Calls that fail because of machinery, which is not here: tensors as learning rate or betas work whatever the call.
LEFT_OUT = {
    "lr as Tensor doesn't work with foreach & not capturable",
    r"betas\[0\] as a Tensor is not supported for capturable=False and foreach=True",
}

INFOS = {info.optim_cls.__name__: info for info in optim_db}
HERE = {name: info for name, info in INFOS.items() if name in OURS}
SHAPES = {"Muon": [(3, 4), (5, 2), (4, 4)]}


def walks():
    """Each input with all gradients, and the default one without some (under DS_FULL_GRIDS every one)."""
    for name, info in HERE.items():
        for case in info.optim_inputs_func(device="cpu", dtype=torch.float64):
            yield pytest.param(name, case, False, id=f"{name}: {case.desc}")
            if full_grids() or not case.kwargs:
                yield pytest.param(name, case, True, id=f"{name}: {case.desc}, some gradients missing")


def errors():
    for name, info in HERE.items():
        for case in info.optim_error_inputs_func(device="cpu", dtype=torch.float64):
            if case.optimizer_error_input.desc not in LEFT_OUT:
                yield pytest.param(name, case, id=f"{name}: {case.optimizer_error_input.desc}")


def test_every_optimizer_of_the_list_is_here_or_named():
    """So that a new one of PyTorch's is noticed; Muon is not in versions before 2.9."""
    assert set(INFOS) <= set(OURS) | NOT_OURS
    assert set(OURS) - set(INFOS) <= {"Muon"}


@pytest.mark.parametrize(("name", "case", "none_gradients"), list(walks()))
def test_walks_as_torch_does(name, case, none_gradients):
    options = {key: value for key, value in case.kwargs.items() if key not in MACHINERY}
    if isinstance(options.get("lr"), torch.Tensor):
        # in float32 the two would round its product with other numbers differently
        options["lr"] = options["lr"].double()
    more = {"shapes": SHAPES[name]} if name in SHAPES else {}
    twin = TorchNAdam if name == "NAdam" else getattr(torch.optim, name)
    check_optimizer(
        lambda p: OURS[name](p, **options),
        lambda p: twin(p, **options),
        steps=20,
        none_gradients=none_gradients,
        rtol=1e-12,
        **more,
    )


@pytest.mark.parametrize(("name", "case"), list(errors()))
def test_what_must_fail_for_torch_fails_here(name, case):
    given = case.optimizer_error_input
    kind, message = OTHERWISE.get(given.desc, (case.error_type, case.error_regex))
    parameters = given.params
    if parameters is None:
        parameters = [torch.randn(2, 3, dtype=torch.float64, requires_grad=True)]
    options = {key: value for key, value in given.kwargs.items() if key not in MACHINERY}
    with pytest.raises(kind, match=message):
        OURS[name](parameters, **options).step()


@pytest.mark.parametrize("name", HERE)
def test_nothing_but_machinery_was_left_out(name):
    """Each argument of PyTorch's constructor is one of ours, with the same default, or stands in `MACHINERY`."""
    ours, theirs = (inspect.signature(kind).parameters for kind in (OURS[name], INFOS[name].optim_cls))
    for argument, parameter in theirs.items():
        if argument not in MACHINERY:
            assert argument in ours, argument
            assert ours[argument].default == parameter.default, argument
    given = {key for case in HERE[name].optim_inputs_func(device="cpu", dtype=torch.float64) for key in case.kwargs}
    assert given - set(ours) <= MACHINERY
