"""The cases that PyTorch tests its own modules with, tried on the layers and losses of the same names."""

from typing import Any

import ds_core
import hypothesis
import pytest
import torch
from ds_core.testing import check_twin
from ds_core.testing.signature import takes_argument

# How many cases each class has at least, lest a change of PyTorch's list empty the test.
LEAST = {
    "BCELoss": 6,
    "BCEWithLogitsLoss": 6,
    "BatchNorm1d": 8,
    "Bilinear": 3,
    "CELU": 3,
    "CosineEmbeddingLoss": 5,
    "CrossEntropyLoss": 50,
    "ELU": 4,
    "Embedding": 2,
    "GELU": 3,
    "GLU": 3,
    "GroupNorm": 10,
    "Hardswish": 2,
    "Hardtanh": 3,
    "HingeEmbeddingLoss": 10,
    "HuberLoss": 4,
    "KLDivLoss": 10,
    "L1Loss": 5,
    "LayerNorm": 5,
    "LeakyReLU": 5,
    "Linear": 3,
    "LogSigmoid": 3,
    "LogSoftmax": 4,
    "MSELoss": 8,
    "MarginRankingLoss": 5,
    "Mish": 3,
    "MultiMarginLoss": 7,
    "NLLLoss": 28,
    "PReLU": 8,
    "RMSNorm": 6,
    "ReLU": 2,
    "ReLU6": 4,
    "SELU": 3,
    "SiLU": 3,
    "Sigmoid": 4,
    "SmoothL1Loss": 8,
    "SoftMarginLoss": 4,
    "Softmax": 3,
    "Softmin": 4,
    "Softplus": 5,
    "Softsign": 3,
    "Tanh": 3,
}
LEAST_WITHOUT_BIAS = {"BatchNorm1d": 7, "GroupNorm": 8}  # of a torch whose norms do not know this argument
# Twins of torch.nn for which PyTorch has no cases: grids over their arguments, in their own tests, are all there is.
WITHOUT_CASES = {
    "AlphaDropout",
    "Dropout",
    "Flatten",
    "Hardsigmoid",
    "Identity",
    "Module",
    "Sequential",
    "SyncBatchNorm",
    "Unflatten",
}


@pytest.fixture(scope="module")
def torch_cases() -> dict[str, Any]:
    """PyTorch's list of modules with inputs, by name. What its import changes for the whole process is put back."""
    import expecttest  # noqa: F401 (the next import needs it; here it is declared)
    from torch.testing._internal.common_modules import module_db

    hypothesis.settings.load_profile("default")
    torch.backends.__allow_nonbracketed_mutation_flag = True
    return {info.name: info for info in module_db}


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
@pytest.mark.filterwarnings("ignore:Implicit dimension choice:UserWarning")
@pytest.mark.parametrize("name", LEAST)
def test_pytorchs_own_cases(name: str, torch_cases: dict[str, Any]) -> None:
    info = torch_cases[f"nn.{name}"]
    torch.manual_seed(1)  # the inputs are drawn: with seed 0 a case ignores every target, its loss is NaN
    cases = info.module_inputs_func(info, torch.device("cpu"), torch.float64, True, training=True)
    knows_bias = name not in LEAST_WITHOUT_BIAS or takes_argument(info.module_cls, "bias")
    assert len(cases) >= (LEAST if knows_bias else LEAST_WITHOUT_BIAS)[name]
    constants = ["target"] if name.endswith("Loss") else []
    cls = getattr(ds_core, name)
    for case in cases:
        made, given = case.constructor_input, case.forward_input
        ours, twin = cls(*made.args, **made.kwargs), info.module_cls(*made.args, **made.kwargs)
        inputs = [*given.args, *given.kwargs.values()]
        if name == "KLDivLoss":
            inputs = [_positive(tensor) for tensor in inputs]
        check_twin(ours, twin, *inputs, constants=constants, modes=["train"])


def _positive(x: torch.Tensor) -> torch.Tensor:
    """KLDivLoss's cases hold logarithms of negative numbers, after which every loss is NaN and nothing is compared."""
    return torch.where(x.isnan(), 0.5, x.abs()).detach().requires_grad_(x.requires_grad)


def test_no_class_is_left_out(torch_cases: dict[str, Any]) -> None:
    twins = {name for name in ds_core.__all__ if isinstance(getattr(torch.nn, name, None), type)}
    twins.remove("DataParallel")  # several processes; torch.nn's is several threads, another thing
    assert twins == {*LEAST, *WITHOUT_CASES}
    assert not [name for name in WITHOUT_CASES if f"nn.{name}" in torch_cases]
