"""Chunks cover every element once, are views, and of all tensors take the same indices."""

import pytest
import torch
from ds_core.speed.chunks import chunks


@pytest.mark.parametrize(("numbers", "sizes"), [(0, [0]), (1, [1]), (10, [10]), (11, [10, 1]), (35, [10, 10, 10, 5])])
def test_chunks_cover_everything_once_and_share_memory(numbers: int, sizes: list[int]) -> None:
    values, others = torch.zeros(numbers), torch.arange(float(numbers))
    parts = chunks([values, others], 10)
    assert [part.numel() for part, _ in parts] == sizes
    for part, other in parts:
        part.add_(other + 1)
    assert torch.equal(values, others + 1)


def test_chunks_of_a_matrix_are_flat() -> None:
    parts = chunks([torch.zeros(7, 5)], 10)
    assert [part.shape for (part,) in parts] == [(10,), (10,), (10,), (5,)]


@pytest.mark.parametrize("strided", [0, 1])
def test_small_and_strided_tensors_come_whole(strided: int) -> None:
    tensors = [torch.zeros(7, 5), torch.zeros(7, 5)]
    assert [part is tensor for part, tensor in zip(*chunks(tensors, 35), tensors, strict=True)] == [True, True]
    tensors[strided] = torch.zeros(5, 7).t()
    assert [part is tensor for part, tensor in zip(*chunks(tensors, 10), tensors, strict=True)] == [True, True]
