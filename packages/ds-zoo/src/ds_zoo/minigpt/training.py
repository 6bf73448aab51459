"""`ds train minigpt`: from options to a trained model in a folder."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ds_core import no_record
from ds_core.atomic_files import write_atomically
from ds_core.distributed.processes import current
from ds_core.errors import MissingPackageError
from ds_core.losses.token_cross_entropy import TokenCrossEntropy
from ds_core.metrics import Mean
from ds_core.optimizers.adam import AdamW
from ds_core.optimizers.parameter_groups import decay_groups
from ds_core.recipes.recipe import command_here
from ds_core.schedules.warmup_cosine import WarmupCosineLR
from ds_core.speed.compiled import compile_pairs
from ds_core.training.callbacks import Callback
from ds_core.training.devices import choose_device
from ds_core.training.run_folder import CHECKPOINT_FILE, LOG_FILE, open_run_folder, store_options
from ds_core.training.trainer import Trainer
from torch import Tensor

from ds_zoo.minigpt.batches import RandomBlocks, consecutive_blocks
from ds_zoo.minigpt.config import MiniGPTConfig
from ds_zoo.minigpt.corpus import TOKENIZER_FILE, Corpus, SameText, read_corpus
from ds_zoo.minigpt.generate import generate
from ds_zoo.minigpt.model import MiniGPT
from ds_zoo.minigpt.options import DTYPES, TrainOptions

CURVE_FILE = "loss.png"
# Different streams of batches from one seed
_TRAINING, _VALIDATION = 0, 1
_SAMPLE_TOKENS = 200


def train(options: TrainOptions) -> None:
    """Train as told, or go on, and say where everything is."""
    values: Any = options  # every option has its value now
    device = choose_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    corpus = read_corpus(options)
    torch.manual_seed(options.seed)
    model = build_model(options, corpus.tokenizer.vocab_size).to(device, DTYPES[options.dtype])
    compile_pairs(options.compile == "pairs")
    # all that may fail stands before this line, for with --overwrite it deletes
    folder = open_run_folder("minigpt", options)
    trainer = build_trainer(options, model, corpus, folder, device)
    resumed = options.resume and trainer.resume()
    # and only now is anything written, for a --resume that was refused leaves the run as it is
    if options.resume:
        store_options("minigpt", options)
    if not resumed:
        for name in ("config.json", "model.safetensors", CURVE_FILE):
            (folder / name).unlink(missing_ok=True)  # of a run that was overwritten
    first = current().first  # of several processes (torchrun) one writes and reports
    if first:
        write_atomically(folder / TOKENIZER_FILE, corpus.tokenizer.to_json())

    _announce(options, model, corpus, device)
    if not resumed:
        trainer.write(f"before training, it writes:\n{sample(model, corpus, options.seed)}\n")
    batches = RandomBlocks(corpus.training, values.block_size, values.batch_size, 2 * options.seed + _TRAINING, device)
    trainer.fit(batches, values.steps)
    if first:
        _finish(options, trainer, corpus, folder, device)


def build_model(options: TrainOptions, vocab_size: int) -> MiniGPT:
    values: Any = options
    names = ("block_size", "layers", "heads", "width", "dropout", "bias")
    return MiniGPT(MiniGPTConfig(vocab_size, **{name: getattr(values, name) for name in names}))


def build_trainer(
    options: TrainOptions, model: MiniGPT, corpus: Corpus, folder: Path | None, device: torch.device
) -> Trainer:
    """Optimizer, schedule, loss, evaluation, callbacks; without a folder it writes nothing and shows nothing."""
    values: Any = options
    optimizer = AdamW(
        decay_groups(model, values.weight_decay), lr=values.lr, betas=(values.beta1, values.beta2), weight_decay=0.0
    )
    validation = RandomBlocks(
        corpus.validation, values.block_size, values.batch_size, 2 * options.seed + _VALIDATION, device
    )
    callbacks: list[Callback] = [SameText(corpus), KeepBest()]
    if values.sample_every:
        callbacks.append(Samples(corpus, values.sample_every, options.seed))
    return Trainer(
        model,
        TokenCrossEntropy(),
        optimizer,
        schedule=WarmupCosineLR(optimizer, values.warmup_steps, values.steps, values.min_lr),
        clip_norm=values.clip_norm or None,
        accumulate=options.accumulate,
        compile=options.compile == "step",
        folder=folder,
        evaluate=lambda model: {"loss": _mean_loss(model, map(validation.batch, range(values.evaluate_batches)))},
        evaluate_every=values.evaluate_every,
        checkpoint_every=options.checkpoint_every,
        callbacks=callbacks,
        progress=folder is not None,
    )


def whole_loss(model: MiniGPT, tokens: Tensor, device: torch.device) -> float:
    """The mean loss over all of `tokens`, each but the first predicted once, in blocks side by side."""
    block_size = model.config.block_size
    with no_record():
        model.eval()
        return _mean_loss(model, consecutive_blocks(tokens, block_size, max(1, 8192 // block_size), device))


def _mean_loss(model: MiniGPT, batches: Any) -> float:
    mean, criterion = Mean(), TokenCrossEntropy()
    for tokens, targets in batches:
        mean.update(criterion(model(tokens), targets), targets.numel())
    return mean.compute()


def sample(model: MiniGPT, corpus: Corpus, seed: int) -> str:
    """What the model writes after the first token of the validation text."""
    prompt = corpus.validation[:1]
    return corpus.tokenizer.decode(generate(model, prompt, _SAMPLE_TOKENS, temperature=0.8, seed=seed))


class KeepBest(Callback):
    """Writes config.json and model.safetensors whenever an evaluation is the best so far."""

    everywhere = False

    def on_evaluate(self, trainer: Trainer, metrics: Mapping[str, Any]) -> None:
        if trainer.best is not None and trainer.best["step"] == trainer.step and trainer.folder is not None:
            trainer.model.save_pretrained(trainer.folder)


class Samples(Callback):
    """Shows what the model writes, every so many steps."""

    everywhere = False

    def __init__(self, corpus: Corpus, every: int, seed: int) -> None:
        self.corpus, self.every, self.seed = corpus, every, seed

    def on_step_end(self, trainer: Trainer, metrics: Mapping[str, Any]) -> None:
        if trainer.step % self.every == 0:
            trainer.write(f"after {trainer.step} steps, it writes:\n{sample(trainer.model, self.corpus, self.seed)}\n")


def _announce(options: TrainOptions, model: MiniGPT, corpus: Corpus, device: torch.device) -> None:
    count = sum(tensor.numel() for tensor in model.parameters())
    print(
        f"MiniGPT with {count:,} parameters ({options.layers} layers, {options.width} wide, blocks of "
        f"{options.block_size}) learns {corpus.source}: {len(corpus.training):,} tokens to train on, "
        f"{len(corpus.validation):,} to validate on, {corpus.tokenizer.vocab_size} different ones; "
        f"on {device}, {options.dtype}, {torch.get_num_threads()} threads",
        flush=True,
    )


def _finish(options: TrainOptions, trainer: Trainer, corpus: Corpus, folder: Path, device: torch.device) -> None:
    model: MiniGPT = trainer.model
    step = trainer.step
    if trainer.best is not None and trainer.best["step"] != step:
        step = trainer.best["step"]
        model.load_state_dict(MiniGPT.from_pretrained(folder).state_dict())
    loss = whole_loss(model, corpus.validation, device)
    print(f"after training, it writes:\n{sample(model, corpus, options.seed)}\n")
    print(
        f"loss over the whole validation split ({len(corpus.validation) - 1:,} tokens): {loss:.4f} nats a token, "
        f"with the weights of step {step}; {trainer.seconds:.0f} s of training"
    )
    print(f"checkpoint  {folder / CHECKPOINT_FILE}\nmodel       {folder / 'model.safetensors'} (transformers reads it)")
    print(f"log         {folder / LOG_FILE}")
    try:
        trainer.history.plot(folder / CURVE_FILE)
        print(f"loss curve  {folder / CURVE_FILE}")
    except MissingPackageError as error:
        print(f"loss curve  not drawn: {error}")
    ds = command_here()
    prompt = " --prompt 'def '" if options.text is None else ""
    typed = shlex.quote(str(folder))
    print(
        f"\ntry next:\n  {ds} generate {typed}{prompt}\n"
        f"  {ds} train minigpt --out {typed} --resume --steps {2 * trainer.step}\n"
        f"  {ds} train minigpt --text FILE --out runs/mine",
        flush=True,
    )
