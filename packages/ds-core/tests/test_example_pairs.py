import itertools
import re
import unicodedata
from collections import Counter

import pytest
from ds_core import UserError
from ds_core.text.example_pairs import LANGUAGES, shipped_pairs
from ds_core.text.pairs import split_by_hash


@pytest.mark.parametrize("languages", [*itertools.permutations(LANGUAGES, 2)])
def test_every_direction(languages):
    pairs, back = shipped_pairs(*languages), shipped_pairs(*reversed(languages))
    assert 9000 < len(pairs) < 12_500
    assert (pairs.source, pairs.target) == (back.target, back.source)
    split = split_by_hash(pairs)
    assert split.left_out == 0
    assert len(split.test) > 450
    assert len(split.validation) > 450
    held_out = {*split.test.source, *split.validation.source}, {*split.test.target, *split.validation.target}
    assert not held_out[0] & set(split.train.source)
    assert not held_out[1] & set(split.train.target)


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_are_normal_unique_and_of_three_to_sixteen_words(language):
    sentences = shipped_pairs(language, "en" if language != "en" else "de").source
    assert len(set(sentences)) == len(sentences)
    for sentence in sentences:
        assert sentence == unicodedata.normalize("NFC", " ".join(sentence.split()))
        assert 3 <= len(sentence.split()) <= 16
        assert sentence[-1] in ".?!"
        first = next(character for character in sentence if character.isalnum())
        assert first.isupper()


def test_the_words_of_held_out_sentences_are_trained_on():
    for language in ("de", "fr", "es"):
        split = split_by_hash(shipped_pairs("en", language))
        known = Counter(word for sentence in split.train.target for word in re.findall(r"\w+", sentence))
        words = [word for sentence in split.test.target for word in re.findall(r"\w+", sentence)]
        # what is new is a number in one German word, of parts that are not
        new = {word for word in words if not known[word] and not re.search(r"hundert|tausend|\d|zig$", word)}
        assert len(new) <= 0.002 * len(words), new


def test_spelling_of_each_language():
    french = " ".join(shipped_pairs("fr", "en").source)
    assert not re.search(r"\b(le|la|de|je|ne|que) (?!onz)(?!huit)[aeéèêiouhœ]", french)
    assert not re.search(r"\b(à|de) (le|les)\b", french)
    assert not re.search(r"\S[?!]", french)
    spanish = shipped_pairs("es", "en").source
    assert not any(re.search(r"\b(a|de) el\b", sentence) for sentence in spanish)
    assert all(sentence.startswith("¿") == sentence.endswith("?") for sentence in spanish)
    assert all(sentence.startswith("¡") == sentence.endswith("!") for sentence in spanish)
    english = " ".join(shipped_pairs("en", "de").source)
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", english)
    german = " ".join(shipped_pairs("de", "en").source)
    assert not re.search(r"\b(in|an|zu) (dem|das)\b|\bzu der\b", german)


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        (("en", "it"), r"no sentences are shipped in 'it'.*; expected one of en \(English\), de \(German\), fr"),
        (("german", "en"), r"no sentences are shipped in 'german'; did you mean German\?; expected one of en"),
        (("en", "en"), "given 'en' as both languages, expected two"),
    ],
)
def test_unknown_languages(languages, message):
    with pytest.raises(UserError, match=message):
        shipped_pairs(*languages)
