"""Batches that can be entered anywhere, the same for one process as for several."""

import random

import numpy as np
import pytest
import torch
from ds_core.data import Loader, TensorDataset
from ds_core.data.batches import Batches
from ds_core.losses.denominator import denominator_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset


def numbered(count):
    """Row i is (i, 10 i)."""
    x = torch.arange(count)
    return TensorDataset(x, 10 * x)


def rows(batch):
    x, y = batch
    assert torch.equal(y, 10 * x)
    return x.tolist()


def test_a_loader_is_batches():
    assert isinstance(Loader(numbered(3), 2), Batches)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 30),
    batch_size=st.integers(1, 35) | st.none(),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    seed=st.integers(0, 2**40),
)
def test_an_epoch_holds_every_row_once(count, batch_size, shuffle, drop_last, seed):
    whole = count if batch_size is None else batch_size
    if drop_last and whole > count:
        return
    loader = Loader(numbered(count), batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last)
    for epoch in range(3):
        batches = [rows(loader.batch(epoch * len(loader) + step)) for step in range(len(loader))]
        seen = [row for batch in batches for row in batch]
        assert len(set(seen)) == len(seen) == (count // whole * whole if drop_last else count)
        assert [len(batch) for batch in batches[:-1]] == [whole] * (len(batches) - 1)
        assert 1 <= len(batches[-1]) <= whole
        assert [loader.rows(epoch * len(loader) + step) for step in range(len(loader))] == list(map(len, batches))
        if not shuffle or batch_size is None:
            assert seen == list(range(len(seen)))


def test_a_batch_depends_on_seed_and_index_alone():
    loader = Loader(numbered(50), 7, seed=3)
    forward = [rows(loader.batch(index)) for index in range(20)]
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    another = Loader(numbered(50), 7, seed=3)
    order = [13, 2, 2, 19, 0, *range(20)]
    assert [rows(another.batch(index)) for index in order] == [forward[index] for index in order]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])


def test_the_order_differs_between_epochs_and_seeds():
    orders = {tuple(rows(Loader(numbered(20), 20, seed=seed).batch(epoch))) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_every_order_is_as_likely():
    counts = torch.zeros(4, 4)
    for epoch in range(2000):
        order = rows(Loader(numbered(4), 4, seed=1).batch(epoch))
        counts[torch.arange(4), order] += 1
    assert (counts - 500).abs().max() < 100  # five standard deviations


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 40), batch_size=st.integers(1, 40) | st.none(), world_size=st.integers(1, 5), data=st.data()
)
def test_the_parts_of_all_processes_are_the_batch_of_one(count, batch_size, world_size, data):
    one = Loader(numbered(count), batch_size, seed=2)
    if min(one.rows(0), one.rows(len(one) - 1)) < world_size:
        with pytest.raises(ValueError, match="expected at least one for each"):
            Loader(numbered(count), batch_size, world_size=world_size)
        return
    processes = [Loader(numbered(count), batch_size, seed=2, rank=r, world_size=world_size) for r in range(world_size)]
    index = data.draw(st.integers(0, 3 * len(one)))
    parts = [rows(process.batch(index)) for process in processes]
    assert [row for part in parts for row in part] == rows(one.batch(index))
    assert [process.share(index) for process in processes] == list(map(len, parts))
    assert [process.rows(index) for process in processes] == [one.rows(index)] * world_size
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    values = torch.randn(count, dtype=torch.float64)
    held = [float(denominator_of(None, *process.batch(index))) for process in processes]
    weighted = [count * values[part].mean() for count, part in zip(held, parts, strict=True)]
    assert sum(weighted) / sum(held) == pytest.approx(values[rows(one.batch(index))].mean().item(), abs=1e-12)


def test_parts_hold_their_rows():
    assert denominator_of(None, *Loader(numbered(12), 6, rank=1, world_size=3).batch(0)) == 2
    last = Loader(numbered(11), 6, rank=0, world_size=2)  # 5 rows: 3 and 2
    assert last.share(1) == 3
    assert denominator_of(None, *last.batch(1)) == 3


def test_a_full_batch_is_not_copied():
    x = torch.randn(5, 2)
    batch, target = Loader((x, x), None).batch(7)
    assert batch.data_ptr() == target.data_ptr() == x.data_ptr()
    assert batch.shape == (5, 2)


