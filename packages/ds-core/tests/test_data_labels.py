"""Class numbers as vectors, and the weights of classes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ds_core.data import class_weights, one_hot
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight


@settings(max_examples=30, deadline=None)
@given(shape=st.lists(st.integers(0, 4), max_size=3), classes=st.integers(1, 6), infer=st.booleans(), data=st.data())
def test_one_hot_is_pytorchs(shape, classes, infer, data):
    labels = torch.randint(classes, shape, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    given = -1 if infer and labels.numel() else classes
    found, expected = one_hot(labels, given), F.one_hot(labels, given)
    assert torch.equal(found, expected)
    assert found.dtype == expected.dtype


def test_one_hot_of_other_types():
    found = one_hot(torch.tensor([2, 0], dtype=torch.uint8), 3, torch.float64)
    assert found.tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    assert found.dtype == torch.float64


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (torch.tensor([0, 3]), 3, "labels from 0 to 3, expected 0 to 2"),
        (torch.tensor([-1, 1]), 3, "labels from -1 to 1, expected 0 to 2"),
        (torch.tensor([-1, 1]), -1, "labels from -1 to 1, expected 0 to 1"),
        (torch.tensor([1.0]), 3, r"dtype torch.float32, expected whole numbers"),
        (torch.tensor([True]), 3, r"dtype torch.bool, expected whole numbers"),
        (torch.zeros(0, dtype=torch.int64), -1, "num_classes=-1 and 0 labels"),
        (torch.tensor([0]), 0, "num_classes=0"),
        (torch.tensor([0]), -2, "num_classes=-2"),
    ],
)
def test_labels_that_are_none(labels, classes, message):
    with pytest.raises(ValueError, match=message):
        one_hot(labels, classes)


@settings(max_examples=30, deadline=None)
@given(members=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_weights_are_scikit_learns(members):
    labels = np.repeat(np.arange(len(members)), members)
    expected = compute_class_weight("balanced", classes=np.arange(len(members)), y=labels)
    found = class_weights(torch.from_numpy(labels), dtype=torch.float64)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-15)
    assert torch.equal(found, class_weights(torch.from_numpy(labels), len(members), torch.float64))


def test_every_class_counts_as_much():
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    weights = class_weights(labels)
    assert weights.dtype == torch.float32
    assert [float(weights[labels][labels == code].sum()) for code in range(3)] == pytest.approx([2.0, 2.0, 2.0])


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (torch.tensor([0, 2]), None, "no label is of class 1, expected"),
        (torch.tensor([0, 1]), 4, "no label is of class 2, 3, expected"),
        (torch.tensor([0, 4]), 4, "labels from 0 to 4, expected 0 to 3"),
        (torch.tensor([-1, 0]), None, "labels from -1 to 0"),
        (torch.tensor([0.0]), None, "dtype torch.float32"),
        (torch.tensor([True]), None, "dtype torch.bool"),
        (torch.tensor([[0]]), None, r"shape \(1, 1\)"),
        (torch.zeros(0, dtype=torch.int64), None, r"shape \(0,\)"),
    ],
)
def test_no_weights_without_labels(labels, classes, message):
    with pytest.raises(ValueError, match=message):
        class_weights(labels, classes)
