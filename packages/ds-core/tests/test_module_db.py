"""The cases that PyTorch tests its own modules with, tried on the layers of the same names."""

from typing import Any

import hypothesis
import pytest
import torch
from ds_core.activations.gelu import GELU
from ds_core.activations.relu import ReLU
from ds_core.activations.softmax import Softmax
from ds_core.layers.embedding import Embedding
from ds_core.layers.layer_norm import LayerNorm
from ds_core.layers.linear import Linear
from ds_core.losses.cross_entropy import CrossEntropyLoss
from ds_core.testing import check_twin

# How many cases each class has at least, lest a change of PyTorch's list empty the test.
CASES = [(CrossEntropyLoss, 50), (Embedding, 2), (GELU, 3), (LayerNorm, 5), (Linear, 3), (ReLU, 2), (Softmax, 3)]


@pytest.fixture(scope="module")
def torch_cases() -> dict[str, Any]:
    """PyTorch's list of modules with inputs, by name. What its import changes for the whole process is put back."""
    import expecttest  # noqa: F401 (the next import needs it; here it is declared)
    from torch.testing._internal.common_modules import module_db

    hypothesis.settings.load_profile("default")
    torch.backends.__allow_nonbracketed_mutation_flag = True
    return {info.name: info for info in module_db}


@pytest.mark.parametrize(("cls", "least"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_pytorchs_own_cases(cls: type, least: int, torch_cases: dict[str, Any]) -> None:
    info = torch_cases[f"nn.{cls.__name__}"]
    torch.manual_seed(1)  # the inputs are drawn: with seed 0 a case ignores every target, its loss is NaN
    cases = info.module_inputs_func(info, torch.device("cpu"), torch.float64, True, training=True)
    assert len(cases) >= least
    constants = ["target"] if cls is CrossEntropyLoss else []
    for case in cases:
        made, given = case.constructor_input, case.forward_input
        ours, twin = cls(*made.args, **made.kwargs), info.module_cls(*made.args, **made.kwargs)
        check_twin(ours, twin, *given.args, *given.kwargs.values(), constants=constants, modes=["train"])
