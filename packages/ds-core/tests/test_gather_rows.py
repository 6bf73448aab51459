"""GatherRows in two and three processes by gloo, against the joined rows and the sum of the gradients."""

import gathering_processes
import pytest
import torch
from ds_core import Linear, Sequential, record
from ds_core.distributed.gather_rows import GatherRows, gathered_rows
from ds_core.testing import check_layer
from several_processes import together

HOWS = ("handwritten", "autograd", "parameters")


def make_case(counts, trailing, how, none_at=None, dtype=torch.float64):
    generator = torch.Generator().manual_seed(sum(counts))
    parts = [torch.randn(n, *trailing, generator=generator, dtype=torch.float64).to(dtype) for n in counts]
    shape = (sum(counts), *trailing)
    gradients = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in counts]
    return parts, [None if rank == none_at else dy for rank, dy in enumerate(gradients)], how


CASES = [
    *[
        make_case(counts, trailing, how)
        for counts in [(3, 3), (2, 5), (4, 1)]
        for trailing in [(), (2, 3)]
        for how in HOWS
    ],
    *[make_case((0, 2), (3,), how) for how in HOWS],  # a process without rows takes part
    *[make_case((2, 3), (2,), how, none_at=0) for how in HOWS],
    make_case((2, 3), (2,), "handwritten", dtype=torch.bfloat16),
    make_case((2, 3), (2,), "handwritten", dtype=torch.float32),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    by_rank = together(2, gathering_processes.passes, CASES, folder=tmp_path_factory.mktemp("gloo"))
    return list(zip(*by_rank, strict=True))


@pytest.mark.parametrize("number", range(len(CASES)))
def test_two_processes(number, found):
    parts, gradients, how = CASES[number]
    joined = torch.cat(parts)
    total = sum(dy for dy in gradients if dy is not None)
    for own, (y, dx), expected in zip(parts, found[number], total.split([len(part) for part in parts]), strict=True):
        assert torch.equal(y, joined)
        if how == "parameters":
            assert dx is None
        else:
            assert dx.dtype == own.dtype
            torch.testing.assert_close(dx, expected)


def test_three_processes(tmp_path):
    cases = [make_case((2, 0, 3), (2,), how) for how in HOWS[:2]]
    by_rank = together(3, gathering_processes.passes, cases, folder=tmp_path)
    for (parts, gradients, _), one in zip(cases, zip(*by_rank, strict=True), strict=True):
        expected = sum(gradients).split([len(part) for part in parts])
        for (y, dx), wanted in zip(one, expected, strict=True):
            assert torch.equal(y, torch.cat(parts))
            torch.testing.assert_close(dx, wanted)


def test_whole_numbers_and_the_first_row(tmp_path):
    found = together(2, gathering_processes.whole_numbers, [2, 3], folder=tmp_path)
    for rank, (everyone, first) in enumerate(found):
        assert everyone.tolist() == [0, 1, 100, 101, 102]
        assert first == [0, 2][rank]


def test_one_process_keeps_its_rows():
    x = torch.randn(3, 2, dtype=torch.float64)
    everyone, first = gathered_rows(x)
    assert everyone is x
    assert first == 0
    check_layer(GatherRows(), x)
    check_layer(Sequential(Linear(2, 2), GatherRows(), Linear(2, 2)), x)
    layer = GatherRows()
    with record():
        layer(x)
        assert layer.backward(None) is None


def test_worked_example(tmp_path):
    parts = [torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0]])]
    gradients = [torch.tensor([[0.5], [-1.0], [2.0]]), torch.tensor([[1.5], [0.25], [4.0]])]
    ((y1, dx1),), ((y2, dx2),) = together(
        2, gathering_processes.passes, [(parts, gradients, "handwritten")], folder=tmp_path
    )
    assert y1.tolist() == y2.tolist() == [[1.0], [2.0], [3.0]]
    assert dx1.tolist() == [[2.0], [-0.75]]
    assert dx2.tolist() == [[6.0]]
