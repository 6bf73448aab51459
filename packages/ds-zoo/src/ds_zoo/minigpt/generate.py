"""Writing with a language model, one token after the other. Theory: docs/minigpt/generate.md."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from ds_core import no_record
from ds_core.arguments import whole_number
from ds_core.text.sampling import check_prompt, sampler
from torch import Tensor

from ds_zoo.minigpt.model import MiniGPT

# T = tokens so far, V = vocab_size


def generate(
    model: MiniGPT,
    prompt: Tensor,
    count: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stop_token: int | None = None,
    use_cache: bool = True,
    block_size: int | None = None,
) -> Iterator[int]:
    """Yield `count` tokens that continue `prompt`, each as soon as it is drawn.

    When the text outgrows the window of `block_size` tokens, the oldest quarter of the window is forgotten and the rest
    is read anew: learned positions cannot be shifted in a cache, and doing so once every block_size / 4 tokens rather
    than for every token keeps the work per token constant.

    Args:
        prompt: (T,) int64, at least one token.
        count: how many tokens to write.
        temperature: the logits are divided by it; 0 always takes the likeliest token.
        top_k: draw among the k likeliest tokens only.
        top_p: draw among the likeliest tokens that together have at least this probability (Holtzman et al., "The
            Curious Case of Neural Text Degeneration", 2020).
        seed: of the draws; None draws differently each time. The global generator is left alone.
        stop_token: the text ends before it, such as one that stands for the end of a text.
        use_cache: keep keys and values instead of computing them again for each token; the text is the same.
        block_size: the window; at most, and by default, the model's.

    Raises:
        ValueError: an argument is outside its range (raised before the first token).
    """
    window = check_window(model, block_size)
    check_prompt("generate", prompt, count, model.config.vocab_size)
    choose = sampler("generate", temperature, top_k, top_p, seed)
    return _stream(model, prompt, count, choose, stop_token, use_cache, window)


def check_window(model: MiniGPT, block_size: int | None) -> int:
    """How many tokens the model looks back on; raises ValueError for more than it was trained on, or none."""
    window = model.config.block_size if block_size is None else whole_number("generate", "block_size", block_size)
    if not 1 <= window <= model.config.block_size:
        raise ValueError(
            f"generate: block_size is {window}, but the model was trained on blocks of {model.config.block_size} "
            f"tokens: expected 1 to {model.config.block_size}"
        )
    return window


def _stream(
    model: MiniGPT,
    prompt: Tensor,
    count: int,
    choose: Callable[[Tensor], int],
    stop_token: int | None,
    use_cache: bool,
    window: int,
) -> Iterator[int]:
    device = model.tokens.weight.device
    modules = list(model.modules())
    cache = model.new_cache() if use_cache else None
    seen = prompt[-window:].tolist()  # what the model looks back on
    cached = 0
    for _ in range(count):
        if len(seen) > window:
            seen = seen[-(window - window // 4) :]
            cached = 0
            for layer in cache or []:
                layer.reset()
        # closed before each yield, because the caller's code runs between two tokens
        with no_record(), torch.inference_mode(), evaluating(modules):
            tokens = torch.tensor([seen[cached:]], device=device)
            logits = model.next_logits(tokens, cache)[0]  # (V,)
        cached = 0 if cache is None else len(seen)
        token = choose(logits)
        if token == stop_token:
            return
        seen.append(token)
        yield token


class evaluating:
    """Evaluation mode (no dropout) for a while, whichever mode each of `modules` is in.

    `evaluation_mode` would walk the model anew for every token.
    """

    def __init__(self, modules: list[Any]) -> None:
        self.modules = modules

    def __enter__(self) -> None:
        self.training = [module for module in self.modules if module.training]
        for module in self.training:
            module.training = False

    def __exit__(self, *error: object) -> None:
        for module in self.training:
            module.training = True
