"""Writing with a language model, several texts at a time. Theory: docs/minigpt/generate.md."""

from collections.abc import Sequence

import torch
from ds_core import no_record
from ds_core.text.sampling import check_prompt, sampler
from ds_transformers import KeyValueCache
from torch import Tensor

from ds_zoo.minigpt.generate import check_window, evaluating
from ds_zoo.minigpt.masks import positions_in
from ds_zoo.minigpt.model import MiniGPT

# B = texts, T = tokens of the longest


def generate_batch(
    model: MiniGPT,
    prompts: Sequence[Tensor],
    count: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seeds: Sequence[int] | None = None,
    stop_token: int | None = None,
    use_cache: bool = True,
    block_size: int | None = None,
) -> list[list[int]]:
    """For each prompt the tokens that continue it: those that `generate` writes for it alone, all at the same time.

    The prompts may differ in length. Shorter ones are padded in front, so that all end at the same place.

    Args:
        prompts: B times (T,) int64, at least one token each.
        count: how many tokens to write, at most.
        temperature, top_k, top_p, use_cache, block_size: of `generate`.
        seeds: one for each prompt, of its draws; None draws differently each time.
        stop_token: a text ends before it; the others are continued without that one.

    Returns:
        B lists of `count` tokens, or fewer before a `stop_token`.

    Raises:
        ValueError: an argument is outside its range, or there are not as many seeds as prompts.
    """
    window = check_window(model, block_size)
    for prompt in prompts:
        check_prompt("generate_batch", prompt, count, model.config.vocab_size)
    if seeds is not None and len(seeds) != len(prompts):
        raise ValueError(f"generate_batch: given {len(seeds)} seeds for {len(prompts)} prompts, expected as many")
    drawn_by = [None] * len(prompts) if seeds is None else list(seeds)
    choosers = [sampler("generate_batch", temperature, top_k, top_p, seed) for seed in drawn_by]
    written: list[list[int]] = [[] for _ in prompts]
    if len(prompts) == 0:
        return written
    with no_record(), torch.inference_mode(), evaluating(list(model.modules())):
        texts = _Texts(model, [prompt[-window:].tolist() for prompt in prompts], window, use_cache)
        for _ in range(count):
            if not texts.numbers:
                break
            logits = texts.next_logits()  # (B, V)
            drawn = [choosers[number](logits[row]) for row, number in enumerate(texts.numbers)]
            going_on = [row for row, token in enumerate(drawn) if token != stop_token]
            for row in going_on:
                written[texts.numbers[row]].append(drawn[row])
            texts.append(drawn, going_on)
    return written


class _Texts:
    """The texts that are being written, and the cache of their keys and values.

    Attributes:
        numbers: of the prompt that each row continues.
    """

    def __init__(self, model: MiniGPT, seen: list[list[int]], window: int, use_cache: bool) -> None:
        self.model, self.window = model, window
        self.seen = seen  # what the model looks back on, by row
        self.numbers = list(range(len(seen)))
        self.cache: list[KeyValueCache] | None = model.new_cache(len(seen)) if use_cache else None
        self.mask: Tensor | None = None  # of the tokens in the cache (B, L); None: nothing is in it

    def next_logits(self) -> Tensor:
        """(B, V): of the token after the last of each text."""
        device = self.model.tokens.weight.device
        if self.mask is None or self.mask.shape[1] == self.window:
            self._forget()
            length = max(map(len, self.seen))
            rows = [[0] * (length - len(row)) + row for row in self.seen]
            real = [[0] * (length - len(row)) + [1] * len(row) for row in self.seen]
            tokens, mask = torch.tensor(rows, device=device), torch.tensor(real, device=device)  # (B, T)
            positions = positions_in(mask)
        else:
            tokens = torch.tensor([[row[-1]] for row in self.seen], device=device)  # (B, 1)
            mask = torch.cat([self.mask, torch.ones_like(tokens)], 1)
            positions = torch.tensor([[len(row) - 1] for row in self.seen], device=device)
        self.mask = None if self.cache is None else mask
        return self.model.next_logits(tokens, self.cache, attention_mask=mask, position_ids=positions)

    def append(self, tokens: list[int], going_on: list[int]) -> None:
        """A token for each row; only the rows `going_on` are continued."""
        self.seen = [[*self.seen[row], tokens[row]] for row in going_on]
        if len(going_on) == len(self.numbers):
            return
        self.numbers = [self.numbers[row] for row in going_on]
        if self.cache is not None and self.mask is not None:
            rows = torch.tensor(going_on, dtype=torch.int64, device=self.mask.device)
            self.mask = self.mask.index_select(0, rows)
            for layer in self.cache:
                layer.select(rows)

    def _forget(self) -> None:
        """The oldest quarter of each text that has outgrown the window, as `generate` does; the cache is empty then."""
        kept = self.window - self.window // 4
        self.seen = [row[-kept:] if len(row) > self.window else row for row in self.seen]
        for layer in self.cache or []:
            layer.reset()
