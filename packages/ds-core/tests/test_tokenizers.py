"""What all tokenizers do alike, the files they are saved in, and the library that one of them needs."""

import json
import sys

import pytest
import torch
from ds_core import UserError
from ds_core.errors import MissingPackageError
from ds_core.text.byte_pair import BPETokenizer
from ds_core.text.characters import CharacterTokenizer
from ds_core.text.scores import corpus_scores
from ds_core.text.tokenizers import load_tokenizer
from ds_core.text.words import WordTokenizer

TEXT = "the cat sat on the mat; the naïve 日本 🎉 cat\n" * 20


def written_and_read(tokenizer, folder):
    path = folder / "tokenizer.json"
    path.write_text(tokenizer.to_json(), encoding="utf-8")
    return load_tokenizer(path)


def streamed(tokenizer, tokens):
    decoder = tokenizer.streaming_decoder()
    return [decoder.push(token) for token in tokens.tolist()] + [decoder.finish()]


@pytest.mark.parametrize(
    "make",
    [
        CharacterTokenizer,
        lambda text: BPETokenizer.train(text, 300),
        lambda text: BPETokenizer.train(text, 300, special_tokens=["<end>"], split_digits=True, nfc=True),
        lambda text: WordTokenizer.train(text, 300),
        lambda text: WordTokenizer.train(text, 300, special_tokens=["<end>"], split_digits=True, nfc=True),
    ],
)
def test_round_trip_through_file_and_stream(make, tmp_path):
    tokenizer = make(TEXT)
    # words have no blank at the end of a text
    text = TEXT.strip() if isinstance(tokenizer, WordTokenizer) else TEXT
    tokens = tokenizer.encode(TEXT)
    assert tokens.dtype == torch.int64
    assert int(tokens.max()) < tokenizer.vocab_size
    assert tokenizer.decode(tokens) == text
    assert "".join(streamed(tokenizer, tokens)) == text
    again = written_and_read(tokenizer, tmp_path)
    assert type(again) is type(tokenizer)
    assert again.vocab_size == tokenizer.vocab_size
    assert torch.equal(again.encode(TEXT), tokens)
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.encode("").dtype == torch.int64
    assert tokenizer.decode([]) == ""


def test_worked_example():
    # docs/tokenizers.md: "aaabdaaabac" with three merges more than the bytes
    tokenizer = BPETokenizer.train("aaabdaaabac", 259)
    tokens = tokenizer.tokens(tokenizer.encode("aaabdaaabac"))
    assert tokens == ["aaab", "d", "aaab", "a", "c"]
    assert tokens == [tokenizer.decode([token]) for token in tokenizer.encode("aaabdaaabac").tolist()]
    characters = CharacterTokenizer("aaabdaaabac")
    assert characters.characters == "abcd"
    assert characters.encode("dab").tolist() == [3, 0, 1]
    words = WordTokenizer.train(["The cat sees a dog.", "The dog sees a cow."], 20, min_frequency=2)
    assert words.tokens(range(words.vocab_size)) == ["<unknown>", "▁The", "▁a", "▁dog", "▁sees", "."]
    sentence = words.encode("The cat sees a cow.")
    assert sentence.tolist() == [1, 0, 4, 2, 0, 5]
    assert words.decode(sentence) == "The ⁇ sees a ⁇."


def test_stream_holds_back_unfinished_characters():
    tokenizer = BPETokenizer.train("abc", 256)  # every byte is a token of its own
    assert streamed(tokenizer, tokenizer.encode("a日b")) == ["a", "", "", "日", "b", ""]
    unfinished = tokenizer.encode("日")[:2]
    assert streamed(tokenizer, unfinished) == ["", "", "\ufffd"]
    assert tokenizer.decode(unfinished) == "\ufffd"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json",
        "[1]",
        "{}",
        json.dumps({"type": "characters"}),
        json.dumps({"type": "words"}),
        json.dumps({"type": "byte-pair encoding", "special_tokens": ["<end>"], "tokenizer": {}}),
        json.dumps({"type": "byte-pair encoding"}),
        json.dumps({"type": "words", "special_tokens": ["<end>"], "tokenizer": {}}),
    ],
)
def test_foreign_tokenizer_file(content, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"tokenizer\.json is not a tokenizer that ds wrote: ") as caught:
        load_tokenizer(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff", None])
def test_unreadable_tokenizer_file(content, tmp_path):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read the tokenizer .*tokenizer\.json: "):
        load_tokenizer(path)


def test_without_the_libraries_the_extra_is_named(tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.json"
    path.write_text(BPETokenizer.train("abc", 256).to_json())
    words = tmp_path / "words.json"
    words.write_text(WordTokenizer.train("abc", 256).to_json())
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    for needs, package in (
        (lambda: BPETokenizer.train("abc", 256), "tokenizers"),
        (lambda: load_tokenizer(path), "tokenizers"),
        (lambda: WordTokenizer.train("abc", 256), "tokenizers"),
        (lambda: load_tokenizer(words), "tokenizers"),
        (lambda: corpus_scores(["a"], ["a"]), "sacrebleu"),
    ):
        with pytest.raises(MissingPackageError, match=rf'needs {package}, .*: pip install "ds-core\[text\]"'):
            needs()


def test_ds_core_text_is_imported_without_its_libraries(imported):
    assert {"ds_core.text.byte_pair", "ds_core.text.words", "ds_core.text.decoding.beam_search"} <= imported
    assert not {"tokenizers", "sacrebleu"} & imported
