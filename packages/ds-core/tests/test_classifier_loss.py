"""The loss of a classifier; against transformers' where there is a classifier, in ds-cnn and ds-zoo."""

import math
from dataclasses import dataclass

import pytest
import torch
from ds_core import ClassifierLoss, ClassifierOutput, Loss, ShapeError, record
from ds_core.testing import check_loss


def test_worked_example():
    logits = torch.tensor([[0.0, math.log(3)], [5.0, -2.0]], dtype=torch.float64)
    criterion = ClassifierLoss(2)
    with record():
        loss = criterion(ClassifierOutput(logits), torch.tensor([0, -100]))
        gradients = criterion.backward()
    assert float(loss) == pytest.approx(1.3863, abs=5e-5)
    assert gradients.logits.tolist() == [[pytest.approx(-0.75), pytest.approx(0.75)], [0, 0]]
    with record():
        loss = criterion(ClassifierOutput(logits[:1]), torch.tensor([[0.0, 1.0]], dtype=torch.float64))
        gradients = criterion.backward()
    # (log 2 + log(4/3)) / 2, and (sigmoid(z) - t) / 2
    assert float(loss) == pytest.approx(0.4904, abs=5e-5)
    assert gradients.logits.tolist() == [[pytest.approx(0.25), pytest.approx(-0.125)]]


@pytest.mark.parametrize(
    ("labels", "problem_type"),
    [
        (torch.tensor([0, 2, -100]), None),
        (torch.rand(3, 3, dtype=torch.float64), None),
        (torch.rand(3, 3, dtype=torch.float64), "regression"),
    ],
)
def test_loss(labels, problem_type):
    output = ClassifierOutput(torch.randn(3, 3, dtype=torch.float64))
    check_loss(ClassifierLoss(3, problem_type), output, labels)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_regression_of_one_number(shape):
    output, labels = ClassifierOutput(torch.tensor([[0.5], [-1.0], [2.0]], dtype=torch.float64)), torch.arange(3.0)
    criterion = ClassifierLoss(1)
    check_loss(criterion, output, labels.double().reshape(shape))
    with record():
        loss = criterion(output, labels.reshape(shape))
        gradients = criterion.backward()
    assert float(loss) == pytest.approx((0.5**2 + 2.0**2 + 0.0**2) / 3)
    assert gradients.logits.flatten().tolist() == pytest.approx([1 / 3, -4 / 3, 0.0])


def test_is_a_loss():
    assert isinstance(ClassifierLoss(2), Loss)


@pytest.mark.parametrize(
    ("labels", "problem_type"),
    [
        (torch.tensor([0, -100, 2, 1]), None),
        (torch.tensor([[0.0, 1, 1], [1, 0, 0], [0.5, 0, 1], [0, 0, 0]]), None),
        (torch.tensor([[0.3, 1, 1], [1, -2, 0], [0.5, 0, 1], [0, 4, 0]]), "regression"),
    ],
)
def test_parts_of_a_batch_count_by_what_they_hold(labels, problem_type):
    torch.manual_seed(0)
    logits = torch.randn(4, 3, dtype=torch.float64)
    criterion = ClassifierLoss(3, problem_type)

    def loss_and_gradient(rows, denominator):
        with record():
            loss = criterion(ClassifierOutput(logits[rows]), labels[rows], denominator=denominator)
            return loss, criterion.backward().logits

    parts = [slice(0, 2), slice(2, 4)]
    denominator = sum(criterion.denominator(labels[part]) for part in parts)
    losses, gradients = zip(*(loss_and_gradient(part, denominator) for part in parts), strict=True)
    whole, expected = loss_and_gradient(slice(None), None)
    torch.testing.assert_close(sum(losses), whole)
    torch.testing.assert_close(torch.cat(gradients), expected)


def test_gradients_come_in_the_dataclass_that_was_given():
    @dataclass
    class Output:
        last_hidden_state: torch.Tensor
        logits: torch.Tensor

    criterion = ClassifierLoss(2)
    with record():
        criterion(Output(torch.zeros(1), torch.zeros(1, 2)), torch.tensor([1]))
        gradients = criterion.backward()
    assert isinstance(gradients, Output)
    assert gradients.last_hidden_state is None
    assert gradients.logits.tolist() == [[0.5, -0.5]]


def test_bad_input():
    with pytest.raises(TypeError, match="ClassifierLoss: given num_labels=True"):
        ClassifierLoss(True)
    with pytest.raises(ValueError, match="ClassifierLoss: given num_labels=0, expected 1 or more"):
        ClassifierLoss(0)
    with pytest.raises(ValueError, match="problem_type is 'ranking', expected one of"):
        ClassifierLoss(2, "ranking")
    criterion = ClassifierLoss(3)
    with pytest.raises(ShapeError, match="given an output without logits"):
        criterion(ClassifierOutput(), torch.tensor([0]))
    with pytest.raises(ShapeError, match="given input"):
        criterion(ClassifierOutput(torch.zeros(2, 3)), torch.tensor([0]))
    with pytest.raises(IndexError):
        criterion(ClassifierOutput(torch.zeros(1, 3)), torch.tensor([3]))
