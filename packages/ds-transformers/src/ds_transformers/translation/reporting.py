"""What a run of `ds train translate` says when it begins, and what it leaves when it ends."""

import shlex
from pathlib import Path

import torch
from ds_core.errors import MissingPackageError
from ds_core.recipes.recipe import command_here
from ds_core.recipes.results import save_results, table
from ds_core.text.scores import corpus_scores, token_loss
from ds_core.text.token_batches import TokenBatches
from ds_core.training.averaging import AverageLast
from ds_core.training.checkpoint import load_weights, save_checkpoint
from ds_core.training.keep_checkpoints import BEST_FILE
from ds_core.training.trainer import Trainer

from ds_transformers.seq2seq.seq2seq_transformer import Seq2SeqTransformer
from ds_transformers.translation.attention_maps import plot_attention
from ds_transformers.translation.corpus import Corpus
from ds_transformers.translation.options import TranslateOptions
from ds_transformers.translation.sentences import in_one_line
from ds_transformers.translation.translating import FINAL_FILE, Translator

CURVE_FILE, MAPS_FILE = "loss.png", "attention.png"


def announce(
    options: TranslateOptions, model: Seq2SeqTransformer, corpus: Corpus, batches: TokenBatches, device: torch.device
) -> None:
    """Print what is going to be trained, on what."""
    count = sum(tensor.numel() for tensor in model.parameters())
    parts, sizes = corpus.parts, (corpus.source_tokenizer.vocab_size, corpus.target_tokenizer.vocab_size)
    left_out = f" ({parts.left_out:,} more left out, for their translation is held out)" if parts.left_out else ""
    vocabulary = (
        f"one vocabulary of {sizes[0]}" if options.share_vocabulary else "vocabularies of {} and {}".format(*sizes)
    )
    print(
        f"a Transformer with {count:,} parameters ({options.encoder_layers} + {options.decoder_layers} layers, "
        f"{options.width} wide) learns {corpus.source}: {len(parts.train):,} pairs to train "
        f"on{left_out}, {len(parts.validation):,} to validate on, {len(parts.test):,} to test on; {vocabulary} tokens; "
        f"{batches.steps_per_epoch} batches an epoch; on {device}, {options.dtype}, {torch.get_num_threads()} "
        "thread(s)",
        flush=True,
    )


def finish(options: TranslateOptions, trainer: Trainer, corpus: Corpus, validation: TokenBatches, folder: Path) -> None:
    """Choose the final weights and keep them, translate the test sentences, and say where everything is."""
    model: Seq2SeqTransformer = trainer.model
    averaging = next((callback for callback in trainer.callbacks if isinstance(callback, AverageLast)), None)
    if averaging is not None:
        model.load_state_dict(averaging.mean())
        origin = "the mean of steps " + ", ".join(map(str, averaging.steps))
    else:
        origin = f"step {load_weights(folder / BEST_FILE, model)}"
    save_checkpoint(folder / FINAL_FILE, model=model, step=trainer.step)
    translator = Translator(model, corpus.source_tokenizer, corpus.target_tokenizer)
    test = corpus.parts.test
    translations = translator.translate(test.source, beam_size=options.beam_size, length_penalty=options.length_penalty)
    scores = {"validation": token_loss(model, validation.epoch(0)), "test": corpus_scores(translations, test.target)}
    save_results(folder, {"weights": origin, "seconds": round(trainer.seconds, 2), **scores})
    trainer.write(_examples(test.source, translations, test.target))
    print(
        f"weights of {origin}; {trainer.seconds:.0f} s of training; validation perplexity "
        f"{scores['validation']['perplexity']:.3f}"
    )
    found = scores["test"]
    print(
        f"{len(test):,} test sentences: {found['exact']:.2%} translated exactly as their reference, "
        f"BLEU {found['BLEU']:.2f}, chrF {found['chrF']:.2f}"
    )
    if options.plots:
        try:
            trainer.history.plot(folder / CURVE_FILE)
            plot_attention(translator, test.source[0], translations[0], folder / MAPS_FILE)
        except MissingPackageError as error:
            print(f"no plots: {error}")
    for path in sorted(folder.iterdir()):
        print(f"  {path}")
    ds, out = command_here(), shlex.quote(str(folder))
    print(
        f"\ntry next:\n  {ds} translate {out} --text {shlex.quote(test.source[0])}\n"
        f"  {ds} train translate --out {out} --resume --epochs {2 * (options.epochs or 1)}",
        flush=True,
    )


def _examples(sources: list[str], translations: list[str], references: list[str], count: int = 5) -> str:
    """The first sentences whose translation is another than the reference, then others, as a table."""
    rows = sorted(zip(sources, translations, references, strict=True), key=lambda row: row[1] == row[2])[:count]
    return table(["source", "translation", "reference"], [list(map(in_one_line, row)) for row in rows])
