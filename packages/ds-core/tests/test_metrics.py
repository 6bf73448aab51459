"""Metrics gathered over batches equal those over everything at once."""

import math

import pytest
import torch
from ds_core.errors import ShapeError
from ds_core.metrics import Accuracy, Mean, Perplexity, perplexity


def test_weighted_mean():
    mean = Mean()
    assert math.isnan(mean.compute())
    mean.update(torch.tensor(2.0), 3)
    mean.update(4.0, 1)
    assert mean.compute() == 2.5
    mean.reset()
    mean.update(7.0)
    assert mean.compute() == 7.0


def test_perplexity():
    measure = Perplexity()
    measure.update(math.log(8), 2)
    measure.update(math.log(2), 2)
    assert measure.compute() == pytest.approx(4.0)
    assert perplexity(1e6) == math.inf
    assert math.isnan(Perplexity().compute())


def test_accuracy_ignores_what_it_should():
    accuracy = Accuracy(ignore_index=0)
    assert math.isnan(accuracy.compute())
    accuracy.update(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
    accuracy.update(torch.tensor([[[0.1, 0.9], [0.8, 0.2]]]), torch.tensor([[1, 0]]))
    assert accuracy.compute() == pytest.approx(2 / 3)
    accuracy.reset()
    assert math.isnan(accuracy.compute())


def test_accuracy_of_shapes_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"logits of shape \(2, 3\) and target of shape \(3,\)"):
        Accuracy().update(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64))
