"""What a reader looks up first is said: shapes of the layers' passes, and what each method of Module does."""

import inspect

import pytest
from ds_core import (
    GELU,
    Dropout,
    Embedding,
    LayerNorm,
    Linear,
    Module,
    ReLU,
    Softmax,
)


@pytest.mark.parametrize("layer", [Linear, LayerNorm, GELU, ReLU, Softmax, Dropout, Embedding])
@pytest.mark.parametrize("name", ["forward", "backward"])
def test_both_passes_of_a_layer_say_their_shapes(layer: type[Module], name: str) -> None:
    text = getattr(layer, name).__doc__ or ""
    assert " -> " in text
    assert text.startswith("dy" if name == "backward" else "input")


def test_each_public_method_of_module_says_what_it_does() -> None:
    methods = [(name, method) for name, method in vars(Module).items() if inspect.isfunction(method)]
    silent = [name for name, method in methods if not (name.startswith("_") or method.__doc__)]
    assert len(methods) > 30
    assert silent == []
