"""The recurrent encoder-decoder asked for one token at a time: step by step, greedy, beam search."""

import itertools

import pytest
import torch
from ds_core import ShapeError, no_record, record
from ds_core.text.decoding.beam_search import beam_search, length_factor
from ds_core.text.decoding.greedy import greedy
from ds_core.training.evaluation import evaluation_mode
from ds_rnn.seq2seq.seq2seq_rnn import ATTENTIONS
from seq2seq_twins import PAD, gradients, sharper, some_model, some_tokens

BEGIN, END = 1, 2
KINDS = pytest.mark.parametrize("attention", ATTENTIONS)


@KINDS
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_step_by_step_like_all_at_once(attention, cell):
    """Teacher forced, the search's three methods give the logits of forward, also after a change of rows."""
    model = some_model(attention=attention, cell=cell)
    source, target = some_tokens()
    with no_record():
        expected = model(source, target)
    state = model.start(source, 2)
    rows = torch.arange(3).repeat_interleave(2)
    for t in range(target.shape[1]):
        logits = model.step(target[rows, t], state)
        torch.testing.assert_close(logits, expected[rows, t], rtol=1e-12, atol=1e-12)
        if t == 1:  # the first sentence is finished, and the rows of the others change places
            kept = torch.tensor([5, 2, 3])
            model.select(state, kept)
            rows = rows[kept]


@KINDS
def test_the_search_records_nothing(attention):
    model, (source, target) = some_model(attention=attention), some_tokens()
    with record() as trace:
        state = model.start(source, 1)
        logits = model.step(target[:, 0], state)
        assert len(trace) == 0
    assert not logits.requires_grad


@KINDS
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_greedy_is_the_argmax_of_forward(attention, cell):
    model = sharper(some_model(attention=attention, cell=cell, dropout=0.5))  # not in a search
    source, _ = some_tokens()
    found = greedy(model, source, begin=BEGIN, end=END, max_length=6, pad=PAD)
    assert model.training
    for sentence, tokens in zip(source, found, strict=True):
        written = [BEGIN]
        with evaluation_mode(model):
            while len(written) < 7:
                logits = model(sentence[None], torch.tensor([written]))[0, -1]
                logits[PAD] = float("-inf")
                written.append(int(logits.argmax()))
                if written[-1] == END:
                    break
        assert tokens == [token for token in written[1:] if token != END]
    assert len({tuple(tokens) for tokens in found}) > 1


@KINDS
def test_a_beam_as_wide_as_all_finds_the_best(attention):
    """Held against every output of at most three tokens, each by a forward of its own."""
    model = sharper(some_model(attention=attention, source_vocab=5, target_vocab=5))
    source, _ = some_tokens(vocab=5)
    limit = 3
    found = beam_search(model, source, begin=BEGIN, end=END, max_length=limit, pad=PAD, beam_size=64)
    words = [token for token in range(5) if token not in (PAD, END)]
    for sentence, best in zip(source, found, strict=True):
        scores = {}
        for length in range(limit):
            for tokens in itertools.product(words, repeat=length):
                with no_record():
                    logits = model(sentence[None], torch.tensor([[BEGIN, *tokens]]))[0]
                total = logits.log_softmax(1)[torch.arange(length + 1), torch.tensor([*tokens, END])].sum()
                scores[tokens] = float(total) / length_factor(length + 1, 0.6)
        assert tuple(best.tokens) == max(scores, key=scores.get)
        assert best.score == pytest.approx(max(scores.values()), rel=1e-9)


@KINDS
@pytest.mark.parametrize("length", [0, 1])
def test_shortest_sources(attention, length):
    """One token; and none, of which the decoder knows only the bridge's bias."""
    model, target = some_model(attention=attention), some_tokens()[1]
    source = torch.full((3, 2), PAD)
    source[:, :length] = 3
    logits, found = gradients(model, source, target, torch.ones(3, 4, 11, dtype=torch.float64))
    assert bool(logits.isfinite().all())
    assert all(gradient is None or bool(gradient.isfinite().all()) for gradient in found.values())
    (weight,) = (gradient for name, gradient in found.items() if name == "encoder.weight_ih_l0")
    assert (weight is not None and bool((weight != 0).any())) is (length == 1)
    assert len(greedy(model, source, begin=BEGIN, end=END, max_length=3, pad=PAD)) == 3


def test_impossible_source_of_a_search():
    with pytest.raises(ShapeError, match=r"Seq2SeqRNN: given source \(5,\), expected \(B, S\)"):
        some_model().start(torch.ones(5, dtype=torch.int64), 1)
