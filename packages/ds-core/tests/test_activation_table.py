"""Every activation of the table against finite differences, autograd, its twin and its plain form."""

import importlib
import pkgutil

import ds_core.activations
import pytest
import torch
from activation_checks import TABLE, Case, check_any, check_plain_form, check_rounded_once, kept_bytes
from ds_core import Module
from ds_core.activations.smooth import SmoothActivation
from ds_core.testing import check_layer, check_twin_grid

# Ties, kinks of one activation or another, and numbers whose exponential over- or underflows.
EXTREMES = [0.0, -0.0, 1e4, -1e4, 30.0, -30.0, 800.0, -800.0, 1e-10, -1e-10, 1.0, -1.0, 3.0, -3.0, 6.0, 20.0, 22.0, 0.5]
SMOOTH = [case for case in TABLE if issubclass(case.layer, SmoothActivation)]

every = pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
every_smooth = pytest.mark.parametrize("case", SMOOTH, ids=lambda case: case.name)


def test_the_table_holds_each_activation_once() -> None:
    found = []
    for module in pkgutil.iter_modules(ds_core.activations.__path__):
        classes = vars(importlib.import_module(f"ds_core.activations.{module.name}")).items()
        found += [(name, value) for name, value in classes if isinstance(value, type) and issubclass(value, Module)]
    activations = {value for _, value in found} - {Module, SmoothActivation}
    assert {case.layer for case in TABLE} == activations
    assert len(TABLE) == len(activations) >= 23
    assert len(SMOOTH) >= 11


@every
def test_an_activation_is_exported(case: Case) -> None:
    assert case.layer.__name__ in ds_core.__all__


@every
def test_an_activation_is_right_and_the_twin(case: Case) -> None:
    x = 2 * torch.randn(4, 6)
    for arguments in case.combinations():
        check_layer(case.layer(**arguments), x, batch_dim=None if "dim" in arguments else 0)
    tried = check_twin_grid(case.layer, case.twin, case.arguments, [x], **case.twin_options)
    assert tried == len(list(case.combinations()))


@every
def test_an_activation_is_its_plain_form_in_both_engines(case: Case) -> None:
    random = 3 * torch.randn(4, 6)
    extremes = torch.tensor(EXTREMES).view(3, 6)[:2]
    for arguments in case.combinations():
        layer = case.layer(**arguments).double()
        for x in (random, extremes, torch.tensor(EXTREMES[6:]).view(2, 6)):
            check_plain_form(layer, x)


@every_smooth
def test_a_smooth_activation_keeps_its_slope_alone(case: Case) -> None:
    for arguments in case.combinations():
        assert kept_bytes(case.layer(**arguments), torch.randn(100, 10)) == 4000


@every_smooth
def test_a_smooth_activation_of_any_shape_and_precision(case: Case) -> None:
    for arguments in case.combinations():
        layer, twin = case.layer(**arguments), case.twin(**arguments)
        for shape in ((), (0, 3), (2, 1, 3)):
            check_any(layer, twin, 2 * torch.randn(shape))
        check_rounded_once(layer, *(4 * torch.randn(2, 1000)).bfloat16())
