import pytest
import torch
from ds_core import CrossEntropyLoss
from ds_core.data import Prefetch
from ds_core.data.batches import Batches
from ds_core.distributed.batch_shard import share_of
from ds_core.text.byte_pair import BPETokenizer
from ds_core.text.example_pairs import shipped_pairs
from ds_core.text.pairs import split_by_hash
from ds_core.text.token_batches import TokenBatches
from ds_core.text.tokenizers import SPECIAL_TOKENS
from hypothesis import given, settings
from hypothesis import strategies as st

SPECIAL = {"pad": 0, "begin": 1, "end": 2}
sentences = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=60)


def tokens(sizes):
    """Pairs of these lengths, whose first source token is the pair's number plus 3, the other ones 3 and more."""
    source = [[3 + row] + [4] * (source - 1) for row, (source, _) in enumerate(sizes)]
    target = [[3 + (row + column) % 7 for column in range(target)] for row, (_, target) in enumerate(sizes)]
    return source, target


def contents(batch):
    """The pairs of a batch as they were before padding, with begin, end and padding checked."""
    (source, target_in), target_out = batch
    assert {each.dtype for each in (source, target_in, target_out)} == {torch.int64}
    found = []
    for sentence, before, after in zip(source.tolist(), target_in.tolist(), target_out.tolist(), strict=True):
        stripped = [token for token in sentence if token != 0]
        target = after[: after.index(2)]
        assert sentence == stripped + [0] * (len(sentence) - len(stripped))
        assert after == [*target, 2] + [0] * (len(after) - len(target) - 1)
        assert before == [1, *target] + [0] * (len(before) - len(target) - 1)
        found.append((stripped, target))
    return found


def test_worked_example():
    batches = TokenBatches([[5, 6], [7], [8, 9, 5]], [[6], [7], [8, 9]], 6, shuffle=False, **SPECIAL)
    assert batches.steps_per_epoch == len(batches) == 2
    (source, target_in), target_out = batches.batch(0)
    assert source.tolist() == [[5, 6], [7, 0]]
    assert target_in.tolist() == [[1, 6], [1, 7]]
    assert target_out.tolist() == [[6, 2], [7, 2]]
    (source, target_in), target_out = batches.batch(1)
    assert source.tolist() == [[8, 9, 5]]
    assert target_in.tolist() == [[1, 8, 9]]
    assert target_out.tolist() == [[8, 9, 2]]
    assert [batches.row_numbers(index) for index in range(4)] == [[0, 1], [2], [0, 1], [2]]
    assert round(batches.padding_share(), 4) == 0.0714  # 1 of 4 + 4 + 3 + 3 elements


@settings(max_examples=30, deadline=None)
@given(sentences, st.integers(10, 60), st.booleans(), st.integers(0, 3))
def test_every_pair_once_an_epoch_within_bounds(sizes, max_tokens, shuffle, epoch):
    source, target = tokens(sizes)
    batches = TokenBatches(source, target, max_tokens, shuffle=shuffle, seed=3, **SPECIAL)
    found = []
    for step, batch in enumerate(batches.epoch(epoch)):
        (rows, targets), _ = batch
        assert rows.numel() <= max_tokens
        assert targets.numel() <= max_tokens
        pairs = contents(batch)
        index = epoch * len(batches) + step
        assert pairs == [(source[row], target[row]) for row in batches.row_numbers(index)]
        assert rows.shape[1] == max(len(each) for each, _ in pairs)
        assert targets.shape[1] == 1 + max(len(each) for _, each in pairs)
        assert batches.rows(index) == batches.share(index) == len(pairs)
        found += pairs
    assert sorted(found) == sorted(zip(source, target, strict=True))


@settings(max_examples=20, deadline=None)
@given(sentences, st.lists(st.integers(0, 200), min_size=1, max_size=8))
def test_a_batch_is_a_function_of_its_index(sizes, indices):
    source, target = tokens(sizes)
    batches = TokenBatches(source, target, 30, seed=1, **SPECIAL)
    for index in indices:
        fresh = TokenBatches(source, target, 30, seed=1, **SPECIAL)
        assert contents(batches.batch(index)) == contents(fresh.batch(index))


@settings(max_examples=25, deadline=None)
@given(sentences, st.integers(2, 3), st.integers(0, 20))
def test_parts_of_the_processes_are_the_batch_of_one(sizes, world_size, index):
    source, target = tokens(sizes)
    whole = TokenBatches(source, target, 60, **SPECIAL)
    try:
        parts = [TokenBatches(source, target, 60, rank=r, world_size=world_size, **SPECIAL) for r in range(world_size)]
    except ValueError:
        assert min(whole.rows(step) for step in range(len(whole))) < world_size
        return
    shares = [part.batch(index) for part in parts]
    (source_all, in_all), out_all = whole.batch(index)
    assert torch.equal(torch.cat([inputs[0] for inputs, _ in shares]), source_all)
    assert torch.equal(torch.cat([inputs[1] for inputs, _ in shares]), in_all)
    assert torch.equal(torch.cat([out for _, out in shares]), out_all)
    assert [part.share(index) for part in parts] == [len(out) for _, out in shares]
    assert max(part.share(index) for part in parts) - min(part.share(index) for part in parts) <= 1
    assert {part.rows(index) for part in parts} == {whole.rows(index)}


