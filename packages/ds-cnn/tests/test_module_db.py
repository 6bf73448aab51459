"""The cases that PyTorch tests its own modules with, tried on the layers of the same names."""

from typing import Any

import ds_cnn
import hypothesis
import pytest
import torch
from ds_core.testing import check_twin

# How many cases each class has at least, lest a change of PyTorch's list empty the test. Norms have one more from the
# torch on that gave them the argument `bias`.
LEAST = {
    "AdaptiveAvgPool1d": 3,
    "AdaptiveAvgPool2d": 5,
    "AdaptiveMaxPool1d": 2,
    "AdaptiveMaxPool2d": 4,
    "AvgPool1d": 4,
    "AvgPool2d": 7,
    "BatchNorm2d": 6,
    "BatchNorm3d": 6,
    "CircularPad1d": 4,
    "CircularPad2d": 4,
    "CircularPad3d": 4,
    "ConstantPad1d": 2,
    "ConstantPad2d": 2,
    "ConstantPad3d": 2,
    "Conv1d": 4,
    "Conv2d": 4,
    "Conv3d": 4,
    "ConvTranspose1d": 2,
    "ConvTranspose2d": 2,
    "ConvTranspose3d": 2,
    "InstanceNorm1d": 6,
    "InstanceNorm2d": 6,
    "InstanceNorm3d": 6,
    "LocalResponseNorm": 3,
    "MaxPool1d": 3,
    "MaxPool2d": 3,
    "ReflectionPad1d": 2,
    "ReflectionPad2d": 2,
    "ReflectionPad3d": 2,
    "ReplicationPad1d": 2,
    "ReplicationPad2d": 2,
    "ReplicationPad3d": 2,
    "ZeroPad1d": 2,
    "ZeroPad2d": 2,
    "ZeroPad3d": 2,
}
# Twins for which PyTorch has no cases: grids over their arguments, in their own tests, are all there is.
WITHOUT_CASES = {"Dropout1d", "Dropout2d", "Dropout3d", "MaxUnpool2d", "PixelShuffle", "PixelUnshuffle", "Upsample"}


@pytest.fixture(scope="module")
def torch_cases() -> dict[str, Any]:
    """PyTorch's list of modules with inputs, by name. What its import changes for the whole process is put back."""
    import expecttest  # noqa: F401 (the next import needs it; here it is declared)
    from torch.testing._internal.common_modules import module_db

    hypothesis.settings.load_profile("default")
    torch.backends.__allow_nonbracketed_mutation_flag = True
    return {info.name: info for info in module_db}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("name", LEAST)
def test_pytorchs_own_cases(name: str, torch_cases: dict[str, Any]) -> None:
    info = torch_cases[f"nn.{name}"]
    torch.manual_seed(1)
    cases = info.module_inputs_func(info, torch.device("cpu"), torch.float64, True, training=True)
    assert len(cases) >= LEAST[name]
    for case in cases:
        made, given = case.constructor_input, case.forward_input
        ours, twin = getattr(ds_cnn, name)(*made.args, **made.kwargs), info.module_cls(*made.args, **made.kwargs)
        check_twin(ours, twin, *given.args, kwargs=given.kwargs, modes=["train"])


def test_no_class_is_left_out(torch_cases: dict[str, Any]) -> None:
    twins = {name for name in ds_cnn.__all__ if isinstance(getattr(torch.nn, name, None), type)}
    assert twins == {*LEAST, *WITHOUT_CASES}
    assert not [name for name in WITHOUT_CASES if f"nn.{name}" in torch_cases]
