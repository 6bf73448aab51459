"""What the parallel sentences tell, ask and ask for: a grammar draws one sentence, in four languages."""

from dataclasses import replace
from random import Random

from example_pairs import lexicon
from example_pairs.clauses import Clause
from example_pairs.drawing import (
    ACTIVITIES,
    COMMANDS,
    SAYING,
    TAKING,
    TIMES,
    acting,
    any_clause,
    being,
    chance,
    giving,
    joined,
    moving,
    object_of,
    phrases,
    say,
    state,
    subject,
    taking,
    timed,
)
from example_pairs.phrases import YOU, I, Pronoun
from example_pairs.words import Four


def present(rng: Random) -> Four:
    clause = taking(rng, "present")
    return say(timed(rng, clause) if chance(rng, 0.35) else clause.main)


def past(rng: Random) -> Four:
    return say(timed(rng, taking(rng, "past")))


def future(rng: Random) -> Four:
    return say(timed(rng, taking(rng, "future")))


def activity(rng: Random) -> Four:
    return say(timed(rng, acting(rng, rng.choice(["present", "present", "past", "past", "future"]))))


def motion(rng: Random) -> Four:
    return say(timed(rng, moving(rng, rng.choice(["present", "past", "future"]))))


def gift(rng: Random) -> Four:
    clause = giving(rng, rng.choice(["present", "present", "past", "past", "future", "want"]))
    return say(timed(rng, clause) if clause.tense == "past" else clause.main)


def modal(rng: Random) -> Four:
    tense = rng.choice(["want", "can", "must"])
    clause = any_clause(rng, tense)
    return say(replace(clause, time=rng.choice(TIMES["future"])).main if chance(rng, 0.3) else clause.main)


def negation(rng: Random) -> Four:
    """Of definite objects: German nicht, not kein."""
    tense = rng.choice(["present", "present", "past", "past", "future", "want", "can"])
    kind = rng.randrange(3)
    clause = (taking(rng, tense, definite=True), acting(rng, tense), being(rng))[kind]
    return say(replace(clause, negated=True).main)


def question(rng: Random) -> Four:
    tense = rng.choice(["present", "present", "past", "future", "want", "can"])
    clause = being(rng) if chance(rng, 0.15) else rng.choice([taking, acting, moving])(rng, tense)
    if clause.tense == "past":
        clause = replace(clause, time=rng.choice(TIMES["past"]))
    elif clause.subject is I:
        clause = replace(clause, subject=YOU)
    return say(clause.question, "?")


def question_word(rng: Random) -> Four:
    word, clause = rng.choice(
        [
            (Four("why", "warum", "pourquoi", "por qué"), taking(rng, rng.choice(["present", "want"]))),
            (Four("when", "wann", "quand", "cuándo"), taking(rng, "future")),
            (Four("where", "wo", "où", "dónde"), Clause(subject(rng, "present"), rng.choice(ACTIVITIES))),
            (Four("what", "was", "qu'", "qué"), Clause(subject(rng, "present"), rng.choice(TAKING[:12]))),
        ]
    )
    asked = clause.question
    return say(joined(word, asked)._replace(fr=f"{word.fr} {asked.fr}".replace("qu' est", "qu'est")), "?")


def who(rng: Random) -> Four:
    """Who does it?"""
    somebody = Pronoun(Four("who", "wer", "qui", "quién"), 2)
    clause = replace(rng.choice([taking, acting])(rng, "present"), subject=somebody)
    return say(clause.main, "?")


def two_clauses(rng: Random, *, states: bool = True) -> tuple[Clause, Clause]:
    """Of two subjects."""
    first = rng.choice([taking, acting, moving])(rng, "present")
    while True:
        second = rng.choice([acting, acting, moving, state if states else acting])(rng, "present")
        if second.subject.en != first.subject.en:
            return first, second


def subordinate(rng: Random) -> Four:
    """With because, when or while, the clause with it perhaps in front."""
    conjunction = rng.choice(phrases(lexicon.CONJUNCTIONS))
    first, second = two_clauses(rng, states=conjunction.en == "because")
    if conjunction.en != "because" and chance(rng, 0.35):
        bare = conjunction._replace(de=conjunction.de.removeprefix(", "))
        return say(joined(bare, second.dependent, ",", first.inverted))
    return say(joined(first.main, conjunction, second.dependent))


def coordinate(rng: Random) -> Four:
    first, second = two_clauses(rng)
    link = rng.choice([Four("and", "und", "et", "y"), Four(", but", ", aber", ", mais", ", pero")])
    return say(joined(first.main, link, second.main))


def saying(rng: Random) -> Four:
    """Somebody knows, says or believes that something is so."""
    who = subject(rng, "present")
    content = rng.choice([taking, acting, moving, state])(rng, "present")
    if content.subject is not I and content.verb.en != "be" and chance(rng, 0.4):
        content = replace(content, tense=rng.choice(["want", "can", "future", "must"]))
    first = Clause(who, rng.choice(SAYING))
    return say(joined(first.main, Four("that", ", dass", "que", "que"), content.dependent))


def command(rng: Random) -> Four:
    """Please do it."""
    verb = rng.choice([verb for verb in TAKING if verb.en in COMMANDS])
    _, german, french, spanish = COMMANDS[verb.en]
    what = object_of(rng, verb, definite=True).words
    return say(
        Four(
            f"please {verb.english_base()} {what.en}",
            f"{german} bitte {what.de} {verb.prefix}",
            f"{french} {what.fr}, s'il te plaît",
            f"{spanish} {what.es}, por favor",
        ),
        "!",
    )


def request(rng: Random) -> Four:
    """Could you please do it?"""
    verb = rng.choice([verb for verb in TAKING if verb.en not in ("know", "see", "lose", "hear", "forget", "eat")])
    what = object_of(rng, verb, definite=True).words
    return say(
        Four(
            f"could you please {verb.english_base()} {what.en}",
            f"könntest du bitte {what.de} {verb.prefix}{verb.de}",
            f"pourrais-tu {verb.fr} {what.fr}, s'il te plaît",
            f"podrías {verb.es} {what.es}, por favor",
        ),
        "?",
    )
