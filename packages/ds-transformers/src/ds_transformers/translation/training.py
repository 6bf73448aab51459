"""`ds train translate`: from options to a model that translates, in a folder."""

from pathlib import Path
from typing import Any

import torch
from ds_core.atomic_files import write_atomically
from ds_core.distributed.processes import current
from ds_core.errors import UserError
from ds_core.losses.token_cross_entropy import TokenCrossEntropy
from ds_core.optimizers.adam import AdamW
from ds_core.optimizers.parameter_groups import decay_groups
from ds_core.recipes.results import RESULTS_FILE
from ds_core.schedules.noam import NoamLR
from ds_core.schedules.warmup_cosine import WarmupCosineLR
from ds_core.speed.compiled import compile_pairs
from ds_core.text.scores import token_loss
from ds_core.text.token_batches import TokenBatches
from ds_core.text.translation_tokenizer import PAD
from ds_core.training.averaging import AverageLast
from ds_core.training.devices import choose_device
from ds_core.training.keep_checkpoints import BEST_FILE, KeepBest
from ds_core.training.run_folder import open_run_folder, store_options
from ds_core.training.trainer import Trainer

from ds_transformers.seq2seq.seq2seq_transformer import Seq2SeqTransformer
from ds_transformers.translation.corpus import SOURCE_TOKENIZER, TARGET_TOKENIZER, SamePairs, read_corpus
from ds_transformers.translation.options import DTYPES, TranslateOptions
from ds_transformers.translation.reporting import CURVE_FILE, MAPS_FILE, announce, finish
from ds_transformers.translation.translating import FINAL_FILE, build_model


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
    steps = max(1, values.epochs * batches.steps_per_epoch // options.accumulate)
    # all that may fail stands before this line, for with --overwrite it deletes
    folder = open_run_folder("translate", options)
    trainer = _trainer(options, model, batches, validation, SamePairs(corpus), folder, steps)
    resumed = options.resume and trainer.resume()
    if trainer.step > steps:
        raise UserError(
            f"--epochs {options.epochs}: the run is at step {trainer.step} already, beyond the {steps} steps of so many"
        )
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
        announce(options, model, corpus, batches, device)
    trainer.fit(batches, steps)
    if first:
        finish(options, trainer, corpus, validation, folder)


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
    steps: int,
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
        schedule=make_schedule(options, optimizer, steps),
        clip_norm=options.clip_norm or None,
        accumulate=options.accumulate,
        folder=folder,
        evaluate=lambda model: token_loss(model, validation.epoch(0)),
        evaluate_every=options.evaluate_every * epoch,
        checkpoint_every=options.checkpoint_every,
        callbacks=callbacks,
    )
