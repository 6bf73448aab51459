"""Writes the sentences that the recipe `translate` learns from: the same ones in English, German, French and Spanish.

    hatch run example-pairs            writes ds_core/text/sentences.tsv
    hatch run example-pairs --check    writes nothing; fails if the file is not what this would write

Grammars (grammars.py, descriptions.py, numbers.py) draw sentences from a lexicon (lexicon.py, verbs.py), as many of
each grammar as `GRAMMARS` says, from one seed. No two rows share a sentence in any language, and each sentence has 3 to
16 words. Rows are sorted by a hash of the English sentence.
"""

import argparse
import hashlib
import sys
import unicodedata
from collections.abc import Callable
from random import Random

from workspace import ROOT

from example_pairs import descriptions, grammars, numbers
from example_pairs.words import Four

Grammar = Callable[[Random], Four]
FILE = ROOT / "packages/ds-core/src/ds_core/text/sentences.tsv"
SEED = 4
WORDS = range(3, 17)
GRAMMARS: dict[Grammar, int] = {
    grammars.present: 1200,
    grammars.past: 850,
    grammars.future: 250,
    grammars.activity: 550,
    grammars.motion: 380,
    grammars.gift: 550,
    grammars.modal: 380,
    grammars.negation: 600,
    grammars.question: 600,
    grammars.question_word: 380,
    grammars.who: 110,
    descriptions.where_is: 150,
    descriptions.there_is: 350,
    descriptions.having: 350,
    descriptions.owned: 330,
    descriptions.relation: 400,
    descriptions.comparison: 350,
    grammars.subordinate: 550,
    grammars.coordinate: 200,
    grammars.saying: 380,
    grammars.command: 200,
    grammars.request: 200,
    descriptions.food: 480,
    descriptions.profession: 50,
    numbers.plain_number: 620,
    numbers.total: 200,
    numbers.price: 350,
    numbers.age: 200,
    numbers.bought: 150,
    numbers.date: 330,
    numbers.clock_time: 80,
    numbers.departure: 280,
}


def sentences(seed: int = SEED) -> list[Four]:
    """All of them, in the order of the file.

    Raises:
        ValueError: one English sentence would have two translations.
    """
    rng = Random(seed)
    said: dict[str, Four] = {}
    seen: list[set[str]] = [set() for _ in Four._fields]
    for grammar, wanted in GRAMMARS.items():
        found = 0
        for _ in range(20 * wanted):
            row = Four(*(unicodedata.normalize("NFC", text) for text in grammar(rng)))
            if said.get(row.en, row) != row:
                raise ValueError(f"{row.en!r} has two translations: {said[row.en]} and {row}")
            if any(text in past for text, past in zip(row, seen, strict=True)):
                continue
            if not all(len(text.split()) in WORDS for text in row):
                continue
            said[row.en] = row
            for text, past in zip(row, seen, strict=True):
                past.add(text)
            found += 1
            if found == wanted:
                break
    return sorted(said.values(), key=lambda row: hashlib.sha256(row.en.encode()).hexdigest())


def table(rows: list[Four]) -> str:
    """The text of the file."""
    return "".join("\t".join(row) + "\n" for row in [Four(*Four._fields), *rows])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file would change")
    options = parser.parse_args(arguments)
    text = table(sentences())
    if options.check:
        same = FILE.exists() and FILE.read_bytes() == text.encode()
        print(f"{FILE.relative_to(ROOT)} is {'what' if same else 'not what'} hatch run example-pairs writes")
        return 0 if same else 1
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_bytes(text.encode())
    print(f"{FILE.relative_to(ROOT)}: {text.count(chr(10)) - 1} sentences in {len(Four._fields)} languages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
