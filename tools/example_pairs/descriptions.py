"""What the parallel sentences say of things and people: what and where they are, whose, and how they compare."""

from dataclasses import replace
from random import Random

from example_pairs import lexicon
from example_pairs.clauses import OTHER, Clause, Rest
from example_pairs.drawing import (
    ADJECTIVES,
    ANIMALS,
    DOORS,
    DRINK,
    EAT,
    OWNERS,
    PEOPLE,
    PLACES,
    PROFESSIONS,
    RELATIVES,
    ROOMS,
    SUBSTANCES,
    TAKING,
    THINGS,
    anyone,
    being,
    chance,
    direct,
    fitting,
    located,
    say,
    subject,
    thing,
    timed,
)
from example_pairs.phrases import Name, NounPhrase, Owned, french_adjective, spanish_adjective
from example_pairs.words import Four

BUY, BRING = (next(verb for verb in TAKING if verb.en == name) for name in ("buy", "bring"))


def where_is(rng: Random) -> Four:
    what = thing(rng, rng.choice([*THINGS, *ANIMALS, *PLACES]), a=0, plural=0, adjective=0.3)
    return say(Four(f"where is {what.en}", f"wo ist {what.de()}", f"où est {what.fr}", f"dónde está {what.es}"), "?")


def there_is(rng: Random) -> Four:
    """German: in the kitchen there is ..."""
    place = located(rng.choice(ROOMS))
    noun = rng.choice([noun for noun in THINGS if noun.tags & {"t"}])
    if chance(rng, 0.5):
        what = thing(rng, noun, plural=0, a=1)
    else:
        adjective = fitting(rng, noun) if chance(rng, 0.4) else None
        what = NounPhrase(noun, rng.randint(2, 12), adjective, plural=True)
    be = "are" if what.plural else "is"
    return say(
        Four(
            f"there {be} {what.en} {place.en}",
            f"{place.de} gibt es {what.de('acc')}",
            f"il y a {what.fr} {place.fr}",
            f"hay {what.es} {place.es}",
        )
    )


def having(rng: Random) -> Four:
    """Somebody has a thing, no such thing, or several."""
    who, have = subject(rng, "present"), OTHER["have"]
    number_of_them: str | int = rng.choice(["a", "a", "no", None]) or rng.randint(2, 12)
    wanted = "p" if number_of_them == "no" else "t"  # what one has one of, since Spanish says: has no bed
    noun = rng.choice([*(noun for noun in THINGS if {wanted, "t"} <= noun.tags), *ANIMALS])
    adjective = fitting(rng, noun) if number_of_them != "no" and chance(rng, 0.5) else None
    what = NounPhrase(noun, number_of_them, adjective, plural=isinstance(number_of_them, int))
    if number_of_them != "no":
        return say(Clause(who, have, direct(what)).main)
    do, a = "does" if who.person == 2 else "do", replace(what, determiner="a")
    return say(
        Four(
            f"{who.en} {do} not have {a.en}",
            f"{who.de()} {have.german(who.person)} {what.de('acc')}",
            f"{who.fr} ne {have.french(who.person)} pas {what.fr}",
            f"{who.es} no {have.spanish(who.person)} {what.es}",
        )
    )


def owned(rng: Random) -> Four:
    """Something of somebody's is so, or is seen, found ..."""
    noun = rng.choice([noun for noun in THINGS if "t" in noun.tags])
    owner = anyone(rng)
    owner = owner if isinstance(owner, Name) else replace(owner, plural=False, adjective=None)
    what = Owned(owner, noun)
    if chance(rng, 0.5):
        return say(being(rng, what).main)
    verb = rng.choice([verb for verb in TAKING if "t" in verb.tags])
    tense = rng.choice(["present", "present", "past", "past", "future", "want"])
    clause = Clause(subject(rng, tense), verb, direct(what), tense)
    return say(timed(rng, clause) if clause.tense == "past" else clause.main)


