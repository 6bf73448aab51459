"""Activations by name are those that torch.nn.functional has under that name."""

import pytest
import torch
from activation_checks import TorchQuickGELU
from ds_core import no_record
from ds_core.activations.by_name import ACTIVATIONS, make_activation

OTHERS = {"log_sigmoid": torch.nn.functional.logsigmoid, "quick_gelu": TorchQuickGELU()}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_name_gives_what_torch_gives_under_it(name: str) -> None:
    function = OTHERS.get(name) or getattr(torch.nn.functional, name)
    x = torch.linspace(-8, 8, 65, dtype=torch.float64)
    with no_record():
        torch.testing.assert_close(make_activation(name, layer="mlp")(x), function(x), rtol=1e-12, atol=1e-12)
    if name != "quick_gelu":
        assert function.__name__ == name


def test_each_call_makes_a_layer() -> None:
    assert make_activation("gelu", layer="mlp") is not make_activation("gelu", layer="mlp")


@pytest.mark.parametrize(("name", "near"), [("leaky-relu", "leaky_relu"), ("gleu", "gelu"), ("ReLU6", "relu6")])
def test_another_name_is_refused_with_the_nearest(name: str, near: str) -> None:
    message = rf"Block\(3\): given activation='{name}', expected one of relu, leaky_relu, .*; did you mean {near}\?"
    with pytest.raises(ValueError, match=message):
        make_activation(name, layer="Block(3)")
