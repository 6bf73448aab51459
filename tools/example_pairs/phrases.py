"""Noun phrases of the parallel sentences: the same one in four languages, with articles, cases and agreement."""

from dataclasses import dataclass

from num2words import num2words  # type: ignore[import-untyped]

from example_pairs.words import VOWEL, Adjective, Four, Noun

GERMAN_THE = {
    "m": {"nom": "der", "acc": "den", "dat": "dem", "gen": "des"},
    "f": {"nom": "die", "acc": "die", "dat": "der", "gen": "der"},
    "n": {"nom": "das", "acc": "das", "dat": "dem", "gen": "des"},
    "pl": {"nom": "die", "acc": "die", "dat": "den", "gen": "der"},
}
GERMAN_MY = {
    "m": {"nom": "", "acc": "en", "dat": "em", "gen": "es"},
    "f": {"nom": "e", "acc": "e", "dat": "er", "gen": "er"},
    "n": {"nom": "", "acc": "", "dat": "em", "gen": "es"},
    "pl": {"nom": "e", "acc": "e", "dat": "en", "gen": "er"},
}
GERMAN_STEMS = {"a": "ein", "no": "kein", "my": "mein", "your": "dein", "our": "unser", "their": "ihr"}
# masculine, feminine, plural
FRENCH = {
    "the": ("le", "la", "les"),
    "a": ("un", "une", "des"),
    "no": ("de", "de", "de"),
    "my": ("mon", "ma", "mes"),
    "your": ("ton", "ta", "tes"),
    "our": ("notre", "notre", "nos"),
    "their": ("leur", "leur", "leurs"),
}
FRENCH_BEFORE_VOWEL = {"beau": "bel", "vieux": "vieil"}
# masculine, feminine, and both in the plural
SPANISH = {
    "the": ("el", "la", "los", "las"),
    "a": ("un", "una", "unos", "unas"),
    "no": ("", "", "", ""),
    "my": ("mi", "mi", "mis", "mis"),
    "your": ("tu", "tu", "tus", "tus"),
    "our": ("nuestro", "nuestra", "nuestros", "nuestras"),
    "their": ("su", "su", "sus", "sus"),
}


def number(value: int) -> Four:
    """A number in words, as it is said alone."""
    english, german, french, spanish = (num2words(value, lang=language) for language in Four._fields)
    return Four(english.replace(",", ""), german, french, spanish)


def german_adjective(adjective: Adjective, ending: str) -> str:
    stem = adjective.de[0].removesuffix("e")
    return ("teur" if stem == "teuer" else stem) + ending


def french_adjective(adjective: Adjective, gender: str, plural: bool) -> str:
    form = adjective.fr[gender == "f"]
    if not plural or form.endswith(("s", "x")):
        return form
    return form + ("x" if form.endswith("eau") else "s")


def spanish_adjective(form: str, gender: str, plural: bool) -> str:
    if gender == "f" and form.endswith("o"):
        form = form[:-1] + "a"
    if not plural:
        return form
    return "jóvenes" if form == "joven" else form + ("s" if form[-1] in "aeo" else "es")


