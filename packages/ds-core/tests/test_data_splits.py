"""Parts that are disjoint, whole, and of the right proportions."""

import numpy as np
import pytest
import torch
from ds_core.data import Loader, TensorDataset, k_folds, split, split_indices
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split


@settings(max_examples=40, deadline=None)
@given(count=st.integers(6, 60), parts=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_every_row_is_in_one_part(count, parts, seed):
    shares = [part / sum(parts) for part in parts]
    exact = [share * count for share in shares]
    assume(min(exact) >= 1)
    found = split_indices(count, shares, seed=seed)
    assert sorted(torch.cat(found).tolist()) == list(range(count))
    assert all(abs(len(part) - size) < 1 for part, size in zip(found, exact, strict=True))
    again = split_indices(count, [len(part) for part in found], seed=seed)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


def test_the_largest_remainders_get_what_is_left():
    assert [len(part) for part in split_indices(11, (0.25, 0.5, 0.25))] == [3, 5, 3]
    assert [len(part) for part in split_indices(10, (0.81, 0.12, 0.07))] == [8, 1, 1]
    assert [len(part) for part in split_indices(100, (0.29, 0.71))] == [29, 71]
    assert [len(part) for part in split_indices(1797)] == [1437, 180, 180]
    assert [len(part) for part in split_indices(5, (3, 2))] == [3, 2]


def test_rows_are_drawn_at_random_and_by_the_seed_alone():
    orders = {tuple(split_indices(30, (15, 15), seed=seed)[0].tolist()) for seed in range(20)}
    assert len(orders) == 20
    state = torch.get_rng_state()
    first = split_indices(30, (15, 15), seed=3)[0]
    torch.manual_seed(77)
    assert torch.equal(first, split_indices(30, (15, 15), seed=3)[0])
    torch.set_rng_state(state)
    counts = torch.zeros(10)
    for seed in range(2000):
        counts[split_indices(10, (5, 5), seed=seed)[0]] += 1
    assert (counts - 1000).abs().max() < 110  # five standard deviations


@settings(max_examples=60, deadline=None)
@given(
    members=st.lists(st.integers(4, 15), min_size=1, max_size=8),
    parts=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    seed=st.integers(0, 99),
)
def test_classes_have_the_same_shares_in_every_part(members, parts, seed):
    labels = torch.cat([torch.full((n,), 10 * code) for code, n in enumerate(members)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    count = len(labels)
    shares = [part / sum(parts) for part in parts]
    assume(min(shares) * count >= 1 and min(members) >= len(parts))
    sizes = [len(part) for part in split_indices(count, shares)]
    found = split_indices(count, sizes, seed=seed, stratify=labels)
    assert sorted(torch.cat(found).tolist()) == list(range(count))
    assert [len(part) for part in found] == sizes
    for part, size in zip(found, sizes, strict=True):
        for code, n in enumerate(members):
            assert abs(int((labels[part] == 10 * code).sum()) - n * size / count) < 1


def test_what_rounding_leaves_over_goes_where_room_is():
    """Ten classes of five: every one has a single row for validation or test, five of them in each."""
    labels = torch.arange(50) % 10
    for part, n in zip(split_indices(50, stratify=labels), (4, 1, 1), strict=True):
        counts = labels[part].bincount(minlength=10)
        assert set(counts.tolist()) <= {n - 1, n}
        assert counts.sum() == len(part) == {4: 40, 1: 5}[n]


@pytest.mark.parametrize(
    ("members", "sizes"),
    [
        ((9, 6), (2, 9, 4)),
        ((3, 5, 7), (7, 1, 7)),
        ((8, 9), (12, 1, 1, 3)),
        ((8, 8, 2), (6, 12)),
        ((5, 5), (1, 9)),
        ((5, 4, 6), (2, 2, 2, 9)),
    ],
)
def test_a_class_makes_room_for_another(members, sizes):
    """If the first class took its largest remainder for good, the last could be rounded up nowhere."""
    labels = torch.arange(len(members)).repeat_interleave(torch.tensor(members))
    found = split_indices(len(labels), sizes, stratify=labels)
    assert [len(part) for part in found] == list(sizes)
    table = torch.stack([labels[part].bincount(minlength=len(members)) for part in found])
    exact = torch.tensor(sizes)[:, None] * torch.tensor(members) / len(labels)
    assert ((table - exact).abs() < 1).all()


def test_classes_are_as_scikit_learn_divides_them():
    """Where all is divided without remainder, the numbers are the same."""
    labels = np.repeat([0, 1, 2], [40, 20, 60])
    train, test = train_test_split(np.arange(120), test_size=0.25, stratify=labels)
    found = split_indices(120, (0.75, 0.25), stratify=labels)
    for ours, theirs in zip(found, (train, test), strict=True):
        assert np.bincount(labels[ours]).tolist() == np.bincount(labels[theirs]).tolist()


def test_the_rows_of_a_stratified_part_are_mixed():
    labels = torch.arange(100) // 50
    train, _ = split_indices(100, (80, 20), stratify=labels)
    assert 10 < int(labels[train][:40].sum()) < 30  # 40 if it were sorted by class, or 0


@pytest.mark.parametrize("labels", [["a", "b"] * 5, np.array([True, False] * 5), torch.tensor([7, -7] * 5)])
def test_labels_of_any_kind(labels):
    first, second = split_indices(10, (6, 4), stratify=labels)
    assert sorted(np.asarray(labels)[first].tolist()) == sorted(np.asarray(labels)[np.r_[0:6]].tolist())
    assert len(second) == 4


def test_parts_are_of_the_kind_that_was_given():
    x, y = torch.arange(10.0), torch.arange(10)
    tensor, _ = split(x, (7, 3), seed=1)
    pair, _ = split((x, y), (7, 3), seed=1)
    dataset, rest = split(TensorDataset(x, y), (7, 3), seed=1)
    samples, _ = split(list(range(10)), (7, 3), seed=1)
    index = split_indices(10, (7, 3), seed=1)[0]
    assert torch.equal(tensor, x[index])
    assert isinstance(pair, tuple)
    assert torch.equal(pair[1], y[index])
    assert isinstance(dataset, TensorDataset)
    assert torch.equal(dataset.tensors[1], y[index])
    assert list(samples) == index.tolist()
    assert sorted([*dataset.tensors[1].tolist(), *rest.tensors[1].tolist()]) == list(range(10))
    single, target = Loader(split([(float(i), i) for i in range(10)], (7, 3), seed=1)[0], None).batch(0)
    assert target.tolist() == index.tolist() == single.tolist()


@pytest.mark.parametrize("stratify", [None, torch.arange(23) % 2])
def test_each_row_is_validated_once(stratify):
    folds = list(k_folds(torch.arange(23), 4, seed=2, stratify=stratify))
    assert [len(validation) for _, validation in folds] == [6, 6, 6, 5]
    assert sorted(torch.cat([validation for _, validation in folds]).tolist()) == list(range(23))
    for training, validation in folds:
        assert sorted(torch.cat([training, validation]).tolist()) == list(range(23))
    if stratify is not None:
        assert all(2 <= int(stratify[validation].sum()) <= 3 for _, validation in folds)
    assert not torch.equal(folds[0][1], next(k_folds(torch.arange(23), 4, seed=3))[1])


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((0.5, 0.4), r"given shares \(0.5, 0.4\), expected fractions with sum 1"),
        ((1.2, -0.2), "expected fractions with sum 1"),
        ((6, 3), "sum 9, expected 10"),
        ((0.99, 0.01), r"parts of \[10, 0\], expected at least 1 in each"),
        ((10, 0), "expected at least 1 in each"),
        ((11, -1), "expected at least 1 in each"),
        ((), "sum 0, expected 10"),
    ],
)
def test_shares_that_do_not_fit(shares, message):
    with pytest.raises(ValueError, match=message):
        split_indices(10, shares)


def test_labels_that_do_not_fit():
    with pytest.raises(ValueError, match=r"class 'rare' has 2 row\(s\), expected at least 3"):
        split_indices(10, stratify=["often"] * 8 + ["rare"] * 2)
    assert [len(part) for part in split_indices(10, (0.5, 0.5), stratify=["often"] * 8 + ["rare"] * 2)] == [5, 5]
    with pytest.raises(ValueError, match=r"labels of shape \(9,\), expected \(10,\)"):
        split_indices(10, stratify=[0] * 9)
    with pytest.raises(ValueError, match=r"labels of shape \(10, 2\)"):
        split_indices(10, stratify=torch.zeros(10, 2))


@pytest.mark.parametrize("folds", [1, 11])
def test_folds_that_do_not_fit(folds):
    with pytest.raises(ValueError, match=f"given folds={folds} of 10 rows, expected 2 to 10"):
        list(k_folds(torch.arange(10), folds))
