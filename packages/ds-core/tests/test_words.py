import json
import unicodedata

import pytest
import torch
from ds_core import UserError
from ds_core.text.example_pairs import shipped_pairs
from ds_core.text.tokenizers import BEGIN, END, PAD, SPECIAL_TOKENS, load_tokenizer
from ds_core.text.words import WordTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

ENGLISH, FRENCH = shipped_pairs("en", "de"), shipped_pairs("fr", "es")
SENTENCES = {"en": ENGLISH.source, "de": ENGLISH.target, "fr": FRENCH.source, "es": FRENCH.target}
UNKNOWN = 3


def translation_tokenizer(texts, vocab_size=5000, **options):
    return WordTokenizer.train(texts, vocab_size, special_tokens=SPECIAL_TOKENS, split_digits=True, nfc=True, **options)


TOKENIZER = translation_tokenizer(SENTENCES["en"][:2000] + SENTENCES["fr"][:2000])


def split(text):
    """The tokens of a text in which no word is unknown."""
    tokenizer = WordTokenizer.train(text, 1000)
    return tokenizer.tokens(tokenizer.encode(text))


@pytest.mark.parametrize("language", SENTENCES)
def test_decoding_gives_back_every_shipped_sentence(language):
    sentences = SENTENCES[language]
    tokenizer = translation_tokenizer(sentences)
    tokens = tokenizer.encode_batch(sentences)
    assert [tokenizer.decode(each) for each in tokens] == sentences
    assert all(UNKNOWN < token < tokenizer.vocab_size for each in tokens for token in each)
    # with rare words unknown, all else is as it was
    fewer = translation_tokenizer(sentences, min_frequency=100)
    for sentence, each in zip(sentences[::50], tokens[::50], strict=True):
        known = set(fewer.tokens(range(UNKNOWN + 1, fewer.vocab_size)))
        expected = "".join(
            word.replace("▁", " ") if word in known else " ⁇" for word in tokenizer.tokens(each)
        ).removeprefix(" ")
        assert fewer.decode(fewer.encode(sentence)) == expected


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Is it 18:45? Yes!", "▁Is ▁it ▁18 : 45 ? ▁Yes !"),
        ("It costs 2,000 €.", "▁It ▁costs ▁2 , 000 ▁€ ."),
        ("s'il te plaît ?", "▁s' il ▁te ▁plaît ▁?"),
        ("don't, she'll, David's, o\u2019clock", "▁don 't , ▁she 'll , ▁David 's , ▁o\u2019 clock"),
        ("d\u2019un l'été qu'elle", "▁d\u2019 un ▁l' été ▁qu' elle"),
        ("Pourrais-tu, vingt-quatre", "▁Pourrais - tu , ▁vingt - quatre"),
        ("¿Qué? ¡Sí! 'no' (a)", "▁¿ Qué ? ▁¡ Sí ! ▁' no ' ▁( a )"),
        ("A4 x_y <unknown> ▁", "▁A 4 ▁x _ y ▁< unknown > ▁▁"),
        ("日本 e\u0301te\u0301 नमस्ते", "▁日本 ▁e\u0301te\u0301 ▁नमस्ते"),
    ],
)
def test_what_a_word_is(text, tokens):
    assert split(text) == tokens.split(" ")
    assert WordTokenizer.train(text, 1000).decode(WordTokenizer.train(text, 1000).encode(text)) == text


@settings(max_examples=200, deadline=None)
@given(
    # Python takes some control characters for blanks that Unicode does not
    st.text(st.characters(exclude_categories=["Cs", "Cc"]))
    | st.sampled_from(["  a \t b ", "1,234 56", "plaît\u00a0?", "Ω\u212b", "e\u0301", "⁇ a⁇", "\n"])
)
def test_decoding_gives_back_any_text_whose_words_are_known(text):
    tokenizer = WordTokenizer.train(["a", text], 5000, nfc=True)
    tokens = tokenizer.encode(text)
    assert tokens.dtype == torch.int64
    assert tokenizer.unknown not in tokens
    written = tokenizer.decode(tokens)
    # one blank for several, none at the ends
    assert "".join(written.split()) == "".join(unicodedata.normalize("NFC", text).split())
    assert len(written.split()) == len(text.split())
    assert written == written.strip()
    assert tokenizer.encode_batch([text, written]) == [tokens.tolist()] * 2
    decoder = tokenizer.streaming_decoder()
    assert "".join([*map(decoder.push, tokens.tolist()), decoder.finish()]) == written