@dataclass(frozen=True)
class NounPhrase:
    """`determiner` is a word of FRENCH, nothing, or a number of two to twenty that is not twenty-one."""

    noun: Noun
    determiner: str | int = "the"
    adjective: Adjective | None = None
    plural: bool = False

    person = property(lambda self: 4 if self.plural else 2)

    def gender(self, language: str) -> str:
        return str(getattr(self.noun.genders, language))

    @property
    def en(self) -> str:
        determiner = number(self.determiner).en if isinstance(self.determiner, int) else self.determiner
        return f"{determiner} {self.adjective.en[0] if self.adjective else ''} {self.noun.en[self.plural]}"

    def de(self, case: str = "nom") -> str:
        gender = "pl" if self.plural else self.gender("de")
        noun = self.noun.de[self.plural]
        if (case == "gen" and not self.plural) or (
            case != "nom" and not self.plural and gender == "m" and self.noun.genitive.endswith("n")
        ):
            noun = self.noun.genitive
        elif case == "dat" and self.plural and not noun.endswith(("n", "s")):
            noun += "n"
        determiner, ending = "", {"nom": "e", "acc": "e", "dat": "en", "gen": "er"}[case]
        if isinstance(self.determiner, int):
            determiner = number(self.determiner).de
        elif self.determiner == "the":
            determiner = GERMAN_THE[gender][case]
            ending = "e" if gender != "pl" and (case == "nom" or (case == "acc" and gender != "m")) else "en"
        elif self.determiner:
            determiner = GERMAN_STEMS[self.determiner] + GERMAN_MY[gender][case]
            ending = "en"
            if gender != "pl" and (case == "nom" or (case == "acc" and gender != "m")):
                ending = {"m": "er", "f": "e", "n": "es"}[gender]
        return f"{determiner} {german_adjective(self.adjective, ending) if self.adjective else ''} {noun}"

    @property
    def fr(self) -> str:
        gender = self.gender("fr")
        noun = self.noun.fr[self.plural]
        before = after = ""
        if self.adjective is not None:
            form = french_adjective(self.adjective, gender, self.plural)
            if self.adjective.before:
                before = FRENCH_BEFORE_VOWEL.get(form, form) if VOWEL.match(noun) else form
            else:
                after = form
        if isinstance(self.determiner, int):
            determiner = number(self.determiner).fr
        elif not self.determiner:
            determiner = ""
        else:
            feminine = gender == "f" and not (self.determiner in ("my", "your") and VOWEL.match(before or noun))
            determiner = FRENCH[self.determiner][2 if self.plural else feminine]
        return f"{determiner} {before} {noun} {after}"

    @property
    def es(self) -> str:
        gender = self.gender("es")
        if isinstance(self.determiner, int):
            determiner = number(self.determiner).es
        elif not self.determiner:
            determiner = ""
        else:
            determiner = SPANISH[self.determiner][(gender == "f") + 2 * self.plural]
            if self.noun.es[0] == "agua" and self.determiner == "the":
                determiner = "el"
        after = spanish_adjective(self.adjective.es, gender, self.plural) if self.adjective else ""
        return f"{determiner} {self.noun.es[self.plural]} {after}"


@dataclass(frozen=True)
class Name:
    """A person's name, the same in all languages."""

    name: str
    sex: str
    person: int = 2
    plural: bool = False

    def gender(self, language: str) -> str:
        return self.sex

    def de(self, case: str = "nom") -> str:
        return self.name + ("s" if case == "gen" else "")

    en = fr = es = property(lambda self: self.name)


@dataclass(frozen=True)
class Pronoun:
    """As a subject; Spanish leaves out the first two persons."""

    words: Four
    person: int
    sex: str = ""

    plural = property(lambda self: self.person > 2)

    def gender(self, language: str) -> str:
        return self.sex

    def de(self, case: str = "nom") -> str:
        return self.words.de

    en = property(lambda self: self.words.en)
    fr = property(lambda self: self.words.fr)
    es = property(lambda self: self.words.es)


@dataclass(frozen=True)
class Owned:
    """A thing of a person: Anna's book, the book of the teacher."""

    owner: "NounPhrase | Name"
    noun: Noun
    person: int = 2
    plural: bool = False

    def gender(self, language: str) -> str:
        return str(getattr(self.noun.genders, language))

    @property
    def en(self) -> str:
        return f"{self.owner.en.strip()}'s {self.noun.en[0]}"

    def de(self, case: str = "nom") -> str:
        if isinstance(self.owner, Name):
            return f"{self.owner.de('gen')} {self.noun.de[0]}"
        return f"{NounPhrase(self.noun).de(case)} {self.owner.de('gen')}"

    fr = property(lambda self: f"{NounPhrase(self.noun).fr} de {self.owner.fr}")
    es = property(lambda self: f"{NounPhrase(self.noun).es} de {self.owner.es}")


Subject = NounPhrase | Name | Pronoun | Owned
I, YOU, HE, SHE, WE, THEY = (  # noqa: E741
    Pronoun(Four("I", "ich", "je", ""), 0),
    Pronoun(Four("you", "du", "tu", ""), 1),
    Pronoun(Four("he", "er", "il", "él"), 2, "m"),
    Pronoun(Four("she", "sie", "elle", "ella"), 2, "f"),
    Pronoun(Four("we", "wir", "nous", ""), 3),
    Pronoun(Four("they", "sie", "ils", "ellos"), 4, "m"),
)
