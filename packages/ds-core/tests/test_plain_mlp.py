"""The MLP of the recipes trained on plain pairs, optimizer included: loss, gradients and weights of the fast path."""

import pkgutil

import pytest
import torch
from ds_core import AdamW, CrossEntropyLoss, clip_grad_norm_, is_plain, plain, record
from ds_core.recipes.mlp_model import mlp
from ds_core.testing import CheckFailed
from ds_core.testing.failure import compare

STEPS, ROWS, INPUTS, CLASSES = 5, 16, 6, 4


class Run:
    """One model, its loss and its optimizer; the same start each time."""

    def __init__(self, norm):
        torch.manual_seed(0)
        self.model = mlp(INPUTS, [12, 8], CLASSES, activation="gelu", norm=norm).double()
        self.criterion = CrossEntropyLoss(label_smoothing=0.1)
        self.optimizer = AdamW(self.model.parameters(), lr=0.01, weight_decay=0.1, eps=1e-6)

    def step(self, x, target):
        """Loss and gradients by name."""
        with record():
            loss = self.criterion(self.model(x), target)
            self.model.backward(self.criterion.backward())
        gradients = {f"d{name}": parameter.grad.clone() for name, parameter in self.model.named_parameters()}
        norm = clip_grad_norm_(self.model.parameters(), 0.5)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"loss": loss, **gradients, "norm": norm}


def check(norm):
    fast, slow = Run(norm), Run(norm)
    generator = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        x = torch.randn(ROWS, INPUTS, generator=generator, dtype=torch.float64)
        target = torch.randint(CLASSES, (ROWS,), generator=generator)
        slow.model.load_state_dict(fast.model.state_dict())
        wanted = {**fast.step(x, target), **fast.model.state_dict()}
        with plain():
            given = {**slow.step(x, target), **slow.model.state_dict()}
        assert given.keys() == wanted.keys()
        for name, value in given.items():
            compare("mlp", "plain", f"{name}, step {step + 1}", value, wanted[name], 1e-12, 1e-12, ("plain", "fast"))


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_loss_gradients_and_weights_are_those_of_the_fast_path(norm):
    check(norm)


@pytest.mark.parametrize(
    ("faulty", "found"),
    [("ds_core.layers.linear.linear", "loss, step 1"), ("ds_core.AdamW.direction", "1.weight, step 1")],
)
def test_a_fault_in_the_fast_path_is_found(faulty, found, monkeypatch):
    module, _, name = faulty.rpartition(".")
    owner = pkgutil.resolve_name(module)
    right = getattr(owner, name)

    def wrong(*args):
        result = right(*args)
        if not is_plain():
            (result[1] if isinstance(result, tuple) else result).mul_(1 + 1e-9)
        return result

    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(CheckFailed, match=found):
        check("layer")
