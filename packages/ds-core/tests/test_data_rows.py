"""Rows: of tensors, and of data sets that give one sample at a time."""

import numpy as np
import pytest
import torch
from ds_core import ShapeError
from ds_core.data import Stacked, TensorDataset, stack
from ds_core.data.samples import Rows, as_rows
from torch.utils.data import Subset


@pytest.fixture
def dataset():
    return TensorDataset(torch.arange(12.0).view(4, 3), torch.tensor([5, 6, 7, 8]))


@pytest.mark.parametrize(
    "index",
    [2, -1, slice(1, 3), slice(None, None, 2), torch.tensor([3, 0, 0]), torch.tensor([1, 0, 0, 1]).bool()],
)
def test_tensors_are_indexed_as_pytorch_does(dataset, index):
    twin = torch.utils.data.TensorDataset(*dataset.tensors)
    assert len(dataset) == len(twin) == 4
    for found, expected in zip(dataset[index], twin[index], strict=True):
        assert torch.equal(found, expected)


def test_rows_can_be_asked_for_by_a_list(dataset):
    assert dataset[[1, 3]][1].tolist() == [6, 8]


def test_the_rows_of_a_slice_are_views(dataset):
    assert dataset.rows(slice(1, 3))[0].data_ptr() == dataset.tensors[0][1].data_ptr()
    assert isinstance(dataset, Rows)


def test_iterating_ends(dataset):
    assert [int(y) for _, y in dataset] == [5, 6, 7, 8]
    with pytest.raises(IndexError):
        dataset[4]


def test_to_another_device_and_shown(dataset):
    assert {tensor.device.type for tensor in dataset.to("meta").tensors} == {"meta"}
    assert repr(dataset) == "TensorDataset((4, 3) float32, (4,) int64)"


@pytest.mark.parametrize("shapes", [[], [(3,), (4,)], [()], [(2, 3), (3, 2)]])
def test_tensors_that_do_not_belong_together(shapes):
    with pytest.raises(ShapeError, match="expected tensors of the same first dimension"):
        TensorDataset(*(torch.zeros(shape) for shape in shapes))


def test_no_tensor():
    with pytest.raises(TypeError, match="given ndarray as tensor 1"):
        TensorDataset(torch.zeros(2), np.zeros(2))


class Samples:
    """Sample i is ([i, i], i / 2, i)."""

    def __len__(self):
        return 5

    def __getitem__(self, number):
        return np.full(2, number, dtype=np.float32), number / 2, number


@pytest.mark.parametrize("index", [slice(1, 4), torch.tensor([1, 2, 3]), slice(-4, -1)])
def test_samples_are_stacked(index):
    array, half, number = Stacked(Samples()).rows(index)
    assert torch.equal(array, torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))
    assert torch.equal(half, torch.tensor([0.5, 1.0, 1.5]))
    assert torch.equal(number, torch.tensor([1, 2, 3]))
    assert (array.dtype, half.dtype, number.dtype) == (torch.float32, torch.float32, torch.int64)


def test_a_data_set_that_gives_many_at_once_is_asked_once():
    class Many(Samples):
        calls = 0

        def __getitems__(self, numbers):
            Many.calls += 1
            assert numbers == [4, 0]
            return [self[number] for number in numbers]

    assert Stacked(Many()).rows(torch.tensor([4, 0]))[2].tolist() == [4, 0]
    assert Many.calls == 1


def test_a_subset_of_pytorch():
    assert Stacked(Subset(Samples(), [4, 2])).rows(slice(0, 2))[2].tolist() == [4, 2]


def test_another_collate():
    class Dicts(Samples):
        def __getitem__(self, number):
            return {"x": number}

    def collate(samples):
        return torch.tensor([sample["x"] for sample in samples]), torch.zeros(len(samples))

    assert Stacked(Dicts(), collate).rows(slice(0, 3))[0].tolist() == [0, 1, 2]
    with pytest.raises(TypeError, match=r"given samples of dict, .* takes a function"):
        Stacked(Dicts()).rows(slice(0, 3))


def test_one_part_is_a_tuple_of_one():
    class Numbers(Samples):
        def __getitem__(self, number):
            return number

    assert [part.tolist() for part in Stacked(Numbers()).rows(slice(0, 2))] == [[0, 1]]
    assert Stacked(Numbers())[3] == 3


def test_parts_within_parts():
    samples = [((torch.tensor(1), 2), True), ((torch.tensor(3), 4), False)]
    (first, second), third = stack(samples)
    assert (first.tolist(), second.tolist(), third.tolist()) == ([1, 3], [2, 4], [True, False])


def test_samples_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"samples of shapes \[\(2,\), \(3,\)\]"):
        stack([torch.zeros(2), torch.zeros(3)])
    with pytest.raises(ShapeError, match=r"samples of \[1, 2\] parts"):
        stack([(1, 2), (1,)])


def test_no_data_set():
    with pytest.raises(TypeError, match="given generator, expected a data set"):
        Stacked(x for x in range(3))


def test_what_rows_are_made_of(dataset):
    assert as_rows(dataset) is dataset
    assert [type(as_rows(data)) for data in (torch.zeros(3), (torch.zeros(3), torch.ones(3)), Samples())] == [
        TensorDataset,
        TensorDataset,
        Stacked,
    ]
    stacked = Stacked(Samples())
    assert as_rows(stacked) is stacked
