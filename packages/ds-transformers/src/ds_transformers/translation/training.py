"""`ds train translate`: from options to a model that translates, in a folder."""

import shlex
from pathlib import Path
from typing import Any

import torch
from ds_core.distributed.processes import current
from ds_core.engine.compiled import compile_pairs
from ds_core.errors import MissingPackageError, UserError
from ds_core.files import write_atomically
from ds_core.losses.token_cross_entropy import TokenCrossEntropy
from ds_core.optimizers.adam import AdamW
from ds_core.optimizers.parameter_groups import decay_groups
from ds_core.recipe import command_here
from ds_core.recipes.summary import RESULTS_FILE, save_results, table
from ds_core.schedules.noam import NoamLR
from ds_core.schedules.warmup_cosine import WarmupCosineLR
from ds_core.training.checkpoint import load_weights
from ds_core.training.devices import choose_device
from ds_core.training.keep_checkpoints import BEST_FILE, KeepBest
from ds_core.training.run_folder import open_run_folder, store_options
from ds_core.training.trainer import Trainer
from safetensors.torch import save_file

from ds_transformers.seq2seq.averaging import AverageLast
from ds_transformers.seq2seq.seq2seq_transformer import Seq2SeqTransformer
from ds_transformers.translation.attention_maps import plot_attention
from ds_transformers.translation.corpus import SOURCE_TOKENIZER, TARGET_TOKENIZER, Corpus, SamePairs, read_corpus
from ds_transformers.translation.options import DTYPES, TranslateOptions
from ds_transformers.translation.scores import corpus_scores, token_loss
from ds_transformers.translation.token_batches import TokenBatches
from ds_transformers.translation.tokenizer import PAD
from ds_transformers.translation.translating import FINAL_FILE, Translator, build_model

CURVE_FILE, MAPS_FILE = "loss.png", "attention.png"


def train(options: TranslateOptions) -> None:
    """Train as told, or go on; translate the test sentences, and say where everything is."""
    values: Any = options  # every option has its value now
    device = choose_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    corpus = read_corpus(options)
    torch.manual_seed(options.seed)
    vocabularies = (corpus.source_tokenizer.vocab_size, corpus.target_tokenizer.vocab_size)
    model = build_model(options, *vocabularies).to(device, DTYPES[options.dtype])
    compile_pairs(options.compile == "pairs")
    batches = corpus.batches(
        corpus.parts.train,
        values.max_tokens,
        device,
        seed=options.seed,
        rank=current().rank,
        world_size=current().world_size,
    )
    validation = corpus.batches(corpus.parts.validation, values.max_tokens, device, shuffle=False)
    steps = values.epochs * batches.steps_per_epoch // options.accumulate
    # all that may fail stands before this line, for with --overwrite it deletes
    folder = open_run_folder("translate", options)
    trainer = _trainer(options, model, batches, validation, SamePairs(corpus), folder)
    resumed = options.resume and trainer.resume()
    # and only now is anything written, for a --resume that was refused leaves the run as it is
    if options.resume:
        store_options("translate", options)
    first = current().first  # of several processes (torchrun) one writes and reports
    if first:
        if not resumed:
            for name in (CURVE_FILE, MAPS_FILE, BEST_FILE, FINAL_FILE, RESULTS_FILE):
                (folder / name).unlink(missing_ok=True)  # of a run that was overwritten
        write_atomically(folder / SOURCE_TOKENIZER, corpus.source_tokenizer.to_json())
        write_atomically(folder / TARGET_TOKENIZER, corpus.target_tokenizer.to_json())
        _announce(options, model, corpus, batches, device)
    trainer.fit(batches, max(1, steps))
    if first:
        _finish(options, trainer, corpus, validation, folder)


def make_schedule(options: TranslateOptions, optimizer: Any, steps: int) -> Any:
    """What `--schedule` names, or None for a constant rate."""
    values: Any = options
    if options.schedule == "noam":
        return NoamLR(optimizer, values.width, values.warmup_steps, factor=values.lr)
    if options.schedule == "cosine":
        return WarmupCosineLR(optimizer, min(values.warmup_steps, steps // 5), steps)
    return None


def _trainer(
    options: TranslateOptions,
    model: Seq2SeqTransformer,
    batches: TokenBatches,
    validation: TokenBatches,
    same_pairs: SamePairs,
    folder: Path,
) -> Trainer:
    values: Any = options
    optimizer = AdamW(
        decay_groups(model, values.weight_decay), lr=values.lr, betas=(0.9, options.beta2), eps=1e-9, weight_decay=0.0
    )
    epoch = max(1, batches.steps_per_epoch // options.accumulate)
    callbacks: list[Any] = [same_pairs, KeepBest()]
    if values.average > 1:
        callbacks.append(AverageLast(values.average))
    return Trainer(
        model,
        TokenCrossEntropy(ignore_index=PAD, label_smoothing=options.label_smoothing),
        optimizer,
        schedule=make_schedule(options, optimizer, values.epochs * epoch),
        clip_norm=options.clip_norm or None,
        accumulate=options.accumulate,
        folder=folder,
        evaluate=lambda model: token_loss(model, validation.epoch(0)),
        evaluate_every=options.evaluate_every * epoch,
        checkpoint_every=options.checkpoint_every,
        callbacks=callbacks,
    )


def _announce(
    options: TranslateOptions, model: Seq2SeqTransformer, corpus: Corpus, batches: TokenBatches, device: torch.device
) -> None:
    count = sum(tensor.numel() for tensor in model.parameters())
    parts = corpus.parts
    shared = "one vocabulary" if options.share_vocabulary else "vocabularies"
    print(
        f"a Transformer with {count:,} parameters ({options.encoder_layers} + {options.decoder_layers} layers, "
        f"{options.width} wide) learns {corpus.source}: {len(parts.train):,} pairs to train on, "
        f"{len(parts.validation):,} to validate on, {len(parts.test):,} to test on; {shared} of "
        f"{corpus.source_tokenizer.vocab_size} tokens; {batches.steps_per_epoch} batches an epoch; on {device}, "
        f"{options.dtype}, {torch.get_num_threads()} thread(s)",
        flush=True,
    )


def _finish(
    options: TranslateOptions, trainer: Trainer, corpus: Corpus, validation: TokenBatches, folder: Path
) -> None:
    model: Seq2SeqTransformer = trainer.model
    averaging = next((callback for callback in trainer.callbacks if isinstance(callback, AverageLast)), None)
    if averaging is not None:
        model.load_state_dict(averaging.mean())
        origin = "the mean of steps " + ", ".join(map(str, averaging.steps))
    else:
        origin = f"step {load_weights(folder / BEST_FILE, model)}"
    state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    write_atomically(folder / FINAL_FILE, lambda temporary: save_file(state, temporary))
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
    return table(["source", "translation", "reference"], [list(row) for row in rows])


def check_sentences(sentences: list[str], where: str) -> list[str]:
    """The sentences of a user, none of them empty.

    Raises:
        UserError: a line is empty (which), or there is none.
    """
    if not sentences:
        raise UserError(f"{where} holds no sentence to translate")
    for number, sentence in enumerate(sentences, 1):
        if not sentence.strip():
            raise UserError(f"{where}: line {number} is empty, expected a sentence in each line")
    return sentences
