"""What the parallel sentences are drawn from: things, people, times, and the clauses that are made of them."""

from dataclasses import replace
from random import Random

from example_pairs import lexicon
from example_pairs import verbs as table
from example_pairs.clauses import NOTHING, OTHER, Clause, Rest
from example_pairs.phrases import (
    HE,
    SHE,
    THEY,
    WE,
    YOU,
    I,
    Name,
    NounPhrase,
    Owned,
    Subject,
    french_adjective,
    number,
    spanish_adjective,
)
from example_pairs.words import Adjective, Four, Noun, Verb, adjectives, nouns, polished, verbs


def phrases(lines: str) -> list[Four]:
    """The rows of a table of the lexicon, each column as one phrase."""
    each = ([" ".join(column) for column in row] for row in lexicon.rows(lines))
    return [Four(en, de, fr, es) for en, de, fr, es, *_ in each]


THINGS, ANIMALS, PEOPLE = nouns(lexicon.THINGS), nouns(lexicon.ANIMALS), nouns(lexicon.PEOPLE)
PLACES, SUBSTANCES = nouns(lexicon.PLACES), nouns(lexicon.SUBSTANCES)
RELATIVES = [noun for noun in PEOPLE if noun.en[0] in lexicon.RELATIVES]
PROFESSIONS = [noun for noun in PEOPLE if noun.en[0] in lexicon.PROFESSIONS]
ROOMS = [noun for noun in PLACES if noun.en[0] in lexicon.ROOMS]
NAMES = [Name(name, sex) for name, sex in lexicon.NAMES.items()]
ADJECTIVES = adjectives()
TAKING, GIVING, ACTIVITIES = verbs(table.VERBS), verbs(table.GIVING), verbs(table.ACTIVITIES)
MOTION, SAYING, [DRINK] = verbs(table.MOTION), verbs(table.SAYING), verbs(table.DRINK)
EAT = next(verb for verb in TAKING if verb.en == "eat")
# In the past only those that Spanish tells apart from the present and French from each other's sexes.
PRONOUNS = {
    "present": (I, I, YOU, YOU, HE, SHE, WE, WE, THEY, THEY),
    "past": (I, I, I, HE, SHE, THEY, THEY, THEY),
    "past motion": (HE, SHE, THEY),
    "future": (I, YOU, HE, SHE, WE, THEY),
}
COMMANDS = {row.en: row for row in phrases(table.COMMANDS)}
DOORS = [noun for noun in THINGS if "t" not in noun.tags]
OWNERS = ("my", "your", "our", "their")
UNCOLOURED = ["letter", "newspaper", "photo", "ticket", "map", "cake", "egg", "orange"]
DAYS, SPANS = phrases(lexicon.DAYS), phrases(lexicon.SPANS)
TIMES = {
    "present": phrases(lexicon.PRESENT_TIMES)
    + [Four(f"every {en}", f"jeden {de}", f"tous les {fr}s", f"todos los {es}") for en, de, fr, es in DAYS[:5]],
    "past": phrases(lexicon.PAST_TIMES)
    + [Four(f"last {en}", f"letzten {de}", f"{fr} dernier", f"el {es} pasado") for en, de, fr, es in DAYS]
    + [
        Four(f"{n.en} {en} ago", f"vor {n.de} {de}", f"il y a {n.fr} {fr}", f"hace {n.es} {es}")
        for n in map(number, range(2, 6))
        for en, de, fr, es in SPANS
    ],
    "future": phrases(lexicon.FUTURE_TIMES)
    + [Four(f"next {en}", f"nächsten {de}", f"{fr} prochain", f"el próximo {es}") for en, de, fr, es in DAYS]
    + [
        Four(f"in {n.en} {en}", f"in {n.de} {de}", f"dans {n.fr} {fr}", f"dentro de {n.es} {es}")
        for n in map(number, range(2, 6))
        for en, de, fr, es in SPANS
    ],
}
MARKS = {".": Four(".", ".", ".", "."), "?": Four("?", "?", " ?", "?"), "!": Four("!", "!", " !", "!")}
OPENING = {"?": "¿", "!": "¡"}


def say(words: Four, mark: str = ".") -> Four:
    """A sentence: polished, with its marks. French has a plain space before ? and !."""
    finished = [polished(language, text) for language, text in zip(Four._fields, words, strict=True)]
    en, de, fr, es = (text + end for text, end in zip(finished, MARKS[mark], strict=True))
    return Four(en, de, fr, OPENING.get(mark, "") + es)


def joined(*parts: Four | str) -> Four:
    """Parts one after the other; a string is the same in all languages."""
    each = [Four(part, part, part, part) if isinstance(part, str) else part for part in parts]
    en, de, fr, es = (" ".join(words) for words in zip(*each, strict=True))
    return Four(en, de, fr, es)


def chance(rng: Random, share: float) -> bool:
    return rng.random() < share


def fitting(rng: Random, noun: Noun) -> Adjective:
    """An adjective that is said of such things."""
    if noun in PEOPLE:
        kinds = {"p", "q"}
    elif noun in ANIMALS:
        kinds = {"n"}
    else:
        kinds = {"t"} | ({"w"} & noun.tags) | (set() if noun.en[0] in UNCOLOURED else {"c"})
    return rng.choice([adjective for adjective in ADJECTIVES if kinds & adjective.tags])


def thing(rng: Random, noun: Noun, *, plural: float = 0.25, adjective: float = 0.35, a: float = 0.25) -> NounPhrase:
    """The, a or somebody's such thing."""
    determiner = "the" if chance(rng, 0.6) else rng.choice(OWNERS)
    many = chance(rng, plural)
    if not many and chance(rng, a):
        determiner = "a"
    return NounPhrase(noun, determiner, fitting(rng, noun) if chance(rng, adjective) else None, many)


