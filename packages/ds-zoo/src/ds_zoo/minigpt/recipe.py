"""The recipe `minigpt` of the command `ds`: train a GPT on text, and continue texts with it."""

from pathlib import Path
from typing import Any

import torch
from ds_core import TokenCrossEntropy, UserError, load_weights
from ds_core.recipes import Command, Recipe
from ds_core.recipes.finished import check_evaluated, options_of_run
from ds_core.recipes.text_corpus import TOKENIZER_FILE
from ds_core.recipes.text_run import print_text, prompt_of
from ds_core.testing import Report, report
from ds_core.text.tokenizers import Tokenizer, load_tokenizer
from ds_core.training.devices import choose_device
from ds_core.training.run_folder import CHECKPOINT_FILE
from ds_core.training.run_options import DTYPES

from ds_zoo.minigpt.config import MiniGPTConfig
from ds_zoo.minigpt.generate import generate
from ds_zoo.minigpt.generate_batch import generate_batch
from ds_zoo.minigpt.model import MiniGPT
from ds_zoo.minigpt.options import GenerateOptions, MiniGPTOptions
from ds_zoo.minigpt.pretrained_tokenizer import check_fits
from ds_zoo.minigpt.run import MiniGPTRun, build_model


def continue_text(folder: Path, options: GenerateOptions) -> None:
    """`ds generate FOLDER`: print the prompt and how the model continues it."""
    device = choose_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    tokenizer = load_tokenizer(folder / TOKENIZER_FILE)
    prompt, prompt_tokens = prompt_of(options, tokenizer)
    several = [tokenizer.encode(text, f"{text!r} of --prompts") for text in options.prompts]
    model = load_model(folder, options.weights, tokenizer).to(device)
    if options.block_size is not None and options.block_size > model.config.block_size:
        raise UserError(
            f"--block-size {options.block_size} is beyond the {model.config.block_size} tokens that the model was "
            "trained to look at together"
        )
    draws: dict[str, Any] = {"temperature": options.temperature, "top_k": options.top_k, "top_p": options.top_p}
    if several:
        seeds = None if options.seed is None else range(options.seed, options.seed + len(several))
        texts = generate_batch(model, several, options.tokens, seeds=seeds, block_size=options.block_size, **draws)
        for text, written in zip(options.prompts, texts, strict=True):
            print(f"{text}{tokenizer.decode(written)}\n")
        return
    tokens = generate(model, prompt_tokens, options.tokens, seed=options.seed, block_size=options.block_size, **draws)
    print_text(prompt, tokens, tokenizer, options.stream)


def load_model(folder: Path, weights: str, tokenizer: Tokenizer) -> MiniGPT:
    """The weights of the "best" evaluation or of the "last" checkpoint of the run in `folder`.

    Raises:
        UserError: there are none yet, they are damaged, or do not fit this tokenizer.
    """
    if weights == "last":
        options = options_of_run(folder, MiniGPTOptions)
        model = build_model(options, tokenizer).to(DTYPES[options.dtype])
        load_weights(folder / CHECKPOINT_FILE, model)
        return model
    check_evaluated(folder, "minigpt", "config.json")
    model = MiniGPT.from_pretrained(folder)
    check_fits(tokenizer, model.config.vocab_size, folder)
    return model


def check() -> Report:
    """`ds check minigpt`: every gradient of a small MiniGPT, handwritten, by autograd and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    config = MiniGPTConfig(vocab_size=11, block_size=6, num_layers=2, num_heads=2, embed_dim=8, dropout=0.0)
    model = MiniGPT(config, generator=generator)
    tokens = torch.randint(11, (2, 7), generator=generator)
    return report(model, tokens[:, :-1], TokenCrossEntropy(), tokens[:, 1:])


recipe = Recipe(
    name="minigpt",
    summary="a GPT that learns a text, Python's standard library or your own, and writes more of it",
    options=MiniGPTOptions,
    train=MiniGPTRun.train,
    commands=(Command("generate", "continue a text", GenerateOptions, continue_text),),
    check=check,
)
