"""The example sentences in the package, in four languages. Theory: docs/translation_data.md."""

import functools
from importlib.resources import files

from ds_core.errors import UserError, did_you_mean
from ds_core.text.pairs import Pairs

LANGUAGES = {"en": "English", "de": "German", "fr": "French", "es": "Spanish"}


def shipped_pairs(source_language: str, target_language: str) -> Pairs:
    """About twelve thousand sentences and their translations, from any of `LANGUAGES` into any other.

    Raises:
        UserError: a language is not one of them, or the same one is given twice.
    """
    for language in (source_language, target_language):
        if language not in LANGUAGES:
            known = ", ".join(f"{code} ({name})" for code, name in LANGUAGES.items())
            near = did_you_mean(language, LANGUAGES) or did_you_mean(language.capitalize(), LANGUAGES.values())
            raise UserError(f"no sentences are shipped in {language!r}{near}; expected one of {known}")
    if source_language == target_language:
        raise UserError(f"given {source_language!r} as both languages, expected two")
    columns = _columns()
    return Pairs(columns[source_language], columns[target_language])


@functools.cache
def _columns() -> dict[str, tuple[str, ...]]:
    text = files("ds_core.text").joinpath("sentences.tsv").read_text(encoding="utf-8")
    names, *rows = (line.split("\t") for line in text.splitlines())
    return dict(zip(names, zip(*rows, strict=True), strict=True))
