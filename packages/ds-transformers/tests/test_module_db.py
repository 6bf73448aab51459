"""The cases that PyTorch tests its own Transformer modules with, tried on ours of the same names."""

from typing import Any

import ds_transformers
import hypothesis
import pytest
import torch
from ds_core.testing import check_twin
from ds_transformers import TransformerEncoder, TransformerEncoderLayer

# How many cases each class has at least, lest a change of PyTorch's list empty the test.
LEAST = {
    "MultiheadAttention": 64,
    "Transformer": 64,
    "TransformerDecoderLayer": 67,
    "TransformerEncoder": 39,
    "TransformerEncoderLayer": 39,
}
# The twin for which PyTorch has no cases: its own test has a grid over all arguments.
WITHOUT_CASES = {"TransformerDecoder"}


@pytest.fixture(scope="module")
def torch_cases() -> dict[str, Any]:
    """PyTorch's list of modules with inputs, by name. What its import changes for the whole process is put back."""
    import expecttest  # noqa: F401 (the next import needs it; here it is declared)
    from torch.testing._internal.common_modules import module_db

    hypothesis.settings.load_profile("default")
    torch.backends.__allow_nonbracketed_mutation_flag = True
    return {info.name: info for info in module_db}


def encoder_of(layer: torch.nn.TransformerEncoderLayer, num_layers: int) -> TransformerEncoder:
    """Our stack of the layer that PyTorch's case has built."""
    ours = TransformerEncoderLayer(
        layer.self_attn.embed_dim,
        layer.self_attn.num_heads,
        layer.linear1.out_features,
        layer.dropout.p,
        layer.activation,
        batch_first=layer.self_attn.batch_first,
        norm_first=layer.norm_first,
        bias=layer.linear1.bias is not None,
        dtype=torch.float64,
    )
    return TransformerEncoder(ours, num_layers)


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning", "ignore:The PyTorch API of nested:UserWarning")
def test_pytorchs_own_cases(name: str, torch_cases: dict[str, Any]) -> None:
    info = torch_cases[f"nn.{name}"]
    torch.manual_seed(0)
    cases = info.module_inputs_func(info, torch.device("cpu"), torch.float64, True, training=True)
    assert len(cases) >= LEAST[name]
    cls = encoder_of if name == "TransformerEncoder" else getattr(ds_transformers, name)
    for case in cases:
        made, given = case.constructor_input, case.forward_input
        ours, twin = cls(*made.args, **made.kwargs), info.module_cls(*made.args, **made.kwargs)
        check_twin(ours, twin, *given.args, kwargs=given.kwargs, modes=["train"])


def test_no_class_is_left_out(torch_cases: dict[str, Any]) -> None:
    twins = {name for name in ds_transformers.__all__ if isinstance(getattr(torch.nn, name, None), type)}
    assert twins == {*LEAST, *WITHOUT_CASES}
    assert not [name for name in WITHOUT_CASES if f"nn.{name}" in torch_cases]
