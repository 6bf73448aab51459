import json

import pytest
import torch
from ds_core.errors import UserError
from ds_core.text.tokenizers import BPETokenizer, CharacterTokenizer, load_tokenizer
from hypothesis import given
from hypothesis import strategies as st

TEXT = "the cat sat on the mat; the naïve 日本 🎉 cat\n" * 20


def written_and_read(tokenizer, folder):
    path = folder / "tokenizer.json"
    path.write_text(tokenizer.to_json(), encoding="utf-8")
    return load_tokenizer(path)


def streamed(tokenizer, tokens):
    decoder = tokenizer.streaming_decoder()
    return [decoder.push(token) for token in tokens.tolist()] + [decoder.finish()]


@pytest.mark.parametrize("make", [CharacterTokenizer, lambda text: BPETokenizer.train(text, 300)])
def test_round_trip_through_file_and_stream(make, tmp_path):
    tokenizer = make(TEXT)
    tokens = tokenizer.encode(TEXT)
    assert tokens.dtype == torch.int64
    assert int(tokens.max()) < tokenizer.vocab_size
    assert tokenizer.decode(tokens) == TEXT
    assert "".join(streamed(tokenizer, tokens)) == TEXT
    again = written_and_read(tokenizer, tmp_path)
    assert again.vocab_size == tokenizer.vocab_size
    assert torch.equal(again.encode(TEXT), tokens)
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.decode([]) == ""


def test_worked_example():
    # docs/tokenizers.md: "aaabdaaabac" with three merges more than the bytes
    tokenizer = BPETokenizer.train("aaabdaaabac", 259)
    pieces = [tokenizer.decode([token]) for token in tokenizer.encode("aaabdaaabac").tolist()]
    assert pieces == ["aaab", "d", "aaab", "a", "c"]
    characters = CharacterTokenizer("aaabdaaabac")
    assert characters.characters == "abcd"
    assert characters.encode("dab").tolist() == [3, 0, 1]


def test_stream_holds_back_unfinished_characters():
    tokenizer = BPETokenizer.train("abc", 256)  # every byte is a token of its own
    pieces = streamed(tokenizer, tokenizer.encode("a日b"))
    assert pieces == ["a", "", "", "日", "b", ""]
    unfinished = tokenizer.encode("日")[:2]
    assert streamed(tokenizer, unfinished) == ["", "", "\ufffd"]
    assert tokenizer.decode(unfinished) == "\ufffd"


@given(st.text())
def test_bpe_encodes_any_text(text):
    tokenizer = BPETokenizer.train("", 256)
    try:
        text.encode()
    except UnicodeEncodeError:
        with pytest.raises(UserError, match="no UTF-8 form"):
            tokenizer.encode(text)
    else:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_bpe_training_is_repeatable_and_needs_all_bytes():
    assert BPETokenizer.train(TEXT, 290).to_json() == BPETokenizer.train(TEXT, 290).to_json()
    with pytest.raises(ValueError, match="expected at least 256"):
        BPETokenizer.train(TEXT, 255)


@pytest.mark.parametrize("character", ["é", "!", "~", "\udcff"])  # before, between and after the known ones
def test_unseen_character_is_named_with_its_place(character):
    tokenizer = CharacterTokenizer("abz\n")
    with pytest.raises(UserError) as caught:
        tokenizer.encode(f"ab{character}a", "the prompt")
    message = str(caught.value)
    assert message.startswith("the prompt has a character the tokenizer never saw")
    assert repr(character) in message
    assert "position 2" in message
    assert "\n" not in message
    with pytest.raises(UserError):
        CharacterTokenizer("").encode("a")


@pytest.mark.parametrize(
    "content",
    ["", "not json", "[1]", json.dumps({"type": "characters"}), json.dumps({"type": "words"})],
)
def test_foreign_tokenizer_file(content, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError, match="is not a tokenizer that ds wrote") as caught:
        load_tokenizer(path)
    assert "\n" not in str(caught.value)


def test_missing_tokenizer_file(tmp_path):
    with pytest.raises(UserError, match="cannot read the tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")
