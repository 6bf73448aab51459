"""Metrics gathered over batches equal those over everything at once."""

import math
import warnings

import pytest
import torch
from ds_core import ShapeError
from ds_core.metrics import (
    F1,
    ROCAUC,
    Accuracy,
    ConfusionMatrix,
    FBeta,
    Mean,
    MeanAbsoluteError,
    MeanSquaredError,
    Perplexity,
    Precision,
    R2Score,
    Recall,
    perplexity,
)
from ds_core.plotting import new_figure


def test_weighted_mean():
    mean = Mean()
    assert math.isnan(mean.compute())
    mean.update(torch.tensor(2.0), 3)
    mean.update(4.0, 1)
    assert mean.compute() == 2.5
    mean.reset()
    mean.update(7.0)
    assert mean.compute() == 7.0
    with warnings.catch_warnings(action="error"):
        mean.update(torch.tensor(9.0, requires_grad=True))
    assert mean.compute() == 8.0


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


def test_accuracy_of_targets_that_are_no_class():
    with pytest.raises(ValueError, match=r"Accuracy: given the target 2, expected classes of 0 \.\.\. 1"):
        Accuracy().update(torch.zeros(1, 2), torch.tensor([2]))
    with pytest.raises(ValueError, match=r"Accuracy: given the target 0.5, expected classes"):
        Accuracy().update(torch.zeros(1, 2), torch.tensor([0.5]))
    with pytest.raises(ValueError, match=r"ROCAUC: given the target nan, expected classes"):
        ROCAUC().update(torch.zeros(1), torch.tensor([math.nan]))
    with pytest.raises(ValueError, match="top_k=0"):
        Accuracy(top_k=0)
    with pytest.raises(ShapeError, match="C >= 3"):
        Accuracy(top_k=3).update(torch.zeros(1, 2), torch.tensor([1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_accuracy_takes_the_first_of_equal_logits_and_nothing_for_nan(dtype):
    many = torch.zeros(1, 1000, dtype=dtype)
    for target, top_k, expected in [(0, 1, 1.0), (1, 1, 0.0), (1, 2, 1.0), (998, 999, 1.0), (999, 999, 0.0)]:
        accuracy = Accuracy(top_k=top_k)
        accuracy.update(many, torch.tensor([target]))
        assert accuracy.compute() == expected
    accuracy = Accuracy()
    accuracy.update(torch.tensor([[math.nan, 0.0], [math.nan, 0.0], [0.0, math.nan]]), torch.tensor([0, 1, 0]))
    assert accuracy.compute() == 0  # what argmax takes there is the NaN, whichever the target is
    accuracy = Accuracy(top_k=2)
    accuracy.update(torch.tensor([[math.nan, 0.0], [math.nan, 0.0]]), torch.tensor([0, 1]))
    assert accuracy.compute() == 0.5


def test_worked_example():
    target, predicted = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 0])
    matrix = ConfusionMatrix(2)
    matrix.update(predicted, target)
    assert matrix.compute().tolist() == [[2, 1], [1, 1]]
    averages = [(None, [0.6667, 0.5]), ("macro", 0.5833), ("weighted", 0.6000), ("micro", 0.6)]
    for cls in (Precision, Recall, F1):
        for average, expected in averages:
            metric = cls(2, average)
            metric.update(predicted, target)
            found = metric.compute()
            assert (found if average else found.tolist()) == pytest.approx(expected, abs=5e-5)
    area = ROCAUC()
    area.update(torch.tensor([0.1, 0.4, 0.8, 0.4, 0.3]), torch.tensor([0, 0, 0, 1, 1]))
    assert 3.5 + 2 == 5.5
    assert area.compute() == pytest.approx(0.4167, abs=5e-5)
    for metric, expected in [(MeanAbsoluteError(), 0.6667), (MeanSquaredError(), 0.6667), (R2Score(), 0.75)]:
        metric.update(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 3.0, 5.0]))
        assert metric.compute() == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("metric", [ConfusionMatrix(3), FBeta(3), Precision(3), Recall(3)])
def test_mistakes_in_classes(metric):
    name = type(metric).__name__
    with pytest.raises(
        ShapeError, match=rf"{name}: given output \(2, 4\) of torch.float32 .* expected logits \(2, 3\)"
    ):
        metric.update(torch.zeros(2, 4), torch.tensor([0, 1]))
    with pytest.raises(ShapeError, match=r"expected classes \(2,\)"):
        metric.update(torch.tensor([0]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=f"{name}: given the target -1"):
        metric.update(torch.tensor([0]), torch.tensor([-1]))
    with pytest.raises(ValueError, match=f"{name}: given the prediction 3"):
        metric.update(torch.tensor([3]), torch.tensor([1]))
    with pytest.raises(ValueError, match=f"{name}: given the target 1.5"):
        metric.update(torch.tensor([0]), torch.tensor([1.5]))
    with pytest.raises(ValueError, match="num_classes=0"):
        type(metric)(0)


def test_impossible_options():
    with pytest.raises(ValueError, match="FBeta: given beta=-1"):
        FBeta(3, -1)
    with pytest.raises(ValueError, match="beta=nan"):
        FBeta(3, math.nan)
    with pytest.raises(ValueError, match="Recall: given average='mean'"):
        Recall(3, "mean")
    with pytest.raises(ValueError, match="zero_division=2"):
        F1(3, zero_division=2)
    with pytest.raises(ValueError, match="zero_division='warn', expected 0, 1 or NaN"):
        F1(3, zero_division="warn")
    with pytest.raises(ValueError, match="ROCAUC: given average='micro'"):
        ROCAUC("micro")


def test_roc_auc_where_nothing_can_be_compared():
    assert math.isnan(ROCAUC().compute())
    area = ROCAUC(None)
    area.update(torch.eye(3)[:2], torch.tensor([0, 1]))
    assert [math.isnan(value) for value in area.compute().tolist()] == [False, False, True]
    with pytest.raises(ShapeError, match=r"scores of shape \(2,\)"):
        area.update(torch.zeros(2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="score that is NaN"):
        ROCAUC().update(torch.tensor([math.nan]), torch.tensor([1]))
    with pytest.raises(ValueError, match="given the target 2, expected classes"):
        ROCAUC().update(torch.tensor([0.5]), torch.tensor([2]))


def test_numbers_of_other_shapes_do_not_broadcast():
    for metric in (MeanAbsoluteError(), MeanSquaredError(), R2Score()):
        assert math.isnan(metric.compute())
        with pytest.raises(ShapeError, match=rf"{type(metric).__name__}: given output of shape \(3, 1\)"):
            metric.update(torch.zeros(3, 1), torch.zeros(3))
        metric.update(torch.zeros(0), torch.zeros(0))
        assert math.isnan(metric.compute())


def test_ignored_targets_count_nowhere():
    for metric in (ConfusionMatrix(2, ignore_index=9), Precision(2, ignore_index=9)):
        metric.update(torch.tensor([0, 1]), torch.tensor([9, 1]))
        assert metric.counts.tolist() == [[0, 0], [0, 1]]
        metric.reset()
        assert metric.counts.sum() == 0


def test_plot_of_a_confusion_matrix(tmp_path):
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]))
    matrix.plot(tmp_path / "matrix.png", ["cat", "dog"])
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")
    axes = new_figure().add_subplot()
    matrix.draw(axes, ["cat", "dog"])
    assert [text.get_text() for text in axes.texts] == ["1", "1", "0", "1"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]
    with pytest.raises(ValueError, match="given 1 class names, expected 2"):
        matrix.plot(tmp_path / "other.png", ["cat"])
    assert not (tmp_path / "other.png").exists()
