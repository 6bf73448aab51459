"""Writing with a recurrent language model, one token after the other. Theory: docs/language_model.md."""

from collections.abc import Iterator

import torch
from ds_core import no_record
from ds_core.text.sampling import check_sampling, draw
from ds_core.training.evaluation import evaluation_mode
from torch import Tensor

from ds_rnn.language.language_model import RNNLanguageModel


def write(
    model: RNNLanguageModel,
    prompt: Tensor,
    count: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
) -> Iterator[int]:
    """Yield `count` tokens that continue `prompt`, each as soon as it is drawn.

    What the model knows of the text is its state, so each token costs the same however long the text is.

    Args:
        prompt: (T,) int64, at least one token.
        count: how many tokens to write.
        temperature, top_k, top_p: see `ds_core.text.sampling.draw`.
        seed: of the draws; None draws differently each time. The global generator is left alone.

    Raises:
        ValueError: an argument is outside its range (raised before the first token).
    """
    check_sampling("write", temperature, top_k, top_p)
    if prompt.dim() != 1 or len(prompt) == 0:
        raise ValueError(f"write: given a prompt of shape {tuple(prompt.shape)}, expected (T,) with at least 1 token")
    if int(prompt.min()) < 0 or int(prompt.max()) >= model.config.vocab_size:
        raise ValueError(f"write: the prompt has tokens outside 0 to {model.config.vocab_size - 1}")
    if count < 0:
        raise ValueError(f"write: count is {count}, expected 0 or more")
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return _stream(model, prompt, count, temperature, top_k, top_p, generator)


def _stream(
    model: RNNLanguageModel,
    prompt: Tensor,
    count: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generator: torch.Generator,
) -> Iterator[int]:
    tokens, state = prompt[None].to(model.head.weight.device), None
    for _ in range(count):
        # closed before each yield, because the caller's code runs between two tokens
        with evaluation_mode(model), no_record():
            logits, state = model.advance(tokens, state)
        token = draw(logits[0, -1], temperature, top_k, top_p, generator)
        tokens = torch.tensor([[token]], device=tokens.device)
        yield token
