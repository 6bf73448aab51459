"""`ds translate FOLDER`, the same for every recipe of translation."""

import sys
import unicodedata
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ds_core.atomic_files import write_atomically
from ds_core.errors import UserError
from ds_core.recipes.recipe import Command, Recipe
from ds_core.recipes.translation.options import CommandOptions
from ds_core.recipes.translation.run import TranslationRun
from ds_core.recipes.translation.sentence_io import check_writable, in_one_line, read_sentences, standard_input
from ds_core.text.tokenizers import SentenceTokenizer
from ds_core.text.words import WordTokenizer
from ds_core.training.devices import choose_device

_SHOWN = 5  # unknown words


def translation_recipe(run: type[TranslationRun[Any, Any]], summary: str, check: Callable[[], Any]) -> Recipe:
    """The recipe of a `TranslationRun`, with the command `ds translate`."""
    return Recipe(
        name=run.name,
        summary=summary,
        options=run.options_type,
        train=run.train,
        check=check,
        commands=(Command("translate", "translate sentences", CommandOptions, partial(translate, run)),),
    )


def translate(run: type[TranslationRun[Any, Any]], folder: Path, options: CommandOptions) -> None:
    """`ds translate FOLDER`: a sentence, the lines of a file or of standard input, or what a person types."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    check_writable("--output", options.output)
    check_writable("--maps", options.maps)
    if options.maps is not None and run.draw_attention is None:
        raise UserError(f"--maps: a run of {run.name} has no attention to draw")
    translator = run.load(folder, options.weights, choose_device(options.device))

    def translated(sentences: list[str]) -> list[str]:
        note = unknown_words(translator.source_tokenizer, sentences)
        if note is not None:
            print(f"ds: note: {note}", file=sys.stderr, flush=True)
        return translator.translate(
            sentences,
            beam_size=options.beam_size,
            length_penalty=options.length_penalty,
            max_length=options.max_length,
            batch_size=options.batch_size,
        )

    if options.text is not None:
        sentences = [options.text]
    elif options.input is not None:
        sentences = read_sentences(options.input)
    elif sys.stdin.isatty() and options.output is None and options.maps is None:
        _converse(translated)
        return
    else:
        sentences = standard_input()
    results = translated(sentences)
    text = "".join(in_one_line(result) + "\n" for result in results)
    if options.output is None:
        print(text, end="", flush=True)
    else:
        write_atomically(options.output, text)
    if options.maps is not None and run.draw_attention is not None:
        run.draw_attention(translator, sentences[0], results[0], options.maps)
        print(f"attention of the first translation: {options.maps}", file=sys.stderr)


def unknown_words(tokenizer: SentenceTokenizer, sentences: Iterable[str]) -> str | None:
    """What to say of words that a vocabulary of words lacks; None if it has all, or the tokens are parts of words."""
    if not isinstance(tokenizer, WordTokenizer):
        return None
    # composed as the tokenizer does it, so that a word's place in the text is the same
    texts = (unicodedata.normalize("NFC", sentence) for sentence in sentences)
    found = [spelled for text in texts for spelled in tokenizer.spelled(text, "a sentence")]
    unknown = [word if word.isprintable() else ascii(word) for word, known in found if not known]
    if not unknown:
        return None
    different = list(dict.fromkeys(unknown))
    more = f" and {len(different) - _SHOWN:,} more" if len(different) > _SHOWN else ""
    return (
        f"unknown to the model, which reads <unknown> instead: {len(unknown):,} of {len(found):,} words and marks: "
        f"{', '.join(different[:_SHOWN])}{more}"
    )


def _converse(translated: Callable[[list[str]], list[str]]) -> None:
    """Sentence by sentence, until the input ends (Ctrl-D)."""
    print("a sentence, then Enter; Ctrl-D ends", file=sys.stderr)
    for line in sys.stdin:
        if line.strip():
            print(in_one_line(translated([line])[0]), flush=True)