def test_one_epoch_after_the_other():
    loader = Loader(numbered(7), 3)
    seen = [[rows(batch) for batch in loader] for _ in range(3)]
    assert seen == [[rows(batch) for batch in loader.epoch(number)] for number in range(3)]
    assert seen == [[rows(loader.batch(3 * epoch + step)) for step in range(3)] for epoch in range(3)]
    assert len(loader) == loader.steps_per_epoch == 3
    assert Loader(numbered(7), 3, drop_last=True).steps_per_epoch == 2


def test_several_inputs_are_a_tuple():
    a, b, y = torch.arange(4), torch.arange(4) + 10, torch.arange(4) + 20
    inputs, target = Loader((a, b, y), 2, shuffle=False).batch(1)
    assert isinstance(inputs, tuple)
    assert [part.tolist() for part in (*inputs, target)] == [[2, 3], [12, 13], [22, 23]]


def test_a_transform_draws_from_a_generator_of_its_own():
    def noise(inputs, target, generator):
        return inputs + torch.rand(inputs.shape, generator=generator), target + 1

    options = {"seed": 4, "transform": noise}
    loader = Loader((torch.zeros(6), torch.zeros(6)), 3, **options)
    batches = [loader.batch(index) for index in range(4)]
    x, y = Loader((torch.zeros(6), torch.zeros(6)), 3, **options).batch(2)
    assert torch.equal(x, batches[2][0])
    assert torch.equal(y, torch.ones(3))
    ranks = [Loader((torch.zeros(6), torch.zeros(6)), 3, rank=r, world_size=3, **options).batch(0)[0] for r in (0, 1)]
    drawn = [*(batch[0][0].item() for batch in batches), ranks[1][0].item()]
    assert len(set(drawn)) == 5
    assert ranks[0][0] == batches[0][0][0]


def test_rows_of_one_part():
    x = torch.arange(4.0)
    with pytest.raises(ValueError, match="rows have one part"):
        Loader(x, 2).batch(0)
    both = Loader(x, 2, transform=lambda inputs, target, generator: (inputs, inputs)).batch(0)
    assert torch.equal(*both)


def test_a_data_set_of_samples():
    class Samples(Dataset):
        def __len__(self):
            return 7

        def __getitem__(self, number):
            return torch.full((2,), number), 10 * number

    one, other = Loader(Samples(), 3, seed=1), Loader(numbered(7), 3, seed=1)
    for index in range(5):
        x, y = one.batch(index)
        assert x.shape == (len(y), 2)
        assert rows((x[:, 1], y)) == rows(other.batch(index))
    assert rows((Loader(Samples(), None).batch(0)[0][:, 0], Loader(Samples(), None).batch(0)[1])) == list(range(7))


def test_batches_are_moved_after_the_transform():
    seen = []

    def transform(inputs, target, generator):
        seen.append(inputs[0].device.type)
        return inputs, target

    x = torch.zeros(3)
    (a, b), y = Loader((x, x, x), 2, device="meta", transform=transform).batch(0)
    assert seen == ["cpu"]
    assert {tensor.device.type for tensor in (a, b, y)} == {"meta"}


def test_a_device_without_a_number_is_the_one_current_where_the_loader_is_made(monkeypatch):
    """In the thread of a Prefetch another one may be."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert Loader(numbered(3), 2, device="cuda").device == torch.device("cuda", 3)
    assert Loader(numbered(3), 2, device="cuda:1").device == torch.device("cuda", 1)
    assert Loader(numbered(3), 2, device="cpu").device == torch.device("cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "given batch_size=0, expected at least 1, or None"),
        ({"batch_size": 2, "seed": -1}, "given seed=-1"),
        ({"batch_size": 2, "rank": 2, "world_size": 2}, "given rank=2 and world_size=2"),
        ({"batch_size": 2, "rank": -1}, "given rank=-1"),
        ({"batch_size": 5, "drop_last": True}, "no batch would be left"),
        ({"batch_size": 3, "world_size": 2}, "smallest batch of an epoch has 1 rows"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        Loader(numbered(4), **options)


def test_no_rows_and_no_such_batch():
    with pytest.raises(ValueError, match="empty data set"):
        Loader(numbered(0), None)
    with pytest.raises(IndexError, match="given index -1"):
        Loader(numbered(3), 2).batch(-1)


def test_drop_last_leaves_whole_batches_for_all_processes():
    assert [Loader(numbered(9), 4, drop_last=True, rank=r, world_size=4).share(1) for r in range(4)] == [1] * 4
