import unicodedata

import pytest
import torch
from ds_core.errors import UserError
from ds_core.text.example_pairs import shipped_pairs
from ds_core.text.translation_tokenizer import BEGIN, END, PAD, TranslationTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

PAIRS = shipped_pairs("en", "de")
TEXTS = PAIRS.source[:1500] + PAIRS.target[:1500]
TOKENIZER = TranslationTokenizer.train(TEXTS, 900)


@settings(max_examples=200, deadline=None)
@given(st.text() | st.sampled_from(["<pad>", "<end> <begin>", "  a  b ", "1,234 56", "Ω\u212b", "e\u0301", ""]))
def test_decoding_gives_back_the_text(text):
    tokens = TOKENIZER.encode(text)
    assert TOKENIZER.decode(tokens) == unicodedata.normalize("NFC", text)
    assert all(END < token < TOKENIZER.vocab_size for token in tokens)


def test_decoding_gives_back_shipped_sentences():
    other = shipped_pairs("fr", "es")
    for sentences in (PAIRS.source, PAIRS.target, other.source, other.target):
        assert [TOKENIZER.decode(tokens) for tokens in TOKENIZER.encode_batch(sentences[::4])] == sentences[::4]


def test_special_tokens_are_passed_over():
    assert (PAD, BEGIN, END) == (0, 1, 2)
    tokens = TOKENIZER.encode("The is")
    assert TOKENIZER.decode(torch.tensor([BEGIN, *tokens, END, PAD])) == "The is"
    assert TOKENIZER.pieces([BEGIN, *tokens, END, PAD]) == ["<begin>", "The", "▁is", "<end>", "<pad>"]


def test_pieces_can_be_read():
    assert "".join(TOKENIZER.pieces(TOKENIZER.encode("Wo ist die Tür?"))) == "Wo▁ist▁die▁Tür?"
    assert "".join(TOKENIZER.pieces(torch.tensor(TOKENIZER.encode("œ→")))) == "<0xC5><0x93><0xE2><0x86><0x92>"
    assert TOKENIZER.decode(TOKENIZER.encode("œ")[:1]) == "\ufffd"


def test_digits_are_tokens():
    assert TOKENIZER.pieces(TOKENIZER.encode("2021")) == ["2", "0", "2", "1"]


def test_vocabulary_has_the_wanted_size_and_is_the_same_each_time():
    assert TOKENIZER.vocab_size == 900
    assert TranslationTokenizer.train(TEXTS, 900).to_json() == TOKENIZER.to_json()
    assert TranslationTokenizer.train(iter(TEXTS), 900).to_json() == TOKENIZER.to_json()
    assert TranslationTokenizer.train(["ab ab"], 5000).vocab_size == 261  # ab and, from one place, ▁ab
    assert TranslationTokenizer.train(["abc"], 259).vocab_size == 259
    assert repr(TOKENIZER) == "TranslationTokenizer(900 tokens)"


def test_training_texts_are_normalised():
    tokenizer = TranslationTokenizer.train(["e\u0301e\u0301"] * 5, 261)
    assert len(tokenizer.encode("éé")) == len(tokenizer.encode("e\u0301e\u0301")) == 1


def test_saved_and_loaded(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(TOKENIZER.to_json(), encoding="utf-8")
    loaded = TranslationTokenizer.load(path)
    assert loaded.vocab_size == TOKENIZER.vocab_size
    assert loaded.encode_batch(PAIRS.target[:200]) == TOKENIZER.encode_batch(PAIRS.target[:200])
    assert loaded.to_json() == TOKENIZER.to_json()


@pytest.mark.parametrize("content", [b"{}", b"no json", b"\xff", None])
def test_files_that_are_no_tokenizer(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"tokenizer\.json( is not a tokenizer that ds wrote)?: "):
        TranslationTokenizer.load(path)


def test_impossible_arguments():
    with pytest.raises(ValueError, match="given vocab_size=258, expected at least 259: 256 bytes and 3 special"):
        TranslationTokenizer.train(["a"], 258)
    with pytest.raises(ValueError, match="given 2 texts without a character"):
        TranslationTokenizer.train(["", ""], 300)
    with pytest.raises(ValueError, match="given token 900, expected 0 to 899"):
        TOKENIZER.decode([900])
    with pytest.raises(ValueError, match="given token -1"):
        TOKENIZER.pieces([-1])
    with pytest.raises(UserError, match=r"no UTF-8 form: '\\udcff' at position 1"):
        TOKENIZER.encode("a\udcff")
