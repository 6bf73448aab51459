import pytest
import torch
from ds_core.data.batches import Batches
from ds_zoo import WordPieceTokenizer
from ds_zoo.minibert import MaskedBlocks, SentencePairs, TokenDocuments, mask_tokens
from ds_zoo.minibert.masking import IGNORED
from ds_zoo.minibert.wordpiece import SPECIAL_TOKENS

LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Five documents of sentences that say where they stand: "aa ab ac", ...
DOCUMENTS = [
    [" ".join(f"{LETTERS[number]}{LETTERS[sentence]}" for _ in range(3 + sentence)) for sentence in range(4)]
    for number in range(5)
]
TOKENIZER = WordPieceTokenizer.from_vocabulary(
    [*SPECIAL_TOKENS, *(f"{first}{second}" for first in LETTERS[:5] for second in LETTERS[:4])]
)
ENCODED = TokenDocuments.encode(DOCUMENTS, TOKENIZER)


def place(token):
    """Document and sentence of a token."""
    return divmod(int(token) - 5, 4)


def test_documents_as_tokens():
    assert len(ENCODED.tokens) == 5 * (3 + 4 + 5 + 6)
    assert ENCODED.sentences[:5].tolist() == [0, 3, 7, 12, 18]
    assert ENCODED.documents.tolist() == [number for number in range(5) for _ in range(4)]
    assert ENCODED.pair_starts()[:4].tolist() == [1, 2, 3, 5]


def test_the_shares_of_masking():
    """15 % of each row; of them 80 % masks, 10 % other tokens, 10 % what they were."""
    tokens = 5 + torch.randint(20, (400, 102), generator=torch.Generator().manual_seed(0))
    tokens[:, 0], tokens[:, -1] = TOKENIZER.cls_id, TOKENIZER.sep_id
    may_mask = tokens >= 5
    seen, labels = mask_tokens(tokens, may_mask, TOKENIZER, torch.Generator().manual_seed(1))
    chosen = labels != IGNORED
    assert chosen.sum(1).tolist() == [15] * 400
    assert not (chosen & may_mask.logical_not()).any()
    assert torch.equal(labels[chosen], tokens[chosen])
    assert torch.equal(seen[~chosen], tokens[~chosen])
    masked = (seen == TOKENIZER.mask_id) & chosen
    same = (seen == tokens) & chosen
    assert float(masked.sum() / chosen.sum()) == pytest.approx(0.8, abs=0.02)
    assert float(same.sum() / chosen.sum()) == pytest.approx(0.1 + 0.1 / 20, abs=0.02)
    others = seen[chosen & ~masked & ~same]
    assert int(others.min()) == 5
    assert int(others.max()) == 24
    # every place is as likely
    assert float(chosen[:, 1:-1].double().mean(0).std()) < 0.03


@pytest.mark.parametrize(("room", "expected"), [(1, 1), (3, 1), (10, 2), (20, 3)])
def test_a_row_has_at_least_one_label(room, expected):
    tokens = torch.full((6, 24), TOKENIZER.pad_id)
    tokens[:, 1 : 1 + room] = 7
    _, labels = mask_tokens(tokens, tokens == 7, TOKENIZER, torch.Generator().manual_seed(0))
    assert (labels != IGNORED).sum(1).tolist() == [expected] * 6
    _, none = mask_tokens(tokens, torch.zeros_like(tokens).bool(), TOKENIZER, torch.Generator())
    assert bool((none == IGNORED).all())


def test_blocks():
    batches = MaskedBlocks(ENCODED, TOKENIZER, 12, 8, seed=3)
    assert isinstance(batches, Batches)
    (seen, mask, types), labels = batches.batch(5)
    assert mask is types is None
    original = torch.where(labels == IGNORED, seen, labels)
    assert seen.shape == (8, 12)
    assert original[:, 0].tolist() == [TOKENIZER.cls_id] * 8
    assert original[:, -1].tolist() == [TOKENIZER.sep_id] * 8
    assert (labels != IGNORED).sum(1).tolist() == [2] * 8  # 15 % of ten
    text = ENCODED.tokens.tolist()
    for row in original[:, 1:-1].tolist():
        assert any(text[start : start + 10] == row for start in range(len(text)))


@pytest.mark.parametrize("kind", [MaskedBlocks, SentencePairs])
def test_another_share(kind):
    inputs, target = kind(ENCODED, TOKENIZER, 23, 4, share=0.5).batch(0)
    labels = target[0] if isinstance(target, tuple) else target
    may_mask = torch.where(labels == IGNORED, inputs[0], labels) >= 5
    assert (labels != IGNORED).sum(1).tolist() == torch.floor(0.5 * may_mask.sum(1) + 0.5).long().tolist()


@pytest.mark.parametrize("kind", [MaskedBlocks, SentencePairs])
def test_a_batch_depends_on_seed_and_index_alone(kind):
    def drawn(seed, index):
        torch.rand(7)
        inputs, target = kind(ENCODED, TOKENIZER, 12, 4, seed).batch(index)
        labels = target[0] if isinstance(target, tuple) else target
        return torch.cat([inputs[0], labels])

    assert torch.equal(drawn(0, 3), drawn(0, 3))
    assert not torch.equal(drawn(0, 3), drawn(1, 3))
    assert not torch.equal(drawn(0, 3), drawn(0, 4))


def test_pairs():
    batches = SentencePairs(ENCODED, TOKENIZER, 24, 16, seed=1)
    for index in range(5):
        (seen, mask, types), (labels, unrelated) = batches.batch(index)
        original = torch.where(labels == IGNORED, seen, labels)
        assert unrelated.tolist() == [0, 1] * 8
        for row in range(16):
            ids = original[row, mask[row] == 1].tolist()
            assert original[row, mask[row] == 0].tolist() == [TOKENIZER.pad_id] * int((mask[row] == 0).sum())
            border = ids.index(TOKENIZER.sep_id)
            assert (ids[0], ids[-1]) == (TOKENIZER.cls_id, TOKENIZER.sep_id)
            assert types[row].tolist() == [0] * (border + 1) + [1] * (len(ids) - border - 1) + [0] * (24 - len(ids))
            first, second = ids[1:border], ids[border + 1 : -1]
            (document, last), (other, next_one) = place(first[-1]), place(second[0])
            assert len({place(token)[0] for token in first}) == len({place(token)[0] for token in second}) == 1
            # a sentence ends at the border: no more of it follows, and the second text begins with a whole one
            assert second.count(second[0]) == min(3 + next_one, len(second))
            if unrelated[row]:
                assert other != document
            else:
                assert (other, next_one) == (document, last + 1)


def test_what_cannot_make_batches():
    with pytest.raises(ValueError, match="given 90 tokens for blocks of 100"):
        MaskedBlocks(ENCODED, TOKENIZER, 100, 2)
    with pytest.raises(ValueError, match="blocks of at least 3"):
        MaskedBlocks(ENCODED, TOKENIZER, 2, 2)
    with pytest.raises(ValueError, match="length=6, expected at least 7"):
        SentencePairs(ENCODED, TOKENIZER, 6, 2)
    for documents in (DOCUMENTS[:1], [["aa aa aa"], ["ba ba ba"]]):
        with pytest.raises(ValueError, match="expected two documents, one of them with two sentences"):
            SentencePairs(TokenDocuments.encode(documents, TOKENIZER), TOKENIZER, 12, 2)
