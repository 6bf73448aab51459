"""Drawing the next token of a text. Theory: docs/sampling.md."""

import torch
from torch import Tensor

from ds_core.activations.softmax import softmax

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


def check_sampling(caller: str, temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise ValueError, naming the caller, for an argument of `draw` that makes no sense."""
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(f"{caller}: temperature is {temperature}, expected a finite number, 0 or more")
    if top_k is not None and top_k < 1:
        raise ValueError(f"{caller}: top_k is {top_k}, expected at least 1")
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise ValueError(f"{caller}: top_p is {top_p}, expected 0 < top_p <= 1")
