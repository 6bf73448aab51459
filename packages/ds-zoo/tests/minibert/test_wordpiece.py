import itertools
import json
import math

import pytest
import torch
import transformers
from ds_core import CheckpointError, UserError
from ds_zoo import WordPieceTokenizer
from ds_zoo.minibert.wordpiece import SPECIAL_TOKENS, check_fits

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Return the value, or raise KeyError if there is none!",
    "Un café naïf: 42 fois.",
    "quicker, quickest; returned returning returns",
]
HARD = [*TEXTS, "wholly UNSEEN wörds: Zürich 北京", "a [MASK] of two", "tabs\tand\nlines  twice", "don't (stop)"]


@pytest.fixture(scope="module")
def tokenizer():
    return WordPieceTokenizer.train(TEXTS * 3, 120)


def test_special_tokens_come_first_and_are_known(tokenizer):
    assert [tokenizer.token(number) for number in range(5)] == list(SPECIAL_TOKENS)
    assert tokenizer.special_ids == (0, 1, 2, 3, 4)
    assert (tokenizer.pad_id, tokenizer.unknown_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id) == (
        tokenizer.special_ids
    )
    assert tokenizer.vocab_size == 120


def test_decode_undoes_encode(tokenizer):
    assert tokenizer.decode(tokenizer.encode(TEXTS[0])) == TEXTS[0].lower()
    assert tokenizer.decode(torch.tensor(tokenizer.encode("a [MASK] fox"))) == "a [MASK] fox"
    with pytest.raises(ValueError, match="given token 120, expected 0 to 119"):
        tokenizer.decode([120])


def test_a_pair_has_two_ends(tokenizer):
    first, second = tokenizer.token_ids(TEXTS[0]), tokenizer.token_ids(TEXTS[1])
    expected = [tokenizer.cls_id, *first, tokenizer.sep_id, *second, tokenizer.sep_id]
    assert tokenizer.encode(TEXTS[0], TEXTS[1]) == expected


@pytest.mark.parametrize("lowercase", [True, False])
def test_transformers_reads_what_we_wrote(lowercase, tmp_path):
    """The same numbers for the same texts, alone, in pairs and in batches."""
    tokenizer = WordPieceTokenizer.train(TEXTS * 3, 150, lowercase=lowercase)
    assert tokenizer.lowercase == lowercase
    tokenizer.save(tmp_path, max_length=64)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    readers = [
        transformers.AutoTokenizer.from_pretrained(tmp_path),
        transformers.BertTokenizerFast.from_pretrained(tmp_path),
        transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path),
    ]
    for theirs in readers:
        assert theirs.mask_token_id == tokenizer.mask_id
        assert theirs.pad_token_id == tokenizer.pad_id
        assert theirs.model_max_length == 64
        for text in HARD:
            assert tokenizer.encode(text) == theirs(text)["input_ids"]
            assert tokenizer.encode(text, TEXTS[0]) == theirs(text, TEXTS[0])["input_ids"]
        names = ("input_ids", "attention_mask", "token_type_ids")
        expected = theirs(HARD, TEXTS * 2, padding=True, return_tensors="pt", return_token_type_ids=True)
        found = tokenizer.batch(HARD, TEXTS * 2)
        assert all(torch.equal(found[name], expected[name]) for name in names)
        single = theirs(HARD, padding=True, return_tensors="pt", return_token_type_ids=True)
        assert all(torch.equal(tokenizer.batch(HARD)[name], single[name]) for name in names)


@pytest.mark.parametrize("lowercase", [True, False])
def test_reads_what_transformers_wrote(lowercase, tmp_path):
    names = [*SPECIAL_TOKENS, "the", "##r", "fox", "quick", "##er", "F", "##ox", "f", "caf", "##é", "##e", ",", "."]
    (tmp_path / "vocab.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}))
    from_vocabulary = WordPieceTokenizer.from_pretrained(tmp_path)
    theirs = transformers.BertTokenizerFast(vocab=str(tmp_path / "vocab.txt"), do_lower_case=lowercase)
    theirs.save_pretrained(tmp_path / "theirs")
    from_theirs = WordPieceTokenizer.from_pretrained(tmp_path / "theirs")
    for text in ("the quicker fox, the Fox.", "café", "[MASK] foxer", "zebra"):
        assert from_vocabulary.encode(text) == theirs(text)["input_ids"]
        assert from_theirs.encode(text, "the fox") == theirs(text, "the fox")["input_ids"]
    assert from_vocabulary.lowercase == lowercase


def test_without_a_config_a_vocabulary_is_lowercase(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, "fox"]))
    assert WordPieceTokenizer.from_pretrained(tmp_path).encode("FOX") == [2, 5, 3]


