"""Writing with a language model, one token after the other. Theory: docs/generate.md."""

from collections.abc import Iterator

import torch
from ds_core.softmax import softmax
from torch import Tensor

from ds_core import no_record
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
    use_cache: bool = True,
    block_size: int | None = None,
) -> Iterator[int]:
    """Yield `count` tokens that go on from `prompt`, each as soon as it is drawn.

    Where the text outgrows the window of `block_size` tokens, the oldest quarter of the window is forgotten and the
    rest is read anew: learned positions cannot be shifted in a cache, and doing so once every block_size / 4 tokens
    rather than for every token keeps the work for a token constant.

    Args:
        prompt: (T,) int64, at least one token.
        count: how many tokens to write.
        temperature: what the logits are divided by; 0 takes the likeliest token always.
        top_k: draw among the k likeliest tokens only.
        top_p: draw among the likeliest tokens that together have at least this probability (Holtzman et al., "The
            Curious Case of Neural Text Degeneration", 2020).
        seed: of the draws; None draws differently each time. The global generator is left alone.
        use_cache: keep keys and values rather than compute them again for each token; the same text either way.
        block_size: the window; at most, and by default, the model's.

    Raises:
        ValueError: an argument outside its range (before the first token).
    """
    window = model.config.block_size if block_size is None else block_size
    _check(model, prompt, count, temperature, top_k, top_p, window)
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return _generate(model, prompt, count, temperature, top_k, top_p, generator, use_cache, window)


def _generate(
    model: MiniGPT,
    prompt: Tensor,
    count: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generator: torch.Generator,
    use_cache: bool,
    window: int,
) -> Iterator[int]:
    device = model.tokens.weight.device
    kept = prompt[-window:].tolist()  # what the model still sees
    cache, cached = None, 0
    for _ in range(count):
        if len(kept) > window:
            kept = kept[-(window - window // 4) :]
            cached = 0
        if use_cache and cached == 0:
            cache = model.new_cache()
        with no_record(), _Evaluating(model):  # closed before each yield: what runs between is the caller's
            tokens = torch.tensor([kept[cached:]], device=device)
            logits = model.next_logits(tokens, cache)[0]  # (V,)
        cached = len(kept) if use_cache else 0
        token = draw(logits, temperature, top_k, top_p, generator)
        kept.append(token)
        yield token


def draw(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> int:
    """logits (V,) -> a token. Drawn on the CPU, so that a seed writes the same text on every device."""
    logits = logits.detach().to("cpu", torch.float32)
    if temperature == 0:
        return int(logits.argmax())
    ordered, tokens = torch.sort(logits / temperature, descending=True, stable=True)
    ordered = ordered[:top_k]
    probabilities = softmax(ordered, -1)
    if top_p is not None:
        # keep each token that the ones before it have not made superfluous; the first stays always
        before = torch.cumsum(probabilities, 0) - probabilities
        probabilities = torch.where(before < top_p, probabilities, 0.0)
    return int(tokens[torch.multinomial(probabilities, 1, generator=generator)])


class _Evaluating:
    """Evaluation mode (no dropout) for a while."""

    def __init__(self, model: MiniGPT) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.modes = [(module, module.training) for module in self.model.modules() if module.training]
        self.model.eval()

    def __exit__(self, *error: object) -> None:
        for module, mode in self.modes:
            module.training = mode


def _check(
    model: MiniGPT,
    prompt: Tensor,
    count: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    window: int,
) -> None:
    if prompt.dim() != 1 or len(prompt) == 0:
        raise ValueError(f"generate: given a prompt of shape {tuple(prompt.shape)}, expected (T,) with at least 1 token")
    if int(prompt.min()) < 0 or int(prompt.max()) >= model.config.vocab_size:
        raise ValueError(f"generate: the prompt has tokens outside 0 to {model.config.vocab_size - 1}")
    if count < 0:
        raise ValueError(f"generate: count is {count}, expected 0 or more")
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(f"generate: temperature is {temperature}, expected 0 or more")
    if top_k is not None and top_k < 1:
        raise ValueError(f"generate: top_k is {top_k}, expected at least 1")
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise ValueError(f"generate: top_p is {top_p}, expected 0 < top_p <= 1")
    if not 1 <= window <= model.config.block_size:
        raise ValueError(
            f"generate: block_size is {window}, but the model was trained on blocks of {model.config.block_size} tokens: "
            f"expected 1 to {model.config.block_size}"
        )
