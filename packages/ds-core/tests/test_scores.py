"""Scores of translations, and the loss of target tokens."""

import math

import pytest
import sacrebleu
import torch
from ds_core import Module, no_record
from ds_core.text.scores import corpus_scores, exact_match, token_loss
from ds_core.text.token_batches import TokenBatches
from word_models import WordModel


def test_exact_match():
    assert exact_match(["a", "b", "c d", ""], ["a", "B", "c d", ""]) == 0.75
    assert exact_match(["a "], ["a"]) == 0


def test_bleu_by_hand():
    """Precisions 5/6, 3/5, 1/4 and smoothed 1/6 of none in 3: sacrebleu's exp smoothing halves the first zero."""
    found = corpus_scores(["the cat sat on the mat"], ["the cat sits on the mat"])
    # unigrams 5 of 6, bigrams 3 of 5, trigrams 1 of 4, four-grams none of 3, counted as 1 / 2
    expected = 100 * math.exp((math.log(5 / 6) + math.log(3 / 5) + math.log(1 / 4) + math.log(1 / 2 / 3)) / 4)
    assert found["BLEU"] == pytest.approx(expected, abs=1e-9)
    assert found["exact"] == 0
    # too short: the whole corpus has 5 tokens for 6
    short = corpus_scores(["the cat on the mat"], ["the cat on the mat ."])
    assert short["BLEU"] == pytest.approx(100 * math.exp(1 - 6 / 5))
    perfect = corpus_scores(["a b c d .", "e f g h ."], ["a b c d .", "e f g h ."])
    assert perfect == {"exact": 1, "BLEU": pytest.approx(100), "chrF": pytest.approx(100)}


def test_they_are_those_of_sacrebleu():
    ours = ["the dog runs on the road today .", "a cat", "nothing at all like it"]
    theirs = ["a dog runs on the road .", "the cat sleeps on it", "something quite different here"]
    found = corpus_scores(ours, theirs)
    assert found["BLEU"] == sacrebleu.metrics.BLEU().corpus_score(ours, [theirs]).score
    assert found["chrF"] == sacrebleu.metrics.CHRF().corpus_score(ours, [theirs]).score
    assert 0 < found["BLEU"] < found["chrF"] < 100


@pytest.mark.parametrize(("translations", "references"), [([], []), (["a"], []), (["a"], ["a", "b"])])
@pytest.mark.parametrize("score", [exact_match, corpus_scores])
def test_nothing_to_score(score, translations, references):
    with pytest.raises(ValueError, match=f"given {len(translations)} translations and {len(references)} references"):
        score(translations, references)


def test_the_loss_is_the_mean_over_all_target_tokens():
    """Not over batches, which have different numbers of them, and not over rows."""
    model = WordModel(11, 11, 8, dropout=0.5, dtype=torch.float64)
    source, target = [[3, 4], [5, 6, 7], [8] * 9], [[4], [5, 6, 7, 8], [9, 10] * 4]
    batches = TokenBatches(source, target, 12, pad=0, begin=1, end=2, shuffle=False)
    assert len(batches) > 1
    total, count = 0.0, 0
    model.eval()
    for one, other in zip(source, target, strict=True):
        with no_record():
            logits = model(torch.tensor([one]), torch.tensor([[1, *other]]))[0]
        total -= float(logits.log_softmax(1).gather(1, torch.tensor([[*other, 2]]).t()).sum())
        count += len(other) + 1
    model.train()
    found = token_loss(model, batches.epoch(0))
    assert found["loss"] == pytest.approx(total / count, rel=1e-12)
    assert found["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-12)
    assert model.training


class Certain(Module):
    """Logits for token 3 that are 10,000 above the others."""

    def forward(self, source, target):
        logits = torch.zeros(*target.shape, 5, dtype=torch.float64)
        logits[..., 3] = 1e4
        return logits


def batch(*targets):
    target = torch.tensor(targets)
    return (torch.ones_like(target), target), target


def test_extremes():
    assert token_loss(Certain(), [batch([3, 3], [3, 0])]) == {"loss": 0.0, "perplexity": 1.0}
    found = token_loss(Certain(), [batch([4, 3])])
    assert found["loss"] == pytest.approx(5000)
    assert math.isfinite(found["perplexity"])  # so that a log can hold it
    assert token_loss(Certain(), [batch([0, 0]), batch([3, 0])])["loss"] == 0  # a batch of padding alone counts nothing


@pytest.mark.parametrize("batches", [[], [batch([0, 0])]])
def test_no_token_has_no_loss(batches):
    with pytest.raises(ValueError, match="given no target token"):
        token_loss(Certain(), batches)
