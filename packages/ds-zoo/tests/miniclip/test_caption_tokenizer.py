import json

import pytest
import torch
import transformers
from ds_core import CheckpointError, UserError
from ds_zoo import TextConfig
from ds_zoo.miniclip.caption_tokenizer import CaptionTokenizer
from ds_zoo.miniclip.select_token import end_positions
from tokenizers import Tokenizer, models, pre_tokenizers, processors

CAPTIONS = ["a large red three above a small blue seven", "a green one"]


def text_config(tokenizer, **changes):
    sizes = {"vocab_size": tokenizer.vocab_size, "max_length": tokenizer.max_length, "end_token": tokenizer.end_token}
    return TextConfig(8, 1, 1, 8, **{**sizes, **changes})


@pytest.mark.parametrize(("vocabulary", "vocab_size"), [("words", 100), ("bpe", 280)])
def test_begin_words_end_and_ends(vocabulary, vocab_size):
    tokenizer = CaptionTokenizer.train(CAPTIONS, 48, vocabulary=vocabulary, vocab_size=vocab_size)
    rows = tokenizer.encode(CAPTIONS)
    assert rows.shape == (2, 48)
    assert rows.dtype == torch.int64
    assert tokenizer.end_token == tokenizer.vocab_size - 1
    assert tokenizer.begin_token == tokenizer.vocab_size - 2
    assert rows[:, 0].tolist() == [tokenizer.begin_token] * 2
    ends = end_positions(rows, tokenizer.end_token)
    assert torch.equal(ends, end_positions(rows, 2))  # both of CLIP's rules agree
    for row, end, caption in zip(rows, ends.tolist(), CAPTIONS, strict=True):
        assert (row[end:] == tokenizer.end_token).all()
        assert end + 1 == tokenizer.length_of(caption)
        assert tokenizer.end_token not in row[1:end]


def test_transformers_reads_it(tmp_path):
    tokenizer = CaptionTokenizer.train(CAPTIONS, 12)
    tokenizer.save_pretrained(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    found = theirs(CAPTIONS, padding="max_length", return_tensors="pt")
    assert torch.equal(found["input_ids"], tokenizer.encode(CAPTIONS))
    assert theirs.eos_token_id == tokenizer.end_token
    again = CaptionTokenizer.from_pretrained(tmp_path, text_config(tokenizer))
    assert torch.equal(again.encode(CAPTIONS), tokenizer.encode(CAPTIONS))


def test_reads_the_tokenizer_of_a_published_clip(tmp_path):
    characters = "abcdefgh"
    vocabulary = [*characters, *(f"{c}</w>" for c in characters), "ab</w>", "<|startoftext|>", "<|endoftext|>"]
    numbers = {token: number for number, token in enumerate(vocabulary)}
    theirs = transformers.CLIPTokenizer(vocab=numbers, merges=[("a", "b</w>")])
    theirs.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").exists()
    config = TextConfig(8, 1, 1, 8, vocab_size=len(numbers), max_length=9, end_token=len(numbers) - 1)
    tokenizer = CaptionTokenizer.from_pretrained(tmp_path, config)
    captions = ["ab cd", "H g e ab"]
    expected = theirs(captions, padding="max_length", max_length=9, return_tensors="pt")["input_ids"]
    assert torch.equal(tokenizer.encode(captions), expected)


def test_names_of_special_tokens_in_a_caption_are_text():
    tokenizer = CaptionTokenizer.train(CAPTIONS, 12)
    row = tokenizer.encode(["a <end> one"])[0]
    assert row.tolist().index(tokenizer.end_token) == tokenizer.length_of("a <end> one") - 1
    assert tokenizer.length_of("a <end> one") > 5


def test_unknown_words_are_named():
    tokenizer = CaptionTokenizer.train(CAPTIONS, 12)
    assert tokenizer.unknown_words("a large purple three cat purple") == ["purple", "cat"]
    assert CaptionTokenizer.train(CAPTIONS, 12, vocabulary="bpe", vocab_size=300).unknown_words("purple") == []


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        (["a red three", ""], "caption 2 of 2 is empty"),
        (["  \n"], "caption 1 of 1 is empty"),
        (
            ["a red three above a red seven above"],
            "has 10 tokens, begin and end included, but the model reads at most 8",
        ),
        (["\ud800"], "has no UTF-8 form"),
    ],
)
def test_captions_that_cannot_be_read(captions, message):
    with pytest.raises(UserError, match=message):
        CaptionTokenizer.train(CAPTIONS, 8).encode(captions)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 5, "end_token": 4}, r"the tokenizer has tokens up to \d+, but the model knows 5"),
        ({"end_token": 3}, r"ends a text with token \d+, but the model looks for 3 \(eos_token_id in config.json\)"),
    ],
)
def test_a_tokenizer_and_a_model_that_do_not_fit(changes, message, tmp_path):
    tokenizer = CaptionTokenizer.train(CAPTIONS, 12)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        CaptionTokenizer.from_pretrained(tmp_path, text_config(tokenizer, **changes))
    CaptionTokenizer.from_pretrained(tmp_path, text_config(tokenizer, end_token=2))
    CaptionTokenizer.from_pretrained(tmp_path, text_config(tokenizer, vocab_size=100))


def test_missing_and_damaged_files(tmp_path):
    config = TextConfig(8, 1, 1, 8)
    with pytest.raises(CheckpointError, match=r"cannot read .*tokenizer.json: No such file or directory"):
        CaptionTokenizer.from_pretrained(tmp_path, config)
    for content in ("{", json.dumps({"type": "words"}), "[]"):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(CheckpointError, match=r"tokenizer.json is not a tokenizer"):
            CaptionTokenizer.from_pretrained(tmp_path, config)
    bare = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    (tmp_path / "tokenizer.json").write_text(bare.to_str())
    with pytest.raises(CheckpointError, match="puts no begin and end around a text"):
        CaptionTokenizer.from_pretrained(tmp_path, config)
    bare.post_processor = processors.TemplateProcessing(single="$A a", special_tokens=[("a", 0)])
    (tmp_path / "tokenizer.json").write_text(bare.to_str())
    with pytest.raises(CheckpointError, match="puts no begin and end around a text"):
        CaptionTokenizer.from_pretrained(tmp_path, config)


def test_another_vocabulary():
    with pytest.raises(ValueError, match="vocabulary='letters', expected one of"):
        CaptionTokenizer.train(CAPTIONS, 12, vocabulary="letters")
