"""torch.nn modules inside record(): refused, since nobody would bring their gradients."""

import threading

import pytest
import torch
from ds_core import Linear, Module, no_record, record
from ds_core.engine.foreign import ForeignModuleError
from ds_core.interop import from_torch

X = torch.ones(2, 3)


def test_a_torch_module_inside_record_is_refused_with_the_way_out():
    foreign = torch.nn.Linear(3, 4)
    with pytest.raises(ForeignModuleError) as caught, record():
        foreign(X)
    assert str(caught.value) == (
        "Linear was called inside record(), where it would get no gradient: ds_core.interop.from_torch makes a layer "
        "of it, whose gradient autograd finds; call it under no_record() if it needs none"
    )


def test_hidden_in_a_function_or_a_loss_it_is_refused_all_the_same():
    hidden = torch.nn.GELU()

    class Mixed(Module):
        def forward(self, x):
            return hidden(x)

    for call in (lambda: Mixed()(X), lambda: torch.nn.CrossEntropyLoss()(X, torch.zeros(2, dtype=torch.int64))):
        with pytest.raises(ForeignModuleError), record():
            call()


def test_the_ways_out():
    foreign = torch.nn.Linear(3, 4)
    with record():
        with no_record():
            assert foreign(X).grad_fn is None
        layer = from_torch(foreign)
        layer.backward(layer(X))
    assert foreign.weight.grad is not None


def test_afterwards_and_in_other_threads_everything_is_as_before():
    hooks = torch.nn.modules.module._global_forward_pre_hooks
    before = len(hooks)
    foreign = torch.nn.Linear(3, 4)
    found = []
    with record():
        thread = threading.Thread(target=lambda: found.append(foreign(X).grad_fn))
        thread.start()
        thread.join()
        with record():
            pass
        assert len(hooks) == before + 1
    assert found[0] is not None
    with pytest.raises(ValueError, match="mine"), record():
        raise ValueError("mine")
    assert len(hooks) == before
    assert foreign(X).grad_fn is not None


def test_a_module_that_checkpoints_runs_its_forward_again_in_backward():
    class Checkpointed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(3, 4)

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.inner, x, use_reentrant=False)

    module = Checkpointed()
    layer = from_torch(module)
    with record():
        layer.backward(layer(X))
    assert module.inner.weight.grad is not None


def test_a_layer_that_is_recorded_inside_a_torch_module_is_not_meant():
    class Outer(torch.nn.Module):
        def forward(self, x):
            layer = Linear(3, 4)
            with record():
                return layer.backward(layer(x))

    assert Outer()(X).shape == (2, 3)
