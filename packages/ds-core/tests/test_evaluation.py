"""Evaluating and predicting over batches is what one batch of everything would give."""

import pytest
import torch
from ds_core import CrossEntropyLoss, Dropout, Linear, Module, Sequential, evaluate, no_record, predict
from ds_core.metrics import Accuracy, ConfusionMatrix
from ds_core.training.evaluation import evaluation_mode


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Sequential(Linear(4, 8), Dropout(0.5), Linear(8, 3)).double()


X = torch.randn(10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])


def batches(size):
    return zip(X.split(size), Y.split(size), strict=True)


@pytest.mark.parametrize("size", [1, 3, 10])
def test_loss_and_metrics_over_batches(model, size):
    metrics = {"accuracy": Accuracy(), "confusion": ConfusionMatrix(3)}
    metrics["accuracy"].update(torch.eye(3)[:1], torch.tensor([2]))  # what was counted before is forgotten
    found = evaluate(model, batches(size), CrossEntropyLoss(), metrics)
    model.eval()
    with no_record():
        logits = model(X)
        expected = CrossEntropyLoss()(logits, Y)
    assert list(found) == ["loss", "accuracy", "confusion"]
    assert found["loss"] == pytest.approx(float(expected), rel=1e-12)
    assert found["accuracy"] == pytest.approx(float((logits.argmax(1) == Y).double().mean()))
    assert int(found["confusion"].sum()) == 10
    assert list(evaluate(model, batches(size), metrics={"accuracy": Accuracy()})) == ["accuracy"]


@pytest.mark.parametrize("size", [1, 3, 10])
def test_predictions_over_batches(model, size):
    found = predict(model, X.split(size))
    assert not found.requires_grad
    model.eval()
    torch.testing.assert_close(found, model(X).detach())


class Two(Module):
    def __init__(self):
        self.inner = Linear(4, 2)

    def forward(self, x, y):
        return {"sum": self.inner(x + y), "pair": (x, None)}


def test_several_inputs_and_structured_outputs():
    model = Two()
    x, y = torch.randn(5, 4), torch.randn(5, 4)
    found = predict(model, zip(x.split(2), y.split(2), strict=True))
    torch.testing.assert_close(found["sum"], model(x, y)["sum"].detach())
    assert torch.equal(found["pair"][0], x)
    assert found["pair"][1] is None


def test_modes_are_put_back_whatever_happens(model):
    model.train()
    first, second, third = model.children()
    second.eval()
    seen = []

    def fail():
        seen.extend([*(module.training for module in model.modules()), torch.is_grad_enabled()])
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"), evaluation_mode(model):
        fail()
    assert not any(seen)
    assert [module.training for module in (model, first, second, third)] == [True, True, False, True]


def test_mistakes(model):
    with pytest.raises(ValueError, match="evaluate: given no batch"):
        evaluate(model, [])
    with pytest.raises(ValueError, match="predict: given no batch"):
        predict(model, [])
    with pytest.raises(ValueError, match="a metric is called loss"):
        evaluate(model, batches(3), CrossEntropyLoss(), {"loss": Accuracy()})
