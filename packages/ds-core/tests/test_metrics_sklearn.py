"""Metrics against scikit-learn's on random cases, gathered over batches."""

import math
import warnings

import numpy as np
import pytest
import sklearn.metrics
import torch
from ds_core.metrics import (
    F1,
    ROCAUC,
    Accuracy,
    ConfusionMatrix,
    FBeta,
    MeanAbsoluteError,
    MeanSquaredError,
    Precision,
    R2Score,
    Recall,
)
from hypothesis import given, settings
from hypothesis import strategies as st

CASES = settings(max_examples=60, deadline=None)


@st.composite
def classified(draw):
    """Targets and predictions of `count` classes, some of which are absent from one, the other or both; and batches."""
    count = draw(st.integers(1, 6))
    size = draw(st.integers(1, 30))
    target = draw(st.lists(st.sampled_from(draw(present(count))), min_size=size, max_size=size))
    predicted = draw(st.lists(st.sampled_from(draw(present(count))), min_size=size, max_size=size))
    return count, torch.tensor(target), torch.tensor(predicted), draw(st.integers(1, size))


def present(count):
    return st.lists(st.integers(0, count - 1), min_size=1, unique=True)


def gathered(metric, outputs, targets, batch):
    for output, target in zip(outputs.split(batch), targets.split(batch), strict=True):
        metric.update(output, target)
    return metric.compute()


@CASES
@given(classified(), st.sampled_from([0.0, 1.0, math.nan]), st.sampled_from(["micro", "macro", "weighted", None]))
def test_precision_recall_and_f(case, zero_division, average):
    count, target, predicted, batch = case
    options = {"average": average, "zero_division": zero_division, "labels": range(count) if average is None else None}
    pairs = [
        (Precision(count, average, zero_division), sklearn.metrics.precision_score),
        (Recall(count, average, zero_division), sklearn.metrics.recall_score),
        (F1(count, average, zero_division), sklearn.metrics.f1_score),
        (FBeta(count, 0.5, average, zero_division), lambda *a, **k: sklearn.metrics.fbeta_score(*a, beta=0.5, **k)),
        (FBeta(count, 0.0, average, zero_division), lambda *a, **k: sklearn.metrics.fbeta_score(*a, beta=0, **k)),
        (FBeta(count, math.inf, average, zero_division), sklearn.metrics.recall_score),
    ]
    for metric, twin in pairs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of averages of nothing, which NumPy also gives
            expected = twin(target.numpy(), predicted.numpy(), **options)
        found = gathered(metric, predicted, target, batch)
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12, equal_nan=True, err_msg=repr(metric))


@CASES
@given(classified())
def test_confusion_matrix(case):
    count, target, predicted, batch = case
    expected = sklearn.metrics.confusion_matrix(target, predicted, labels=range(count))
    assert gathered(ConfusionMatrix(count), predicted, target, batch).tolist() == expected.tolist()
    logits = torch.nn.functional.one_hot(predicted, count).double()
    assert gathered(ConfusionMatrix(count), logits, target, batch).tolist() == expected.tolist()


@pytest.mark.parametrize("top_k", [1, 2, 4, 7])
def test_accuracy_of_the_top_k(top_k):
    generator = torch.Generator().manual_seed(top_k)
    logits = torch.randn(200, 7, generator=generator, dtype=torch.float64)
    target = torch.randint(7, (200,), generator=generator)
    expected = sklearn.metrics.top_k_accuracy_score(target, logits, k=top_k, labels=range(7))
    assert gathered(Accuracy(top_k=top_k), logits, target, 33) == pytest.approx(expected, rel=1e-12)


@CASES
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=40), st.integers(1, 40))
def test_roc_auc_with_ties(pairs, batch):
    target, scores = torch.tensor(pairs).T
    if target.min() == target.max():
        pairs[0] = (1 - pairs[0][0], pairs[0][1])
        target, scores = torch.tensor(pairs).T
    expected = sklearn.metrics.roc_auc_score(target, scores)
    assert gathered(ROCAUC(), scores.float(), target, batch) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("average", ["macro", "weighted", None])
def test_roc_auc_of_several_classes(average):
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(90, 4, generator=generator, dtype=torch.float64)
    scores = scores / scores.sum(1, keepdim=True)
    target = torch.randint(4, (90,), generator=generator)
    expected = sklearn.metrics.roc_auc_score(target, scores, average=average, multi_class="ovr")
    np.testing.assert_allclose(np.asarray(gathered(ROCAUC(average), scores, target, 17)), expected, rtol=1e-12)


@CASES
@given(st.integers(2, 50), st.integers(1, 50), st.sampled_from([0.0, 1e6]), st.integers(0, 1000))
def test_errors_of_numbers(size, batch, offset, seed):
    generator = torch.Generator().manual_seed(seed)
    target = offset + torch.randn(size, generator=generator, dtype=torch.float64)
    output = target + torch.randn(size, generator=generator, dtype=torch.float64)
    for metric, twin in [
        (MeanAbsoluteError(), sklearn.metrics.mean_absolute_error),
        (MeanSquaredError(), sklearn.metrics.mean_squared_error),
        (MeanSquaredError(root=True), sklearn.metrics.root_mean_squared_error),
    ]:
        assert gathered(metric, output, target, batch) == pytest.approx(twin(target, output), rel=1e-8)
    # R^2 is 1 less a quotient, which may be close to 1: digits are lost then, here and there
    r2, expected = gathered(R2Score(), output, target, batch), sklearn.metrics.r2_score(target, output)
    assert 1 - r2 == pytest.approx(1 - expected, rel=1e-8)


def test_r2_of_equal_targets():
    equal = torch.full((4,), 3.0)
    for output in (equal, equal + 1):
        expected = sklearn.metrics.r2_score(equal, output)
        assert gathered(R2Score(), output, equal, 3) == expected
