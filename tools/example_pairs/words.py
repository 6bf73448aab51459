"""How the words of the parallel sentences are inflected: articles, cases, agreement, conjugation, elision."""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from example_pairs import lexicon
from example_pairs.verbs import FORMS, PERSONS


class Four(NamedTuple):
    """The same words in the four languages."""

    en: str
    de: str
    fr: str
    es: str


@dataclass(frozen=True)
class Noun:
    """Forms (singular, plural) in each language, genders m, f, n, and what is said of it."""

    en: tuple[str, str]
    de: tuple[str, str]
    fr: tuple[str, str]
    es: tuple[str, str]
    genders: Four
    genitive: str = ""
    tags: frozenset[str] = frozenset()
    prepositions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Adjective:
    en: tuple[str, str]
    de: tuple[str, str]
    fr: tuple[str, str]
    es: str
    before: bool
    transient: bool
    tags: frozenset[str]


@dataclass(frozen=True)
class Verb:
    """What a row of the lexicon says; `person` is 0 to 4, see PERSONS."""

    en: str
    past: str
    de: str
    participle: str
    fr: str
    es: str
    tags: frozenset[str] = frozenset()
    prefix: str = field(default="", kw_only=True)

    def english(self, person: int) -> str:
        """The present."""
        verb, _, particle = self.en.partition("+")
        if verb == "be":
            verb = ("am", "are", "is", "are", "are")[person]
        elif person == 2 and verb not in ("can", "must"):
            verb = "has" if verb == "have" else plural_of(verb)
        return f"{verb} {particle}".strip()

    def english_base(self) -> str:
        return self.en.replace("+", " ")

    def english_past(self) -> str:
        verb, _, particle = self.en.partition("+")
        regular = f"{verb}d" if verb.endswith("e") else re.sub(r"(?<![aeiou])y$", "i", verb) + "ed"
        return f"{self.past or regular} {particle}".strip()

    def german(self, person: int) -> str:
        """The present without its prefix."""
        if self.de == "sein":
            return ("bin", "bist", "ist", "sind", "sind")[person]
        stem = self.de.removesuffix("n").removesuffix("e")
        e = "e" if re.search("([td]|ffn|chn)$", stem) else ""
        du, er, *ich = FORMS["de"].get(self.de, [f"{stem}{e}st", f"{stem}{e}t"])
        return (ich[0] if ich else f"{stem}e", du, er, self.de, self.de)[person]

    def french(self, person: int) -> str:
        """The present."""
        stem = self.fr.removesuffix("er")
        return FORMS["fr"].get(self.fr, [stem + ending for ending in ("e", "es", "e", "ons", "ent")])[person]

    def french_participle(self) -> str:
        return FORMS["fr"].get(self.fr, [self.fr.removesuffix("er") + "é"])[-1]

    def spanish(self, person: int, past: bool = False) -> str:
        """The present, or the preterite."""
        forms = FORMS["es"].get(self.es, [])
        if len(forms) > 1:
            return forms[person + PERSONS * past]
        stem, kind = self.es[:-2], self.es[-2:]
        if past:
            endings = {"ar": "é aste ó amos aron", "er": "í iste ió imos ieron", "ir": "í iste ió imos ieron"}[kind]
            if person == 0 and kind == "ar":
                stem = re.sub("g$", "gu", re.sub("c$", "qu", re.sub("z$", "c", stem)))
        else:
            endings = {"ar": "o as a amos an", "er": "o es e emos en", "ir": "o es e imos en"}[kind]
            stem = forms[0] if forms and person != 3 else stem
        return stem + endings.split()[person]


def plural_of(word: str) -> str:
    """English, of nouns and of the third person."""
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(s|x|ch|sh|[^o]o)$", word) and word != "photo" else "s")


def spanish_plural(word: str) -> str:
    if re.search("[aeiouáé]$", word):
        return word + "s"
    return word.translate(str.maketrans("óí", "oi")) + "es" if re.search("[óí]n$", word) else word + "es"


def nouns(table: str) -> list[Noun]:
    found = []
    for english, german, french, spanish, *tags in lexicon.rows(table):
        place = english[1:] and english[1] in ("in", "at", "on")
        plural = plural_of(english[0]) if len(english) == 1 or place else english[1]
        found.append(
            Noun(
                (english[0], plural),
                (german[0], german[2] if len(german) > 2 else ""),
                (french[0], french[2] if len(french) > 2 and not place else french[0] + "s"),
                (spanish[0], spanish[2] if len(spanish) > 2 else spanish_plural(spanish[0])),
                Four("", german[1], french[1], spanish[1]),
                german[3] if len(german) == 4 else "",
                frozenset(tags[0] if tags else ()),
                (english[1], *german[3:], *french[2:]) if place else (),
            )
        )
    return found


def adjectives() -> list[Adjective]:
    found = []
    for english, german, french, spanish, tags in lexicon.rows(lexicon.ADJECTIVES):
        comparative = english[1] if len(english) > 1 else f"more {english[0]}"
        found.append(
            Adjective(
                (english[0], comparative),
                (german[0], german[1]),
                (french[0], french[1]),
                spanish[0],
                french[2:] == ["!"],
                english[0] in lexicon.TRANSIENT,
                frozenset(tags),
            )
        )
    return found


def verbs(table: str) -> list[Verb]:
    found = []
    for english, german, french, spanish, *tags in lexicon.rows(table):
        prefix, _, infinitive = german[0].rpartition("~")
        found.append(
            Verb(
                english[0],
                english[1] if len(english) > 1 else "",
                infinitive,
                german[1],
                french[0],
                spanish[0],
                frozenset(tags[0] if tags else ()),
                prefix=prefix,
            )
        )
    return found


VOWEL = re.compile("[aeiouhyàâéèêîïôœ]", re.IGNORECASE)  # no word of the lexicon begins with an aspirated h
_ELIDED = re.compile(rf"\b(j|n|qu|d|l)[ea] (?!(onz|huit))(?={VOWEL.pattern})", re.IGNORECASE)
_CONTRACTED = {
    "de": {"in dem": "im", "in das": "ins", "an dem": "am", "an das": "ans", "zu dem": "zum", "zu der": "zur"},
    "fr": {"à le": "au", "à les": "aux", "de le": "du", "de les": "des"},
    "es": {"a el": "al", "de el": "del"},
}


def polished(language: str, words: str) -> str:
    """A sentence from its words: elisions and contractions made, the first letter a capital."""
    words = " ".join(words.split()).replace(" ,", ",")
    if language == "en":
        words = re.sub(r"\b(a) (?=[aeiou])", r"\1n ", words, flags=re.IGNORECASE)
    if language == "fr":
        words = _ELIDED.sub(r"\1'", words)
    for apart, together in _CONTRACTED.get(language, {}).items():
        words = re.sub(rf"(?<!\w){apart}(?!\w)", together, words)
    first = next(index for index, character in enumerate(words) if character.isalnum())
    return words[:first] + words[first].upper() + words[first + 1 :]
