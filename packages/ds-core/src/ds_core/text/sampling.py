"""Drawing the next token of a text. Theory: docs/sampling.md."""

from collections.abc import Callable

import torch
from torch import Tensor

from ds_core.activations.softmax import softmax
from ds_core.arguments import whole_number

# V = vocabulary


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
    ordered, tokens = torch.sort(logits, descending=True, stable=True)
    # The largest becomes 0, the others go to -inf at worst; in float64, where a temperature such as 1e-46 is not yet 0
    scaled = (ordered[:top_k] - ordered[0]).to(torch.float64) / temperature
    probabilities = softmax(scaled.to(torch.float32), -1)
    if top_p is not None:
        # keep a token while those before it sum to less than top_p; the first always stays
        before = torch.cumsum(probabilities, 0) - probabilities
        probabilities = torch.where(before < top_p, probabilities, 0.0)
    return int(tokens[torch.multinomial(probabilities, 1, generator=generator)])


def sampler(
    caller: str, temperature: float, top_k: int | None, top_p: float | None, seed: int | None
) -> Callable[[Tensor], int]:
    """What draws one token after the other, logits (V,) -> a token, from a generator of its own.

    Args:
        caller: whose arguments these are, for messages.
        seed: None draws differently each time.

    Raises:
        ValueError: as of `check_sampling`.
    """
    check_sampling(caller, temperature, top_k, top_p)
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return lambda logits: draw(logits, temperature, top_k, top_p, generator)


def check_prompt(caller: str, prompt: Tensor, count: int, vocab_size: int) -> None:
    """Raise ValueError or TypeError, naming the caller, unless `count` tokens can be written after the prompt (T,)."""
    if not isinstance(prompt, Tensor):
        raise TypeError(f"{caller}: given a prompt that is a {type(prompt).__name__}, expected a tensor (T,) of tokens")
    if prompt.is_floating_point():
        raise TypeError(f"{caller}: given a prompt in {prompt.dtype}, expected int64")
    if prompt.dim() != 1 or len(prompt) == 0:
        raise ValueError(
            f"{caller}: given a prompt of shape {tuple(prompt.shape)}, expected (T,) with at least 1 token"
        )
    if int(prompt.min()) < 0 or int(prompt.max()) >= vocab_size:
        raise ValueError(f"{caller}: the prompt has tokens outside 0 to {vocab_size - 1}")
    whole_number(caller, "count", count, 0)


def check_sampling(caller: str, temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise ValueError, naming the caller, for an argument of `draw` that makes no sense."""
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(f"{caller}: temperature is {temperature}, expected a finite number, 0 or more")
    if top_k is not None and top_k < 1:
        raise ValueError(f"{caller}: top_k is {top_k}, expected at least 1")
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise ValueError(f"{caller}: top_p is {top_p}, expected 0 < top_p <= 1")
