"""What each process is given of a batch."""

import pytest
import torch
from ds_core.data import Loader, Prefetch
from ds_core.distributed.batch_shard import BatchShard, share_of
from ds_core.losses.denominator import denominator_of
from hypothesis import given, settings
from hypothesis import strategies as st


class Fixed:
    def __init__(self, *pair):
        self.pair = pair

    def batch(self, index):
        return self.pair


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(0, 9), world_size=st.integers(1, 5))
def test_shares_one_after_the_other_are_the_batch(rows, world_size):
    batches = Fixed(torch.arange(rows), torch.arange(rows) * 2.0)
    shares = [BatchShard(batches, rank, world_size) for rank in range(world_size)]
    pairs = [share.batch(0) for share in shares]
    assert torch.equal(torch.cat([inputs for inputs, _ in pairs]), batches.pair[0])
    assert torch.equal(torch.cat([target for _, target in pairs]), batches.pair[1])
    counts = [len(inputs) for inputs, _ in pairs]
    assert max(counts) - min(counts) <= 1
    assert counts == sorted(counts, reverse=True)
    held = [float(denominator_of(None, *pair)) for pair in pairs]
    assert held == counts
    assert sum(held) == rows


def test_everything_with_rows_is_cut():
    inputs = ({"tokens": torch.arange(6).view(3, 2)}, torch.tensor(7.0), "name", None)
    target = [{"boxes": torch.ones(1, 4)}, {"boxes": torch.ones(5, 4)}, {"boxes": torch.ones(0, 4)}]
    given, cut = BatchShard(Fixed(inputs, target), 1, 2).batch(0)
    assert given[0]["tokens"].tolist() == [[4, 5]]
    assert given[1:] == (torch.tensor(7.0), "name", None)
    assert cut == target[2:]


def test_a_share_holds_the_rows_of_the_batch_asked_for():
    class Growing:
        def batch(self, index):
            return torch.zeros(index + 1, 1), torch.zeros(index + 1)

    share = BatchShard(Growing(), 0, 2)
    for index in range(70):
        share.batch(index)
    assert [float(denominator_of(None, *share.batch(index))) for index in (69, 68, 2, 0)] == [35, 35, 2, 1]
    assert denominator_of(None, *BatchShard(Growing(), 1, 2).batch(0)) == 0


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((torch.zeros(4, 2), torch.zeros(3)), r"of Fixed: given a tensor of shape \(3,\) beside one of 4 rows"),
        ((None, torch.zeros(3)), "the inputs begin with a NoneType, expected a tensor of rows"),
        ((torch.zeros(()), torch.zeros(3)), r"the inputs begin with a tensor of shape \(\)"),
        (((), torch.zeros(3)), "the inputs begin with a NoneType"),
    ],
)
def test_batches_that_cannot_be_cut(pair, message):
    with pytest.raises(ValueError, match=message):
        BatchShard(Fixed(*pair), 0, 2).batch(0)


def loader(**options):
    return Loader((torch.arange(10.0).view(5, 2), torch.arange(5.0)), 3, shuffle=False, **options)


def test_a_loader_that_is_cut_already():
    own = loader(rank=1, world_size=2)
    for batches in (own, Prefetch(own)):
        assert share_of(batches, 1, 2) is batches
        assert denominator_of(None, *batches.batch(0)) == own.share(0) == 1
    with pytest.raises(ValueError, match="Loader is made for rank 1 of 2 processes, this is rank 1 of 3"):
        share_of(Prefetch(own), 1, 3)
    with pytest.raises(ValueError, match="Loader is made for rank 1 of 2 processes, this is rank 0 of 2"):
        share_of(own, 0, 2)


def test_a_loader_for_one_process_is_cut():
    share = share_of(loader(), 1, 2)
    inputs, _ = share.batch(0)
    assert inputs.tolist() == [[4, 5]]
    assert denominator_of(None, *share.batch(0)) == 1
    assert denominator_of(None, *share.batch(1)) == 1
    whole = loader()
    assert share_of(whole, 0, 1) is whole


def test_other_batches_are_cut():
    share = share_of(Fixed(torch.arange(4), torch.arange(4)), 1, 2)
    assert share.batch(0)[0].tolist() == [2, 3]


def test_batches_that_cut_themselves_count_by_what_they_give():
    class Own(Fixed):
        world_size = 2

    share = share_of(Own(torch.zeros(2), torch.zeros(2)), 1, 2)
    assert isinstance(share, Own)
    assert denominator_of(None, *share.batch(0)) == 2
