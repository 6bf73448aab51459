"""Parallel sentences of numbers, prices, ages, dates and clock times, by num2words and Babel."""

import datetime
from random import Random

from babel.dates import format_date, format_time

from example_pairs import lexicon
from example_pairs.clauses import Clause
from example_pairs.drawing import NAMES, RELATIVES, TAKING, THINGS, chance, direct, phrases, say, subject, thing
from example_pairs.phrases import NounPhrase, number
from example_pairs.words import Four

EVENTS, DEPARTURES, DAYS = (phrases(table) for table in (lexicon.EVENTS, lexicon.DEPARTURES, lexicon.DAYS))
DATES = (datetime.date(2000, 1, 1), datetime.date(2035, 12, 31))


def counting(value: int) -> bool:
    """Whether the number is said before a noun as it is alone, of either gender: French un, une, Spanish un, una."""
    return value % 10 != 1 or value % 100 == 11


def drawn(rng: Random) -> int:
    """0 to 9,999, as many below a hundred, below a thousand and above."""
    return rng.randrange(10 ** rng.choice([2, 3, 4]))


def plain_number(rng: Random) -> Four:
    value = number(drawn(rng))
    what = rng.choice(
        [
            Four("the number is", "die Zahl ist", "le nombre est", "el número es"),
            Four("the answer is", "die Antwort ist", "la réponse est", "la respuesta es"),
            Four("we count to", "wir zählen bis", "nous comptons jusqu'à", "contamos hasta"),
        ]
    )
    return say(Four(*(f"{left} {right}" for left, right in zip(what, value, strict=True))))


def total(rng: Random) -> Four:
    """A sum of two numbers of at least one, below a hundred."""
    first, second = rng.randint(1, 49), rng.randint(1, 49)
    one, two, both = number(first), number(second), number(first + second)
    return say(
        Four(
            f"{one.en} plus {two.en} is {both.en}",
            f"{one.de} plus {two.de} ist {both.de}",
            f"{one.fr} plus {two.fr} font {both.fr}",
            f"{one.es} más {two.es} son {both.es}",
        )
    )


def price(rng: Random) -> Four:
    value = rng.choice([rng.randint(2, 99), rng.randint(100, 999), 1000 * rng.randint(1, 9)])
    while not counting(value):
        value += 1
    what, cost = thing(rng, rng.choice(THINGS), a=0, plural=0, adjective=0.3), number(value)
    return say(
        Four(
            f"{what.en} costs {cost.en} euros",
            f"{what.de()} kostet {cost.de} Euro",
            f"{what.fr} coûte {cost.fr} euros",
            f"{what.es} cuesta {cost.es} euros",
        )
    )


def age(rng: Random) -> Four:
    value = rng.randint(2, 99)
    while not counting(value):
        value += 1
    years = number(value)
    who = (
        rng.choice(NAMES) if chance(rng, 0.4) else NounPhrase(rng.choice(RELATIVES), rng.choice(["my", "your", "our"]))
    )
    return say(
        Four(
            f"{who.en} is {years.en} years old",
            f"{who.de()} ist {years.de} Jahre alt",
            f"{who.fr} a {years.fr} ans",
            f"{who.es} tiene {years.es} años",
        )
    )


def bought(rng: Random) -> Four:
    """How many of a thing somebody wants."""
    noun = rng.choice([noun for noun in THINGS if "t" in noun.tags])
    verb = rng.choice(TAKING[:9])
    what = NounPhrase(noun, rng.randint(2, 20), plural=True)
    tense = rng.choice(["present", "want", "future"])
    return say(Clause(subject(rng, tense), verb, direct(what), tense).main)


def calendar_day(rng: Random) -> tuple[datetime.date, Four]:
    """A day in full: Monday, May 3, 2021."""
    first, last = DATES
    day = first + datetime.timedelta(days=rng.randrange((last - first).days))
    full = Four(*(format_date(day, "full", locale=language) for language in Four._fields))
    german = full.de.replace(", ", ", dem ")
    french = full.fr.replace(" 1 ", " 1er ")
    return day, full._replace(de=german, fr=french)


