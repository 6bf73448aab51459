"""The cases that PyTorch tests its own modules with, tried on the layers of the same names."""

import copy
from typing import Any

import ds_rnn
import hypothesis
import pytest
import torch
from ds_core.testing import check_twin

# How many cases each class has at least, lest a change of PyTorch's list empty the test.
LEAST = {"GRU": 16, "GRUCell": 2, "LSTM": 32, "LSTMCell": 2, "RNN": 32, "RNNCell": 3}


@pytest.fixture(scope="module")
def torch_cases() -> dict[str, Any]:
    """PyTorch's list of modules with inputs, by name. What its import changes for the whole process is put back."""
    import expecttest  # noqa: F401 (the next import needs it; here it is declared)
    from torch.testing._internal.common_modules import module_db

    hypothesis.settings.load_profile("default")
    torch.backends.__allow_nonbracketed_mutation_flag = True
    return {info.name: info for info in module_db}


@pytest.mark.parametrize("name", LEAST)
def test_pytorchs_own_cases(name: str, torch_cases: dict[str, Any]) -> None:
    info = torch_cases[f"nn.{name}"]
    torch.manual_seed(1)
    cases = info.module_inputs_func(info, torch.device("cpu"), torch.float64, True, training=True)
    assert len(cases) >= LEAST[name]
    for case in cases:
        made, given = case.constructor_input, case.forward_input
        ours, twin = getattr(ds_rnn, name)(*made.args, **made.kwargs), info.module_cls(*made.args, **made.kwargs)
        inputs = given.args
        if len(inputs) + len(given.kwargs) == 1:  # backward gives a gradient for the states that stand in
            inputs = (*inputs, zero_states(twin, *inputs))
        check_twin(ours, twin, *inputs, kwargs=given.kwargs, modes=["train"])


def zero_states(twin: Any, x: torch.Tensor) -> Any:
    """What a layer or cell takes if it is given no states."""
    with torch.no_grad():
        last = copy.deepcopy(twin).to(x.dtype)(x)
    if isinstance(twin, torch.nn.RNNBase):
        last = last[1]
    return tuple(map(torch.zeros_like, last)) if isinstance(last, tuple) else torch.zeros_like(last)


def test_no_class_is_left_out() -> None:
    assert {name for name in ds_rnn.__all__ if isinstance(getattr(torch.nn, name, None), type)} == {*LEAST}