def test_the_shares_count_by_their_target_tokens():
    source, target = tokens([(1, 5), (1, 1), (2, 5), (3, 4), (5, 2)])
    parts = [TokenBatches(source, target, 60, rank=r, world_size=2, **SPECIAL) for r in range(2)]
    logits = torch.randn(10, 10, dtype=torch.float64)
    criterion = CrossEntropyLoss(ignore_index=0)

    def mean(target_out):
        return criterion(logits[target_out.flatten()], target_out.flatten()).item()

    own = [part.batch(0)[1] for part in parts]
    whole = mean(torch.cat(own))
    held = [float(criterion.denominator(out)) for out in own]
    assert held[0] / sum(held) != pytest.approx(3 / 5)  # what rows would weigh
    assert held == [int((out != 0).sum()) for out in own]
    assert sum(n * mean(out) for n, out in zip(held, own, strict=True)) / sum(held) == pytest.approx(whole)


def test_it_is_what_data_parallel_asks_for():
    source, target = tokens([(2, 2)] * 9)
    part = TokenBatches(source, target, 30, rank=1, world_size=2, **SPECIAL)
    assert isinstance(part, Batches)
    assert share_of(part, 1, 2) is part
    assert share_of(Prefetch(part), 1, 2).batches is part
    with pytest.raises(ValueError, match="made for rank 1 of 2"):
        share_of(part, 0, 2)


def test_order_differs_between_epochs_and_seeds_and_not_without_shuffle():
    source, target = tokens([(1 + n % 6, 2) for n in range(90)])
    batches = TokenBatches(source, target, 30, **SPECIAL)
    steps = len(batches)
    epochs = [[tuple(batches.row_numbers(epoch * steps + step)) for step in range(steps)] for epoch in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    sets = [{frozenset(rows) for rows in epoch} for epoch in epochs]
    assert sets[0] != sets[1]  # which pairs are together
    lengths = [[batches.batch(step)[0][0].shape[1] for step in range(n * steps, n * steps + steps)] for n in (0, 1)]
    assert lengths[0] != lengths[1]  # which lengths come when
    other = TokenBatches(source, target, 30, seed=1, **SPECIAL)
    assert {frozenset(other.row_numbers(step)) for step in range(steps)} != sets[0]
    assert [other.batch(step)[0][0].shape[1] for step in range(steps)] != lengths[0]
    still = TokenBatches(source, target, 30, shuffle=False, **SPECIAL)
    first, second = ([still.row_numbers(epoch * steps + step) for step in range(steps)] for epoch in (0, 1))
    assert first == second
    rows = [row for each in first for row in each]
    assert rows == sorted(range(90), key=lambda row: max(len(source[row]), len(target[row]) + 1))


@pytest.mark.parametrize(("count", "expected"), [(10, [10]), (11, [5, 6]), (12, [6, 6]), (21, [10, 5, 6])])
def test_the_last_two_batches_are_even(count, expected):
    batches = TokenBatches(*tokens([(3, 2)] * count), 30, shuffle=False, **SPECIAL)
    assert sorted(batches.rows(step) for step in range(len(batches))) == sorted(expected)


def test_the_last_batch_stays_within_the_bound():
    batches = TokenBatches(*tokens([(3, 2)] * 10 + [(20, 2)]), 30, shuffle=False, **SPECIAL)
    assert [batches.rows(step) for step in range(len(batches))] == [10, 1]


@pytest.mark.parametrize("language", ["de", "fr", "es"])
def test_padding_is_little_where_unbucketed_batches_have_much(language):
    train = split_by_hash(shipped_pairs("en", language), 0.35, 0.35).train
    tokenizer = BPETokenizer.train(
        train.source + train.target, 2000, special_tokens=SPECIAL_TOKENS, split_digits=True, nfc=True
    )
    source, target = tokenizer.encode_batch(train.source), tokenizer.encode_batch(train.target)
    batches = TokenBatches(source, target, 1000, **SPECIAL)
    elements = used = 0
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0)).tolist()
    for start in range(0, len(order), 128):
        rows = order[start : start + 128]
        for lengths in ([len(source[row]) for row in rows], [len(target[row]) + 1 for row in rows]):
            elements += len(rows) * max(lengths)
            used += sum(lengths)
    unbucketed = 1 - used / elements
    assert unbucketed > 0.4
    assert batches.padding_share() < 0.15
    assert batches.padding_share(1) == pytest.approx(batches.padding_share(), abs=0.01)


def test_device():
    batches = TokenBatches([[3]], [[3]], 9, device="meta", **SPECIAL)
    (source, target_in), target_out = batches.batch(0)
    assert {each.device.type for each in (source, target_in, target_out)} == {"meta"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": [[3], [3]]}, "given 2 sources and 1 targets, expected as many"),
        ({"source": [], "target": []}, "given no pairs"),
        ({"source": [[]]}, "the source of pair 0 is empty"),
        ({"source": [[3]] * 2, "target": [[4], [3, 0]]}, "the target of pair 1 has the token pad=0"),
        ({"source": [[3], [], [0]], "target": [[4]] * 3}, "the source of pair 2 has the token pad=0"),
        ({"max_tokens": 3}, "pair 0 has 2 source tokens and 3 target tokens and one for its end, .* max_tokens=3"),
        ({"seed": -1}, "seed=-1, expected at least 0"),
        ({"rank": 2, "world_size": 2}, "rank=2, world_size=2, expected 0 <= rank"),
        ({"end": 0}, "pad=0, begin=1, end=0, expected pad to differ"),
        ({"world_size": 2}, r"smallest batch has 1 row\(s\), expected at least one for each of the 2"),
    ],
)
def test_impossible_arguments(arguments, message):
    values = {"source": [[3, 4]], "target": [[3, 4, 5]], "max_tokens": 9, **SPECIAL, **arguments}
    with pytest.raises(ValueError, match=message):
        TokenBatches(values.pop("source"), values.pop("target"), values.pop("max_tokens"), **values)


def test_index_below_zero():
    with pytest.raises(IndexError, match="given index -1"):
        TokenBatches([[3]], [[3]], 9, **SPECIAL).batch(-1)