def date(rng: Random) -> Four:
    """The meeting is on Monday, May 3, 2021, or without the day of the week."""
    event = rng.choice(EVENTS)
    day, full = calendar_day(rng)
    if chance(rng, 0.5):
        german, french = (format_date(day, "long", locale=language) for language in ("de", "fr"))
        english, spanish = (format_date(day, "long", locale=language) for language in ("en", "es"))
        full = Four(english, german, f"1er{french[1:]}" if french.startswith("1 ") else french, spanish)
    return say(
        Four(
            f"{event.en} is on {full.en}",
            f"{event.de} ist am {full.de}",
            f"{event.fr} est le {full.fr}",
            f"{event.es} es el {full.es}",
        )
    )


def clock(rng: Random, at: bool) -> Four:
    """A time in words, after "it is" or after "at"."""
    hour, minutes = rng.randint(1, 11), rng.choice([0, 5, 10, 15, 20, 30, 40, 45, 50, 55])
    if hour == 11 and minutes > 30:  # twelve has a name of its own in French
        hour = 10
    later = minutes > 30
    this, following = number(hour), number(hour + 1)
    past, left = number(minutes), number(60 - minutes)
    named = following if later else this
    english = {0: "{} o'clock", 15: "a quarter past {}", 30: "half past {}", 45: "a quarter to {}"}
    german = {0: "{} Uhr", 15: "Viertel nach {}", 45: "Viertel vor {}"}
    en = english.get(minutes, f"{left.en} to {{}}" if later else f"{past.en} past {{}}").format(named.en)
    if minutes == 30:
        de = f"halb {following.de}"
    else:
        hour_de = "ein" if minutes == 0 and hour == 1 else named.de
        de = german.get(minutes, f"{left.de} vor {{}}" if later else f"{past.de} nach {{}}").format(hour_de)
    heure = "une heure" if named.fr == "un" else f"{named.fr} heures"
    half = "et demie"
    fr = heure + {0: "", 15: " et quart", 30: f" {half}", 45: " moins le quart"}.get(
        minutes, f" moins {left.fr}" if later else f" {past.fr}"
    )
    la = "la una" if named.es == "uno" else f"las {named.es}"
    es = la + {0: "", 15: " y cuarto", 30: " y media", 45: " menos cuarto"}.get(
        minutes, f" menos {left.es}" if later else f" y {past.es}"
    )
    if at:
        return Four(f"at {en}", f"um {de}", f"à {fr}", f"a {es}")
    return Four(f"it is {en}", f"es ist {de}", f"il est {fr}", f"{'es' if named.es == 'uno' else 'son'} {es}")


def departure(rng: Random) -> Four:
    """The train leaves at half past three, or at 15:30."""
    what = rng.choice(DEPARTURES)
    if chance(rng, 0.4):
        when = clock(rng, at=True)
    else:
        time = datetime.time(rng.randint(2, 23), 5 * rng.randint(0, 11))
        digits = Four(*(format_time(time, "H:mm", locale=language) for language in Four._fields))
        french = format_time(time, "H 'h' mm" if time.minute else "H 'h'", locale="fr")
        when = Four(f"at {digits.en}", f"um {digits.de} Uhr", f"à {french}", f"a las {digits.es}")
    if chance(rng, 0.4):
        day = rng.choice(DAYS)
        when = Four(f"on {day.en} {when.en}", f"am {day.de} {when.de}", f"{day.fr} {when.fr}", f"el {day.es} {when.es}")
    german, *prefix = what.de.replace("fährt ab", "fährt|ab").replace("kommt an", "kommt|an").split("|")
    return say(
        Four(
            f"{what.en} {when.en}",
            f"{german} {when.de} {' '.join(prefix)}",
            f"{what.fr} {when.fr}",
            f"{what.es} {when.es}",
        )
    )


def clock_time(rng: Random) -> Four:
    return say(clock(rng, at=False))
