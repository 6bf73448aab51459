"""Writing with a recurrent language model, one token after the other. Theory: docs/language_model.md."""

from collections.abc import Callable, Iterator

import torch
from ds_core import no_record
from ds_core.text.sampling import check_prompt, sampler
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
    check_prompt("write", prompt, count, model.config.vocab_size)
    return _stream(model, prompt, count, sampler("write", temperature, top_k, top_p, seed))


def _stream(model: RNNLanguageModel, prompt: Tensor, count: int, choose: Callable[[Tensor], int]) -> Iterator[int]:
    tokens, state = prompt[None].to(model.head.weight.device), None
    for _ in range(count):
        # closed before each yield, because the caller's code runs between two tokens
        with evaluation_mode(model), no_record():
            logits, state = model.advance(tokens, state)
        token = choose(logits[0, -1])
        tokens = torch.tensor([[token]], device=tokens.device)
        yield token