def test_blanks():
    tokenizer = WordTokenizer.train("a b\u00a0?", 10)
    assert tokenizer.decode(tokenizer.encode(" \n a \t  b\u00a0? ")) == "a b\u00a0?"
    assert tokenizer.encode(" \n ").shape == (0,)


def test_rare_words_are_unknown():
    texts = ["a b b c c c", "b c d"]
    assert [WordTokenizer.train(texts, 99, min_frequency=n).vocab_size for n in (1, 2, 3, 4)] == [5, 3, 3, 2]
    assert WordTokenizer.train(texts, 99).tokens(range(5)) == ["<unknown>", "▁c", "▁b", "▁a", "▁d"]
    assert WordTokenizer.train(texts, 99, min_frequency=4).tokens([1]) == ["▁c"]


def test_the_most_frequent_words_are_kept():
    texts = ["d d d", "b a b a", "c"]
    assert WordTokenizer.train(texts, 4).tokens(range(4)) == ["<unknown>", "▁d", "▁a", "▁b"]
    with_special = WordTokenizer.train(texts, 4, special_tokens=["<end>"])
    assert with_special.tokens(range(4)) == ["<end>", "<unknown>", "▁d", "▁a"]
    assert with_special.vocab_size == 4
    assert WordTokenizer.train(iter(texts), 4).to_json() == WordTokenizer.train(texts, 4).to_json()
    assert WordTokenizer.train("a b", 9).to_json() == WordTokenizer.train(["a b"], 9).to_json()
    assert repr(with_special) == "WordTokenizer(4 tokens)"


def test_unknown_words_can_be_read():
    tokenizer = translation_tokenizer(["The dog sleeps.", "l'hôtel"])
    tokens = tokenizer.encode("The zebra sleeps.")
    assert (tokens == tokenizer.unknown).tolist() == [False, True, False, False]
    assert tokenizer.unknown == UNKNOWN
    assert tokenizer.tokens(tokens) == ["▁The", "<unknown>", "▁sleeps", "."]
    for text, shown in (
        ("The zebra sleeps.", "The ⁇ sleeps."),
        ("Zebra, zebra", "⁇ ⁇ ⁇"),
        ("l'eau", "l' ⁇"),
        ("😀", "⁇"),
        ("dog", "dog"),
        ("Dog", "⁇"),
    ):
        tokens = tokenizer.encode(text)
        assert tokenizer.decode(tokens) == shown
        assert tokenizer.encode(shown).tolist() == tokens.tolist()  # so a translation can be read again


def test_no_text_is_encoded_to_a_special_token():
    assert (PAD, BEGIN, END) == (0, 1, 2)
    tokenizer = translation_tokenizer(["<pad> <begin> <end> <unknown>"])
    for text in ("<pad>", "<end> <begin>", "<unknown>", " <end>"):
        tokens = tokenizer.encode(text).tolist()
        assert min(tokens) > UNKNOWN
        assert tokenizer.decode(tokens) == text.strip()
    assert min(TOKENIZER.encode("<pad> <unknown> <end>").tolist()) == UNKNOWN


def test_words_are_spelled_as_in_the_text():
    known = translation_tokenizer(["the cat sleeps."])
    found = known.spelled("  the zebra  sleeps, caf\u00e9 12.")
    assert [word for word, _ in found] == ["the", "zebra", "sleeps", ",", "caf\u00e9", "1", "2", "."]
    assert [word for word, known in found if known] == ["the", "sleeps", "."]
    assert known.spelled(" ") == []
    with pytest.raises(UserError, match=r"a line has no UTF-8 form: '\\udcff' at position 1"):
        known.spelled("a\udcff", "a line")


def test_special_tokens_are_passed_over():
    tokens = TOKENIZER.encode("The train").tolist()
    assert TOKENIZER.decode(torch.tensor([BEGIN, *tokens, END, PAD])) == "The train"
    assert TOKENIZER.tokens([BEGIN, *tokens, END, PAD]) == ["<begin>", "▁The", "▁train", "<end>", "<pad>"]
    decoder = TOKENIZER.streaming_decoder()
    assert [decoder.push(token) for token in (BEGIN, *tokens, END)] == ["", "The", " train", ""]


