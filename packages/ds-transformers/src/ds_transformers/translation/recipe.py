"""The recipe `translate` of the command `ds`: learn to translate from pairs of sentences, and translate."""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from ds_core.atomic_files import write_atomically
from ds_core.losses.token_cross_entropy import TokenCrossEntropy
from ds_core.recipes.recipe import Recipe, Use
from ds_core.testing import Report, report
from ds_core.training.devices import choose_device

from ds_transformers.seq2seq.seq2seq_transformer import Seq2SeqConfig, Seq2SeqTransformer
from ds_transformers.translation.attention_maps import plot_attention
from ds_transformers.translation.options import TranslateOptions, UseOptions
from ds_transformers.translation.sentences import check_place, in_one_line, read_sentences, standard_input
from ds_transformers.translation.training import train
from ds_transformers.translation.translating import load_translator


def translate(folder: Path, options: UseOptions) -> None:
    """`ds translate FOLDER`: a sentence, the lines of a file or of standard input, or what a person types."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    check_place("--output", options.output)
    check_place("--maps", options.maps)
    translator = load_translator(folder, options.weights, choose_device(options.device))

    def translated(sentences: list[str]) -> list[str]:
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
    if options.maps is not None:
        plot_attention(translator, sentences[0], results[0], options.maps)
        print(f"attention of the first translation: {options.maps}", file=sys.stderr)


def _converse(translated: Callable[[list[str]], list[str]]) -> None:
    """Sentence by sentence, until the input ends (Ctrl-D)."""
    print("a sentence, then Enter; Ctrl-D ends", file=sys.stderr)
    for line in sys.stdin:
        if line.strip():
            print(in_one_line(translated([line])[0]), flush=True)


def check() -> Report:
    """`ds check translate`: every gradient of a small model, handwritten, by autograd and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    config = Seq2SeqConfig(13, 13, width=8, heads=2, hidden=12, encoder_layers=2, decoder_layers=2, dropout=0.0)
    model = Seq2SeqTransformer(config, generator=generator)
    source, target = (torch.randint(1, 13, (3, size), generator=generator) for size in (5, 7))
    source[1, 3:] = config.pad
    return report(model, (source, target[:, :-1]), TokenCrossEntropy(label_smoothing=0.1), target[:, 1:])


recipe = Recipe(
    name="translate",
    summary="a Transformer that learns to translate: the sentences it brings, Multi30k, or pairs of yours",
    options=TranslateOptions,
    train=train,
    check=check,
    uses=(Use("translate", "translate sentences", UseOptions, translate),),
)
