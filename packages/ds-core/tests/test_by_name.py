"""Activations by name are the twins of what torch.nn.functional has under that name."""

import pytest
import torch
from activation_checks import TABLE
from ds_core import no_record
from ds_core.activations.by_name import ACTIVATIONS, make_activation

TWINS = {case.layer: case.twin for case in TABLE}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_name_gives_what_torch_gives_under_it(name: str) -> None:
    ours = make_activation(name, layer="mlp")
    assert type(ours) in TWINS, f"{name} has no line in TABLE of activation_checks.py"
    function = getattr(torch.nn.functional, name, None) or TWINS[type(ours)]()
    x = torch.linspace(-8, 8, 65, dtype=torch.float64)
    with no_record():
        torch.testing.assert_close(ours(x), function(x), rtol=1e-12, atol=1e-12)


def test_names_are_those_that_torchs_functions_call_themselves() -> None:
    functions = [getattr(torch.nn.functional, type(make()).__name__.lower(), None) for make in ACTIVATIONS.values()]
    names = {function.__name__ for function in functions if function is not None}
    assert len(names) >= 12
    assert names <= set(ACTIVATIONS)


def test_each_call_makes_a_layer() -> None:
    assert make_activation("gelu", layer="mlp") is not make_activation("gelu", layer="mlp")


@pytest.mark.parametrize(("name", "near"), [("leaky-relu", "leaky_relu"), ("gleu", "gelu"), ("ReLU6", "relu6")])
def test_another_name_is_refused_with_the_nearest(name: str, near: str) -> None:
    message = rf"Block\(3\): given activation='{name}', expected one of relu, leaky_relu, .*; did you mean {near}\?"
    with pytest.raises(ValueError, match=message):
        make_activation(name, layer="Block(3)")