def test_digits_are_tokens_if_asked_for():
    assert WordTokenizer.train("in 2021", 9).tokens(range(1, 3)) == ["▁2021", "▁in"]
    tokenizer = WordTokenizer.train("in 2021", 9, split_digits=True)
    assert tokenizer.tokens(tokenizer.encode("in 2021")) == ["▁in", "▁2", "0", "2", "1"]


def test_texts_are_normalised_if_asked_for():
    composed, apart = "été", "e\u0301te\u0301"
    assert WordTokenizer.train([composed, apart], 9).vocab_size == 3
    tokenizer = WordTokenizer.train([composed, apart], 9, nfc=True)
    assert tokenizer.vocab_size == 2
    assert tokenizer.decode(tokenizer.encode(apart)) == composed


def test_saved_and_loaded(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(TOKENIZER.to_json(), encoding="utf-8")
    loaded = load_tokenizer(path)
    assert isinstance(loaded, WordTokenizer)
    assert loaded.vocab_size == TOKENIZER.vocab_size
    assert loaded.special_tokens == SPECIAL_TOKENS
    texts = [*SENTENCES["fr"][:200], *SENTENCES["de"][:200], "e\u0301te\u0301  2021"]
    assert loaded.encode_batch(texts) == TOKENIZER.encode_batch(texts)
    assert loaded.to_json() == TOKENIZER.to_json()


def damaged(change):
    fields = json.loads(WordTokenizer.train("a b", 9).to_json())
    change(fields)
    return json.dumps(fields)


@pytest.mark.parametrize(
    "content",
    [
        damaged(lambda fields: fields.pop("tokenizer")),
        damaged(lambda fields: fields.pop("special_tokens")),
        damaged(lambda fields: fields["tokenizer"].pop("model")),
        damaged(lambda fields: fields["tokenizer"]["model"]["vocab"].pop("<unknown>")),
        damaged(lambda fields: fields["tokenizer"]["model"].update(vocab={" a": 0, " b": 1})),
        damaged(lambda fields: fields["tokenizer"]["model"]["vocab"].update({" a": 7})),
        damaged(lambda fields: fields["tokenizer"]["model"]["vocab"].update({" a": 0})),
        WordTokenizer.train("a b", 9).to_json()[:-9],
    ],
)
def test_damaged_files(content, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"tokenizer\.json is not a tokenizer that ds wrote: ") as caught:
        load_tokenizer(path)
    assert "\n" not in str(caught.value)


def test_impossible_arguments():
    with pytest.raises(
        ValueError, match=r"given vocab_size=4, expected at least 5: 3 special token\(s\), <unknown> and"
    ):
        translation_tokenizer(["a"], 4)
    assert translation_tokenizer(["a b"], 5).vocab_size == 5
    with pytest.raises(ValueError, match="given min_frequency=0, expected at least 1"):
        WordTokenizer.train("a", 9, min_frequency=0)
    with pytest.raises(ValueError, match=r"WordTokenizer: given 2 text\(s\) without a character"):
        WordTokenizer.train(["", ""], 9)
    for texts, frequency in ((["a b", "a c"], 3), ([" "], 1)):
        with pytest.raises(ValueError, match=f"as often as min_frequency={frequency}, so the vocabulary is empty"):
            WordTokenizer.train(texts, 9, min_frequency=frequency)
    end = TOKENIZER.vocab_size
    for use in (TOKENIZER.decode, TOKENIZER.tokens):
        for token in (-1, end):
            with pytest.raises(ValueError, match=f"WordTokenizer: given token {token}, expected 0 to {end - 1}"):
                use([token])
    with pytest.raises(ValueError, match="given token -1"):
        TOKENIZER.streaming_decoder().push(-1)
    for encode in (lambda text: TOKENIZER.encode(text), lambda text: TOKENIZER.encode_batch(["b", text])):
        with pytest.raises(UserError, match=r"no UTF-8 form: '\\udcff' at position 1"):
            encode("a\udcff")
    with pytest.raises(UserError, match=r"a text has no UTF-8 form: '\\udcff' at position 1"):
        WordTokenizer.train(["b", "a\udcff"], 9)