def test_worked_example():
    """docs/minibert/wordpiece.md: the longest piece that fits, again and again, and the scores of merges."""
    names = [*SPECIAL_TOKENS, "un", "una", "##f", "##fford", "##afford", "##able", "##a", "##ble"]
    tokenizer = WordPieceTokenizer.from_vocabulary(names)
    cut = [tokenizer.token(number) for number in tokenizer.token_ids("unaffordable")]
    assert cut == ["una", "##fford", "##able"]
    assert tokenizer.token_ids("unlucky") == [tokenizer.unknown_id]
    # hug 10, pug 5, pun 12, bun 4, hugs 5: pairs and pieces by how often they occur
    words = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
    pieces, pairs = {}, {}
    for word, count in words.items():
        cut = [word[0], *(f"##{letter}" for letter in word[1:])]
        for piece in cut:
            pieces[piece] = pieces.get(piece, 0) + count
        for pair in itertools.pairwise(cut):
            pairs[pair] = pairs.get(pair, 0) + count
    score = {pair: count / (pieces[pair[0]] * pieces[pair[1]]) for pair, count in pairs.items()}
    assert score["##g", "##s"] == pytest.approx(0.05)
    assert score["##u", "##g"] == pytest.approx(0.0278, abs=5e-5)
    assert score["h", "##u"] == pytest.approx(0.0278, abs=5e-5)
    others = [("p", "##u"), ("##u", "##n"), ("b", "##u")]
    assert [score[pair] for pair in others] == pytest.approx([0.0278] * 3, abs=5e-5)
    assert len(score) == 6
    assert max(score, key=score.get) == ("##g", "##s")
    n = sum(pieces.values())
    assert n == 113
    factor = {pair: n * value for pair, value in score.items()}
    assert factor["##u", "##g"] == pytest.approx(3.14, abs=5e-3)
    assert factor["##g", "##s"] == pytest.approx(5.65, abs=5e-3)
    gain = {pair: count * math.log(factor[pair]) for pair, count in pairs.items()}
    assert gain["##u", "##g"] == pytest.approx(22.9, abs=0.05)
    assert gain["##g", "##s"] == pytest.approx(8.7, abs=0.05)
    assert max(gain, key=gain.get) == ("##u", "##g")
    assert max(pairs, key=pairs.get) == ("##u", "##g")


def test_texts_that_cannot_be_used(tokenizer):
    with pytest.raises(UserError, match=r"text 2 of 2 is empty"):
        tokenizer.batch(["fox", " "])
    with pytest.raises(UserError, match=r"text 1 of 1 has 13 tokens, .* reads at most 8: 'fox fox"):
        tokenizer.batch(["fox " * 11], max_length=8)
    with pytest.raises(UserError, match="no UTF-8 form"):
        tokenizer.encode("\ud800")
    with pytest.raises(ValueError, match="given 0 texts"):
        tokenizer.batch([])
    with pytest.raises(ValueError, match="given 2 texts and 1 second ones"):
        tokenizer.batch(["a", "b"], ["c"])
    with pytest.raises(ValueError, match=r"given vocab_size=10, but the characters"):
        WordPieceTokenizer.train(TEXTS, 10)
    with pytest.raises(ValueError, match="without a character"):
        WordPieceTokenizer.train(["", ""], 100)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no tokenizer of BERT's: neither tokenizer.json nor vocab.txt"),
        ({"tokenizer.json": "{"}, "tokenizer.json is not a tokenizer"),
        ({"vocab.txt": "the\nfox"}, r"lacks \[PAD\], \[UNK\], \[CLS\], \[SEP\], \[MASK\]"),
        ({"vocab.txt": "\n".join([*SPECIAL_TOKENS, "fox", "fox"])}, "7 lines, but 6 different tokens"),
        ({"vocab.txt": "\n".join(SPECIAL_TOKENS), "tokenizer_config.json": "["}, "tokenizer_config.json is damaged"),
    ],
)
def test_folders_without_a_tokenizer_of_berts(files, message, tmp_path):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        WordPieceTokenizer.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_another_models_tokenizer(tmp_path):
    from ds_core.text.byte_pair import BPETokenizer

    (tmp_path / "tokenizer.json").write_text(BPETokenizer.train("a b c", 257).to_json())
    with pytest.raises(UserError, match=r"tokenizer.json: the tokenizer is not BERT's: it lacks \[PAD\]"):
        WordPieceTokenizer.from_pretrained(tmp_path)


def test_a_tokenizer_that_does_not_fit_its_model(tokenizer):
    check_fits(tokenizer, 120, "here")
    check_fits(tokenizer, 128, "here")  # filled up
    for vocab_size in (119, 121, 256):
        with pytest.raises(CheckpointError, match=f"120 tokens, but the model knows {vocab_size}: they do not belong"):
            check_fits(tokenizer, vocab_size, "here")
