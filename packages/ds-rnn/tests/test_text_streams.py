import pytest
import torch
from ds_rnn import TextStreams
from ds_rnn.language.text_streams import windows_of


def test_worked_example():
    # docs/text_streams.md
    streams = TextStreams(torch.arange(10), 2, 2)
    assert streams.steps_per_epoch == 2
    expected = [([[0, 1], [5, 6]], [0.0, 0.0]), ([[2, 3], [7, 8]], [1.0, 1.0]), ([[0, 1], [5, 6]], [0.0, 0.0])]
    for index, (rows, carried) in enumerate(expected):
        (tokens, carry), targets = streams.batch(index)
        assert (tokens.tolist(), carry.tolist()) == (rows, carried)
        assert torch.equal(targets, tokens + 1)


@pytest.mark.parametrize("length", [12, 31, 100])
@pytest.mark.parametrize("streams", [1, 3])
def test_rows_continue_and_stay_in_their_stretch(length, streams):
    text = TextStreams(torch.arange(length), 3, streams)
    for epoch in range(5):
        ends = None
        for step in range(text.steps_per_epoch):
            (tokens, carry), targets = text.batch(epoch * text.steps_per_epoch + step)
            assert tokens.shape == targets.shape == (streams, 3)
            assert (carry == float(step > 0)).all()
            assert ends is None or torch.equal(tokens[:, 0], ends)
            ends = targets[:, -1]
            stretch = torch.arange(streams) * (length // streams)
            assert ((tokens >= stretch[:, None]) & (targets < stretch[:, None] + length // streams)).all()


def test_epochs_begin_at_different_tokens():
    text = TextStreams(torch.arange(12), 4, 1)  # two windows, and three tokens to spare
    starts = {int(text.batch(epoch * text.steps_per_epoch)[0][0][0, 0]) for epoch in range(8)}
    assert starts == {0, 1, 2, 3}


def test_without_carrying_a_batch_is_tokens_and_targets():
    tokens, targets = TextStreams(torch.arange(20), 3, 2, carry=False).batch(4)
    assert torch.equal(tokens + 1, targets)


def test_too_short_a_text():
    assert TextStreams(torch.arange(8), 3, 2).steps_per_epoch == 1
    with pytest.raises(ValueError, match=r"7 tokens, expected at least streams \* \(window \+ 1\) = 8"):
        TextStreams(torch.arange(7), 3, 2)


@pytest.mark.parametrize("length", [1, 2, 5, 6, 7, 12])
def test_windows_predict_every_token_once(length):
    windows = list(windows_of(torch.arange(length), 5))
    assert all(torch.equal(tokens + 1, targets) and len(tokens) == 1 for tokens, targets in windows)
    assert [int(token) for _, targets in windows for token in targets[0]] == [*range(1, length)]


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_windows_of_stretches_side_by_side(streams):
    windows = list(windows_of(torch.arange(30), 4, streams=streams))
    assert all(torch.equal(tokens + 1, targets) and len(tokens) == streams for tokens, targets in windows)
    rows = torch.cat([targets for _, targets in windows], 1)
    stretch = 29 // streams
    assert rows.tolist() == [[*range(b * stretch + 1, (b + 1) * stretch + 1)] for b in range(streams)]
