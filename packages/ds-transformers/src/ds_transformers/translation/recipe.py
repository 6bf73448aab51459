"""The recipe `translate` of the command `ds`: learn to translate from pairs of sentences, and translate."""

import sys
from pathlib import Path

import torch
from ds_core.errors import UserError
from ds_core.files import write_atomically
from ds_core.losses.token_cross_entropy import TokenCrossEntropy
from ds_core.recipe import Recipe, Use
from ds_core.testing import Report, report
from ds_core.training.devices import choose_device

from ds_transformers.seq2seq.seq2seq_transformer import Seq2SeqConfig, Seq2SeqTransformer
from ds_transformers.translation.attention_maps import plot_attention
from ds_transformers.translation.options import TranslateOptions, UseOptions
from ds_transformers.translation.training import check_sentences, train
from ds_transformers.translation.translating import load_translator


def translate(folder: Path, options: UseOptions) -> None:
    """`ds translate FOLDER`: a sentence, the lines of a file, or those of standard input as they come."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    translator = load_translator(folder, options.weights, choose_device(options.device))

    def translated(sentences: list[str]) -> list[str]:
        return translator.translate(
            sentences,
            beam_size=options.beam_size,
            length_penalty=options.length_penalty,
            max_length=options.max_length,
            batch_size=options.batch_size,
        )

    sentences = _given(options)
    if sentences is None:
        _converse(translated)
        return
    results = translated(sentences)
    text = "\n".join(results) + "\n"
    if options.output is None:
        print(text, end="", flush=True)
    else:
        write_atomically(options.output, text)
    if options.maps is not None:
        plot_attention(translator, sentences[0], results[0], options.maps)
        print(f"attention of the first translation: {options.maps}", file=sys.stderr)


def _given(options: UseOptions) -> list[str] | None:
    """The sentences to translate, or None where a person sits at the terminal."""
    if options.text is not None:
        return [options.text]
    if options.input is not None:
        try:
            lines = options.input.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"--input: cannot read {options.input}: {reason}") from error
        return check_sentences(lines, str(options.input))
    if sys.stdin.isatty():
        return None
    return check_sentences(sys.stdin.read().splitlines(), "standard input")


def _converse(translated: object) -> None:
    """Sentence by sentence, until the input ends (Ctrl-D)."""
    print("a sentence, then Enter; Ctrl-D ends", file=sys.stderr)
    assert callable(translated)
    for line in sys.stdin:
        if line.strip():
            print(translated([line.strip()])[0], flush=True)


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