def person(rng: Random, *, plural: float = 0.2, adjective: float = 0.1) -> NounPhrase:
    """The or somebody's such person."""
    noun = rng.choice(PEOPLE)
    determiner = rng.choice(OWNERS) if noun in RELATIVES and chance(rng, 0.5) else "the"
    many = chance(rng, plural) and noun.en[0] not in lexicon.SINGLE
    return NounPhrase(noun, determiner, fitting(rng, noun) if chance(rng, adjective) else None, many)


def anyone(rng: Random) -> NounPhrase | Name:
    return rng.choice(NAMES) if chance(rng, 0.3) else person(rng)


def subject(rng: Random, tense: str = "future") -> Subject:
    """Pronouns are as frequent as learning the forms of a verb needs."""
    return rng.choice(PRONOUNS.get(tense, PRONOUNS["future"])) if chance(rng, 0.5) else anyone(rng)


def direct(phrase: NounPhrase | Name | Owned, personal: bool = False) -> Rest:
    """As the object of a verb; Spanish puts a before people."""
    return Rest(Four(phrase.en, phrase.de("acc"), phrase.fr, ("a " if personal else "") + phrase.es))


def object_of(rng: Random, verb: Verb, *, definite: bool = False) -> Rest:
    kind = rng.choice(sorted(verb.tags))
    if kind == "m":
        return direct(anyone(rng), personal=True)
    if kind == "n":
        return direct(thing(rng, rng.choice(ANIMALS), a=0 if definite else 0.25))
    noun = rng.choice([noun for noun in THINGS if kind in noun.tags])
    return direct(thing(rng, noun, a=0 if definite else 0.25))


def taking(rng: Random, tense: str, *, definite: bool = False) -> Clause:
    """Somebody does something with a thing, an animal or a person."""
    verb = rng.choice([verb for verb in TAKING if tense == "present" or verb.en != "know"])
    who, what = subject(rng, tense), object_of(rng, verb, definite=definite)
    while who.en == what.words.en:
        who = subject(rng, tense)
    return Clause(who, verb, what, tense)


def located(place: Noun, adjective: Adjective | None = None) -> Four:
    """In or at the place."""
    english, german, _, french, _ = place.prepositions
    phrase = NounPhrase(place, "the", adjective)
    return Four(f"{english} {phrase.en}", f"{german} {phrase.de('dat')}", f"{french} {phrase.fr}", f"en {phrase.es}")


def towards(place: Noun) -> Four:
    """To the place."""
    *_, german, _, french = place.prepositions
    phrase = NounPhrase(place)
    case = "dat" if german == "zu" else "acc"
    return Four(f"to {phrase.en}", f"{german} {phrase.de(case)}", f"{french} {phrase.fr}", f"a {phrase.es}")


def acting(rng: Random, tense: str) -> Clause:
    """Somebody sleeps, works ..., perhaps at a place."""
    rest = Rest(located(rng.choice(PLACES)), True) if chance(rng, 0.6) else NOTHING
    return Clause(subject(rng, tense), rng.choice(ACTIVITIES), rest, tense)


def moving(rng: Random, tense: str) -> Clause:
    """Somebody goes somewhere. Of I, you and we in the past the French participle would tell the sex."""
    who = subject(rng, "past motion" if tense == "past" else tense)
    return Clause(who, rng.choice(MOTION), Rest(towards(rng.choice(PLACES)), True), tense, motion=True)


def giving(rng: Random, tense: str) -> Clause:
    """Somebody gives somebody something."""
    noun = rng.choice([noun for noun in THINGS if "t" in noun.tags])
    what, whom, who = thing(rng, noun, plural=0.15, adjective=0.15), anyone(rng), subject(rng, tense)
    while who.en == whom.en:
        who = subject(rng, tense)
    clitic = "les" if whom.plural else "le"
    words = Four(
        f"{what.en} to {whom.en}",
        f"{whom.de('dat')} {what.de('acc')}",
        f"{what.fr} à {whom.fr}",
        f"{what.es} a {whom.es}",
    )
    return Clause(who, rng.choice(GIVING), Rest(words), tense, clitic=clitic)


def being(rng: Random, who: Subject | None = None) -> Clause:
    """Something or somebody is as an adjective says."""
    if who is None:
        noun = rng.choice([*THINGS, *PEOPLE, *ANIMALS])
        who = person(rng, adjective=0) if noun in PEOPLE else thing(rng, noun, a=0, adjective=0)
    noun = who.noun if isinstance(who, NounPhrase | Owned) else PEOPLE[0]
    adjective = fitting(rng, noun)
    verb = replace(OTHER["be"], es="estar") if adjective.transient else OTHER["be"]
    words = Four(
        adjective.en[0],
        adjective.de[0],
        french_adjective(adjective, who.gender("fr"), who.plural),
        spanish_adjective(adjective.es, who.gender("es"), who.plural),
    )
    return Clause(who, verb, Rest(words, True))


def any_clause(rng: Random, tense: str = "present") -> Clause:
    return rng.choice([taking, taking, acting, moving])(rng, tense)


def state(rng: Random, tense: str = "present") -> Clause:
    """Somebody is ill, young ..."""
    return being(rng, person(rng, adjective=0))


def timed(rng: Random, clause: Clause) -> Four:
    """With a time, at the end or in front."""
    clause = replace(clause, time=rng.choice(TIMES[clause.tense]))
    return clause.fronted if chance(rng, 0.3) else clause.main
