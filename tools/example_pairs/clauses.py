"""Clauses of the parallel sentences: the same one in four languages, each in its own word order."""

from dataclasses import dataclass, field, replace

from example_pairs.phrases import Subject
from example_pairs.verbs import OTHERS
from example_pairs.words import Four, Verb, verbs

OTHER = {verb.en: verb for verb in verbs(OTHERS)}


@dataclass(frozen=True)
class Rest:
    """What follows the verb; German `nicht` stands after a definite object and before anything else."""

    words: Four
    after_nicht: bool = False


NOTHING = Rest(Four("", "", "", ""), True)


@dataclass(frozen=True)
class Clause:
    """A subject, a verb, what follows it, and when.

    `tense` is present, past, future, want, can or must; `motion` says whether it has sein and être in the past;
    `clitic` is the Spanish pronoun that goes with a person to whom something is given.
    """

    subject: Subject
    verb: Verb
    rest: Rest = NOTHING
    tense: str = "present"
    negated: bool = False
    time: Four = field(default=NOTHING.words)
    motion: bool = False
    clitic: str = ""

    @property
    def main(self) -> Four:
        subject = self.subject
        return Four(
            f"{subject.en} {self._english()} {self.time.en}",
            f"{subject.de()} {self._german('main')}",
            f"{subject.fr} {self._french()} {self.time.fr}",
            f"{subject.es} {self._spanish()} {self.time.es}",
        )

    @property
    def fronted(self) -> Four:
        """The time in front."""
        bare = replace(self, time=NOTHING.words)
        return Four(
            f"{self.time.en} {bare.main.en}",
            f"{self.time.de} {bare.inverted.de}",
            f"{self.time.fr}, {bare.main.fr}",
            f"{self.time.es} {bare.main.es}",
        )

    @property
    def inverted(self) -> Four:
        """As after a clause in front: German puts the verb before the subject."""
        return self.main._replace(de=self._german("inverted"))

    @property
    def dependent(self) -> Four:
        """After a conjunction: German puts the verb at the end."""
        return self.main._replace(de=f"{self.subject.de()} {self._german('dependent')}")

    @property
    def question(self) -> Four:
        """Answered with yes or no, without marks."""
        subject, end = self.subject, self.time
        finite, following = self._spanish_parts()
        asked = "est-ce que"
        return Four(
            f"{self._english_question()} {end.en}",
            self._german("inverted"),
            f"{asked} {subject.fr} {self._french()} {end.fr}",
            f"{finite} {subject.es} {following} {self.rest.words.es} {end.es}",
        )

    def _english(self) -> str:
        person, base, rest = self.subject.person, self.verb.english_base(), self.rest.words.en
        not_ = " not" if self.negated else ""
        be, do = OTHER["be"].english(person), "does" if person == 2 else "do"
        if self.tense == "future":
            return f"{be}{not_} going to {base} {rest}"
        if self.tense == "can":
            return f"{'cannot' if self.negated else 'can'} {base} {rest}"
        if self.tense == "must":
            return f"must {base} {rest}"
        if self.tense == "want":
            return f"{f'{do} not want' if self.negated else OTHER['want'].english(person)} to {base} {rest}"
        if self.verb.en == "be":
            return f"{be}{not_} {rest}"
        if self.negated:
            return f"{'did' if self.tense == 'past' else do} not {base} {rest}"
        return f"{self.verb.english_past() if self.tense == 'past' else self.verb.english(person)} {rest}"

    def _english_question(self) -> str:
        subject, person, base, rest = self.subject.en, self.subject.person, self.verb.english_base(), self.rest.words.en
        be, do = OTHER["be"].english(person), "does" if person == 2 else "do"
        if self.verb.en == "be":
            return f"{be} {subject} {rest}"
        if self.tense == "future":
            return f"{be} {subject} going to {base} {rest}"
        if self.tense in ("can", "must"):
            return f"{self.tense} {subject} {base} {rest}"
        if self.tense == "want":
            return f"{do} {subject} want to {base} {rest}"
        return f"{'did' if self.tense == 'past' else do} {subject} {base} {rest}"

    def _german(self, order: str) -> str:
        person, verb = self.subject.person, self.verb
        if self.tense == "present":
            finite, end = verb.german(person), verb.prefix
        elif self.tense == "past":
            finite, end = OTHER["be" if self.motion else "have"].german(person), verb.participle
        elif self.tense == "future":
            finite, end = ("werde", "wirst", "wird", "werden", "werden")[person], verb.prefix + verb.de
        else:
            finite, end = OTHER[self.tense].german(person), verb.prefix + verb.de
        nicht = "nicht" if self.negated else ""
        before, after = (nicht, "") if self.rest.after_nicht else ("", nicht)
        middle = f"{self.time.de} {before} {self.rest.words.de} {after}"
        if order == "dependent":
            return f"{middle} {end}{finite}" if end == verb.prefix else f"{middle} {end} {finite}"
        return f"{finite} {self.subject.de() if order == 'inverted' else ''} {middle} {end}"

    def _french(self) -> str:
        person, verb = self.subject.person, self.verb
        if self.tense == "present":
            finite, end = verb.french(person), ""
        elif self.tense == "past":
            finite, end = OTHER["be" if self.motion else "have"].french(person), verb.french_participle()
            if self.motion:
                end += ("e" if self.subject.gender("fr") == "f" else "") + ("s" if self.subject.plural else "")
        elif self.tense == "future":
            finite, end = ("vais", "vas", "va", "allons", "vont")[person], verb.fr
        else:
            finite, end = OTHER[self.tense].french(person), verb.fr
        return f"{f'ne {finite} pas' if self.negated else finite} {end} {self.rest.words.fr}"

    def _spanish(self) -> str:
        return f"{' '.join(self._spanish_parts())} {self.rest.words.es}"

    def _spanish_parts(self) -> tuple[str, str]:
        person, verb, no = self.subject.person, self.verb, "no" if self.negated else ""
        if self.tense in ("present", "past"):
            return f"{no} {self.clitic} {verb.spanish(person, self.tense == 'past')}", ""
        infinitive = verb.es + self.clitic
        if self.tense == "future":
            return f"{no} {('voy', 'vas', 'va', 'vamos', 'van')[person]}", f"a {infinitive}"
        return f"{no} {OTHER[self.tense].spanish(person)}", infinitive
