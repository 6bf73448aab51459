import json
import unicodedata

import pytest
import torch
from ds_core import UserError
from ds_core.text.byte_pair import BPETokenizer
from ds_core.text.example_pairs import shipped_pairs
from ds_core.text.tokenizers import BEGIN, END, PAD, SPECIAL_TOKENS, load_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

PAIRS = shipped_pairs("en", "de")
TEXTS = PAIRS.source[:1500] + PAIRS.target[:1500]


def translation_tokenizer(texts, vocab_size):
    return BPETokenizer.train(texts, vocab_size, special_tokens=SPECIAL_TOKENS, split_digits=True, nfc=True)


TOKENIZER = translation_tokenizer(TEXTS, 900)
BYTES = BPETokenizer.train("a", 256)  # every byte is a token of its own


@settings(max_examples=200, deadline=None)
@given(st.text() | st.sampled_from(["<pad>", "<end> <begin>", "  a  b ", "1,234 56", "Ω\u212b", "e\u0301", ""]))
def test_decoding_gives_back_the_text(text):
    tokens = TOKENIZER.encode(text)
    assert tokens.dtype == torch.int64
    assert TOKENIZER.decode(tokens) == unicodedata.normalize("NFC", text)
    assert all(END < token < TOKENIZER.vocab_size for token in tokens.tolist())
    assert TOKENIZER.encode_batch([text, "a"]) == [tokens.tolist(), TOKENIZER.encode("a").tolist()]


def test_decoding_gives_back_shipped_sentences():
    other = shipped_pairs("fr", "es")
    for sentences in (PAIRS.source, PAIRS.target, other.source, other.target):
        assert [TOKENIZER.decode(tokens) for tokens in TOKENIZER.encode_batch(sentences[::4])] == sentences[::4]


@settings(deadline=None)
@given(st.text())
def test_any_text_is_encoded(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        with pytest.raises(UserError, match="no UTF-8 form"):
            BYTES.encode(text)
    else:
        assert BYTES.decode(BYTES.encode(text)) == text  # without NFC as it is


def test_special_tokens_are_passed_over():
    assert (PAD, BEGIN, END) == (0, 1, 2)
    tokens = TOKENIZER.encode("The is").tolist()
    assert TOKENIZER.decode(torch.tensor([BEGIN, *tokens, END, PAD])) == "The is"
    assert TOKENIZER.tokens([BEGIN, *tokens, END, PAD]) == ["<begin>", "The", "▁is", "<end>", "<pad>"]
    decoder = TOKENIZER.streaming_decoder()
    assert [decoder.push(token) for token in (BEGIN, *tokens, END)] == ["", "The", " is", ""]
    assert decoder.finish() == ""


def test_without_special_tokens_numbers_start_with_the_bytes():
    assert BYTES.special_tokens == ()
    plain, special = BPETokenizer.train(TEXTS, 500), BPETokenizer.train(TEXTS, 503, special_tokens=SPECIAL_TOKENS)
    text = "<end> of 2021"
    assert [number + 3 for number in plain.encode_batch([text])[0]] == special.encode(text).tolist()
    assert plain.tokens(range(500)) == special.tokens(range(3, 503))
    assert plain.tokens([0, 255]) == BYTES.tokens([0, 255])


def test_tokens_can_be_read():
    assert "".join(TOKENIZER.tokens(TOKENIZER.encode("Wo ist die Tür?"))) == "Wo▁ist▁die▁Tür?"
    assert "".join(TOKENIZER.tokens(TOKENIZER.encode("œ→"))) == "<0xC5><0x93><0xE2><0x86><0x92>"
    assert TOKENIZER.decode(TOKENIZER.encode("œ")[:1]) == "\ufffd"


def test_digits_are_tokens_if_asked_for():
    assert TOKENIZER.tokens(TOKENIZER.encode("2021")) == ["2", "0", "2", "1"]
    together = BPETokenizer.train(["2021"] * 9, 259)
    assert together.tokens(together.encode("2021")) == ["2021"]


def test_vocabulary_has_the_wanted_size_and_is_the_same_each_time():
    assert TOKENIZER.vocab_size == 900
    assert translation_tokenizer(TEXTS, 900).to_json() == TOKENIZER.to_json()
    assert translation_tokenizer(iter(TEXTS), 900).to_json() == TOKENIZER.to_json()
    assert translation_tokenizer(["ab ab"], 5000).vocab_size == 261  # ab and, after a space, ▁ab
    assert translation_tokenizer(["abc"], 259).vocab_size == 259
    assert BPETokenizer.train(TEXTS[:200], 290).to_json() == BPETokenizer.train(TEXTS[:200], 290).to_json()
    assert repr(TOKENIZER) == "BPETokenizer(900 tokens)"


def test_one_text_is_a_text_and_not_its_characters():
    assert BPETokenizer.train("ab ab", 300).vocab_size == 258
    assert BPETokenizer.train("ab ab", 300).to_json() == BPETokenizer.train(["ab ab"], 300).to_json()


def test_training_texts_are_normalised():
    tokenizer = translation_tokenizer(["e\u0301e\u0301"] * 5, 261)
    assert len(tokenizer.encode("éé")) == len(tokenizer.encode("e\u0301e\u0301")) == 1


def test_saved_and_loaded(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(TOKENIZER.to_json(), encoding="utf-8")
    loaded = load_tokenizer(path)
    assert loaded.vocab_size == TOKENIZER.vocab_size
    assert loaded.special_tokens == SPECIAL_TOKENS
    assert loaded.encode_batch(PAIRS.target[:200]) == TOKENIZER.encode_batch(PAIRS.target[:200])
    assert loaded.to_json() == TOKENIZER.to_json()


def test_the_file_without_special_tokens_is_the_library_s():
    from tokenizers import Tokenizer

    tokenizer = BPETokenizer.train(TEXTS, 400)
    assert Tokenizer.from_str(tokenizer.to_json()).encode("The is").ids == tokenizer.encode("The is").tolist()
    inner = Tokenizer.from_str(json.dumps(json.loads(TOKENIZER.to_json())["tokenizer"]))
    assert [number + 3 for number in inner.encode("The is").ids] == TOKENIZER.encode("The is").tolist()


def test_impossible_arguments():
    with pytest.raises(ValueError, match="given vocab_size=258, expected at least 259: 256 bytes and 3 special"):
        translation_tokenizer(["a"], 258)
    with pytest.raises(ValueError, match="given vocab_size=255, expected at least 256, the bytes"):
        BPETokenizer.train("a", 255)
    with pytest.raises(ValueError, match=r"given 2 text\(s\) without a character"):
        translation_tokenizer(["", ""], 300)
    with pytest.raises(ValueError, match=r"given 1 text\(s\) without a character"):
        BPETokenizer.train("", 256)
    with pytest.raises(ValueError, match="given token 900, expected 0 to 899"):
        TOKENIZER.decode([900])
    with pytest.raises(ValueError, match="given token -1"):
        TOKENIZER.tokens([-1])
    with pytest.raises(ValueError, match="given token 256, expected 0 to 255"):
        BYTES.streaming_decoder().push(256)
    for encode in (lambda text: TOKENIZER.encode(text), lambda text: TOKENIZER.encode_batch(["b", text])):
        with pytest.raises(UserError, match=r"no UTF-8 form: '\\udcff' at position 1"):
            encode("a\udcff")
    with pytest.raises(UserError, match=r"a text has no UTF-8 form: '\\udcff' at position 1"):
        BPETokenizer.train(["b", "a\udcff"], 300)
