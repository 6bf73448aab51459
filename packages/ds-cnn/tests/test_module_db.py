"""The cases that PyTorch tests its own modules with, tried on the layers of the same names."""

from typing import Any

import hypothesis
import pytest
import torch
from ds_cnn import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AvgPool1d,
    AvgPool2d,
    MaxPool1d,
    MaxPool2d,
)
from ds_core.testing import check_twin

# How many cases each class has at least, lest a change of PyTorch's list empty the test.
LEAST = {
    AdaptiveAvgPool1d: 3,
    AdaptiveAvgPool2d: 5,
    AdaptiveMaxPool1d: 2,
    AdaptiveMaxPool2d: 4,
    AvgPool1d: 4,
    AvgPool2d: 7,
    MaxPool1d: 3,
    MaxPool2d: 3,
}


@pytest.fixture(scope="module")
def torch_cases() -> dict[str, Any]:
    """PyTorch's list of modules with inputs, by name. What its import changes for the whole process is put back."""
    import expecttest  # noqa: F401 (the next import needs it; here it is declared)
    from torch.testing._internal.common_modules import module_db

    hypothesis.settings.load_profile("default")
    torch.backends.__allow_nonbracketed_mutation_flag = True
    return {info.name: info for info in module_db}


@pytest.mark.parametrize("cls", LEAST, ids=lambda cls: cls.__name__)
def test_pytorchs_own_cases(cls: type, torch_cases: dict[str, Any]) -> None:
    info = torch_cases[f"nn.{cls.__name__}"]
    torch.manual_seed(1)
    cases = info.module_inputs_func(info, torch.device("cpu"), torch.float64, True, training=True)
    assert len(cases) >= LEAST[cls]
    for case in cases:
        made, given = case.constructor_input, case.forward_input
        ours, twin = cls(*made.args, **made.kwargs), info.module_cls(*made.args, **made.kwargs)
        check_twin(ours, twin, *given.args, kwargs=given.kwargs, modes=["train"])
