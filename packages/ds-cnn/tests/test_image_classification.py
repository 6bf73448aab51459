"""The loss of an image classifier; against transformers' in test_resnet_pretrained.py."""

import math

import pytest
import torch
from ds_cnn import ImageClassificationLoss, ImageClassifierOutput
from ds_core import Loss, ShapeError, record
from ds_core.testing import check_loss


def test_worked_example():
    logits = torch.tensor([[0.0, math.log(3)], [5.0, -2.0]], dtype=torch.float64)
    criterion = ImageClassificationLoss(2)
    with record():
        loss = criterion(ImageClassifierOutput(logits), torch.tensor([0, -100]))
        gradients = criterion.backward()
    assert float(loss) == pytest.approx(1.3863, abs=5e-5)
    assert gradients.logits.tolist() == [[pytest.approx(-0.75), pytest.approx(0.75)], [0, 0]]
    with record():
        loss = criterion(ImageClassifierOutput(logits[:1]), torch.tensor([[0.0, 1.0]], dtype=torch.float64))
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
    output = ImageClassifierOutput(torch.randn(3, 3, dtype=torch.float64))
    check_loss(ImageClassificationLoss(3, problem_type), output, labels)


def test_is_a_loss():
    assert isinstance(ImageClassificationLoss(2), Loss)


def test_bad_input():
    with pytest.raises(ValueError, match="problem_type is 'ranking', expected one of"):
        ImageClassificationLoss(2, "ranking")
    criterion = ImageClassificationLoss(3)
    with pytest.raises(ShapeError, match="given an output without logits"):
        criterion(ImageClassifierOutput(), torch.tensor([0]))
    with pytest.raises(ShapeError, match="given input"):
        criterion(ImageClassifierOutput(torch.zeros(2, 3)), torch.tensor([0]))
    with pytest.raises(IndexError):
        criterion(ImageClassifierOutput(torch.zeros(1, 3)), torch.tensor([3]))