def relation(rng: Random) -> Four:
    """Something is in, on, under ... something else."""
    english, german, french, spanish, tags = rng.choice(list(lexicon.rows(lexicon.RELATIONS)))
    link = [" ".join(words) for words in (english, german, french, spanish)]
    there = rng.choice([noun for noun in THINGS if noun.tags & set(tags)])
    small = [noun for noun in THINGS if noun != there and noun not in DOORS and "s" not in noun.tags]
    here = rng.choice(small + (ANIMALS if link[3].endswith("de") else []))
    what, where = thing(rng, here, a=0, plural=0.2, adjective=0.25), NounPhrase(there, rng.choice(["the", "my", "the"]))
    stay = OTHER["stay"]
    words = Four(
        f"{link[0]} {where.en}", f"{link[1]} {where.de('dat')}", f"{link[2]} {where.fr}", f"{link[3]} {where.es}"
    )
    clause = Clause(what, replace(OTHER["be"], es=stay.es), Rest(words, True))
    return say(clause.question, "?") if chance(rng, 0.2) else say(replace(clause, negated=chance(rng, 0.2)).main)


def comparison(rng: Random) -> Four:
    """One thing or person is more so than another, or is not as much so."""
    kind = rng.choice([THINGS, PEOPLE, ANIMALS])
    first, second = rng.sample(kind, 2)
    one = NounPhrase(first, rng.choice(["the", "my"] if first in [*RELATIVES, *THINGS] else ["the"]))
    two = NounPhrase(second, rng.choice(["the", "your"] if second in [*RELATIVES, *THINGS] else ["the"]))
    kinds = {"p"} if kind is PEOPLE else {"n"} if kind is ANIMALS else {"t"}
    adjective = rng.choice([adjective for adjective in ADJECTIVES if kinds & adjective.tags])
    fr = french_adjective(adjective, one.gender("fr"), plural=False)
    es = spanish_adjective(adjective.es, one.gender("es"), plural=False)
    if chance(rng, 0.6):
        return say(
            Four(
                f"{one.en} is {adjective.en[1]} than {two.en}",
                f"{one.de()} ist {adjective.de[1]} als {two.de()}",
                f"{one.fr} est plus {fr} que {two.fr}",
                f"{one.es} es más {es} que {two.es}",
            )
        )
    return say(
        Four(
            f"{one.en} is not as {adjective.en[0]} as {two.en}",
            f"{one.de()} ist nicht so {adjective.de[0]} wie {two.de()}",
            f"{one.fr} ne est pas aussi {fr} que {two.fr}",
            f"{one.es} no es tan {es} como {two.es}",
        )
    )


def food(rng: Random) -> Four:
    """Somebody eats bread, drinks no milk, wants to buy the wine."""
    noun = rng.choice(SUBSTANCES)
    tense = rng.choice(["present", "present", "past", "future", "want"])
    who, verb = subject(rng, tense), EAT if "eat" in noun.tags else DRINK
    verb = rng.choice([verb, verb, verb, BUY, BRING])
    some, the = NounPhrase(noun, ""), NounPhrase(noun)
    partitive = Rest(Four(some.en, some.de("acc"), f"de {the.fr}", some.es))
    if chance(rng, 0.3):
        clause = Clause(subject(rng, "present"), verb, partitive, negated=True)
        none = Four(some.en, replace(some, determiner="no").de("acc"), f"de {some.fr}", some.es)
        negative = replace(clause, rest=Rest(none)).main
        german = replace(clause, rest=Rest(none), negated=False).main.de
        return say(negative._replace(de=german))
    if chance(rng, 0.2):
        return say(Clause(who, verb, direct(the), rng.choice(["want", "can", "must"])).main)
    clause = Clause(who, verb, partitive, tense)
    return say(timed(rng, clause) if tense != "want" and (tense == "past" or chance(rng, 0.4)) else clause.main)


def profession(rng: Random) -> Four:
    """My brother is a doctor, or wants to be one."""
    who = rng.choice([noun for noun in RELATIVES if noun.genders.de == "m" and noun not in PROFESSIONS])
    owner, job = NounPhrase(who, rng.choice(OWNERS)), NounPhrase(rng.choice(PROFESSIONS), "")
    not_, nicht, ne, pas, no = ("not a", "kein", "ne", "pas", "no") if chance(rng, 0.3) else ("a", "", "", "", "")
    return say(
        Four(
            f"{owner.en} is {not_} {job.en}",
            f"{owner.de()} ist {nicht} {job.de()}",
            f"{owner.fr} {ne} est {pas} {job.fr}",
            f"{owner.es} {no} es {job.es}",
        )
    )
