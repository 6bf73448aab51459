"""MiniGPT: GPT-2's architecture, both passes written out. Theory: docs/minigpt/model.md."""

import math
from pathlib import Path

import torch
from ds_core import (
    GELU,
    Dropout,
    Embedding,
    LayerNorm,
    Module,
    ShapeError,
    accumulate,
    linear,
    linear_backward,
    no_record,
)
from ds_core.engine.composition import backward_through
from ds_core.initializers import normal_
from ds_core.training.pretrained_weights import load_model
from ds_transformers import KeyValueCache, LearnedPositions
from torch import Tensor

from ds_zoo.finetuning.lora import folded_state
from ds_zoo.minigpt.config import MiniGPTConfig
from ds_zoo.minigpt.criterion import CausalLanguageLoss
from ds_zoo.minigpt.masks import padded_keys
from ds_zoo.minigpt.pretrained import key_map, read_gpt2_config, read_gpt2_tensors, save_folder
from ds_zoo.towers import attention_for, pre_norm_blocks

# B = batch, T = time, E = embed_dim, V = vocab_size


class MiniGPT(Module):
    """Tokens to the logits of the token that follows each (Radford et al., 2019).

    Token and position embeddings are added; each block adds what its attention and its feed-forward layer find; the
    normalised result is compared with every token's embedding (the head is tied: Press and Wolf, "Using the Output
    Embedding to Improve Language Models", 2017).

    Args:
        config: the sizes.
        implementation: of the attention: "vectorized", "tiled" or "loops". None takes the faster one: tiled for blocks
            of more than 128 tokens.
        generator: draws the initial weights.

    Raises:
        ShapeError: from `forward`, if tokens are not (B, T), T is more than `config.block_size`, or a mask or positions
            do not fit.
    """

    def __init__(
        self,
        config: MiniGPTConfig,
        *,
        implementation: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.config = config
        embed_dim, bias = config.embed_dim, config.bias
        embedding_dropout, attention_dropout, dropout = config.dropout_rates
        self.tokens = Embedding(config.vocab_size, embed_dim, device=device, dtype=dtype, generator=generator)
        self.positions = LearnedPositions(config.block_size, embed_dim, device, dtype, generator=generator)
        self.dropout = Dropout(embedding_dropout)
        self.blocks = pre_norm_blocks(
            config.num_layers,
            embed_dim,
            config.num_heads,
            4 * embed_dim if config.hidden_dim is None else config.hidden_dim,
            lambda: GELU(approximate="tanh"),
            implementation=attention_for(config.block_size, implementation),
            causal=True,
            bias=bias,
            dropout=dropout,
            attention_dropout=attention_dropout,
            epsilon=config.epsilon,
            device=device,
            dtype=dtype,
            generator=generator,
        )
        self.norm = LayerNorm(embed_dim, config.epsilon, bias=bias, device=device, dtype=dtype)
        self._initialise(generator)

    def _initialise(self, generator: torch.Generator | None) -> None:
        """GPT-2's: normal with deviation 0.02, less for the layers that add to the residual stream; biases zero.

        The stream sums 2 * num_layers branches, so its variance would grow with depth (Radford et al., section 2.3).
        """
        ends_of_branches = ("attention.out_proj.weight", "feed_forward.linear2.weight")
        with torch.no_grad():
            for name, tensor in self.named_parameters():
                if tensor.dim() == 2:
                    shrink = math.sqrt(2 * self.config.num_layers) if name.endswith(ends_of_branches) else 1.0
                    normal_(tensor, std=0.02 / shrink, generator=generator)
                elif name.endswith("bias"):
                    tensor.zero_()

    def forward(
        self,
        input_ids: Tensor,
        cache: list[KeyValueCache] | None = None,
        *,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """input_ids (B, T) int64 -> logits (B, T, V).

        Args:
            cache: from `new_cache`: the L tokens before these, which these are appended to; only under `no_record()`.
            attention_mask: (B, L + T), 0 where a token is padding, which no other token sees.
            position_ids: (B, T) or (1, T), where each token stands; by default L ... L + T - 1, padding or not.
        """
        x = self._hidden(input_ids, cache, attention_mask, position_ids)
        self.save(x, reads=[self.tokens.weight])
        return linear(x, self.tokens.weight, None)  # z_btv = sum_e x_bte W_ve                             (2)

    def backward(self, dlogits: Tensor | None, *, input_gradient: bool = True) -> None:
        """dlogits (B, T, V); tokens are whole numbers and get no gradient."""
        gradients = [self._head_backward(dlogits)]
        # Here and by pop(): no variable may hold the largest gradients of the model while the blocks run.
        del dlogits
        # tokens.backward adds its part to the gradient that the head left                                  (5)
        layers = [self.tokens, self.positions, self.dropout, *self.blocks, self.norm]
        backward_through(layers, gradients.pop(), input_gradient=False)

    def _head_backward(self, dlogits: Tensor | None) -> Tensor | None:
        """dlogits (B, T, V) -> dx (B, T, E); adds the head's part to the gradient of the embedding."""
        (x,) = self.saved()
        if dlogits is None:
            return None
        weight = self.tokens.weight
        dx, dweight, _ = linear_backward(dlogits, x, weight, (True, weight.requires_grad, False))  # (3), (4)
        accumulate(weight, dweight)
        return dx

    def next_logits(
        self,
        input_ids: Tensor,
        cache: list[KeyValueCache] | None = None,
        *,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """input_ids (B, T) -> logits of the token after the last, (B, V): `forward` without the other T - 1 rows."""
        with no_record():
            x = self._hidden(input_ids, cache, attention_mask, position_ids)
            return linear(x[:, -1], self.tokens.weight, None)

    def criterion(self) -> CausalLanguageLoss:
        """The loss that transformers computes: `criterion(logits, labels=input_ids)`."""
        return CausalLanguageLoss()

    def new_cache(self, batch_size: int = 1) -> list[KeyValueCache]:
        """Empty caches for the keys and values of `block_size` tokens, one for every layer."""
        weight, config = self.tokens.weight, self.config
        sizes = (batch_size, config.num_heads, config.block_size, config.embed_dim // config.num_heads)
        return [KeyValueCache(*sizes, device=weight.device, dtype=weight.dtype) for _ in self.blocks]

    def _hidden(
        self,
        tokens: Tensor,
        cache: list[KeyValueCache] | None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        offset = 0 if cache is None else cache[0].length
        if tokens.dim() != 2 or offset + tokens.shape[1] > self.config.block_size:
            raise ShapeError(
                f"MiniGPT: given tokens of shape {tuple(tokens.shape)} after {offset} others, expected (B, T) of "
                f"at most {self.config.block_size} tokens in all, the block size"
            )
        batch, time = tokens.shape
        masks: dict[str, Tensor] = {}
        if attention_mask is not None:
            masks["key_padding_mask"] = padded_keys(attention_mask, batch, offset + time)
        x = self.positions.forward(self.tokens.forward(tokens), offset, position_ids)
        x = self.dropout.forward(x)  # (1)
        for index, block in enumerate(self.blocks):
            x = block.forward(x, **masks) if cache is None else block.forward(x, cache=cache[index], **masks)
        y: Tensor = self.norm.forward(x)  # (B, T, E)
        return y

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        dropout: float | None = None,
        implementation: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> "MiniGPT":
        """Read a GPT-2 that transformers or `save_pretrained` wrote; details in docs/minigpt/pretrained.md.

        Args:
            dropout: instead of the rates in config.json.
            dtype: what the weights are cast to; by default they keep the file's dtype.

        Raises:
            CheckpointError: a file is missing or damaged, or holds a model that MiniGPT cannot compute.
        """
        config = read_gpt2_config(folder, dropout)
        tensors = read_gpt2_tensors(folder, config)
        return load_model(
            folder,
            lambda: cls(config, implementation=implementation, device="meta"),
            config.num_layers,
            tensors,
            lambda names: key_map(config),
            device=device,
            dtype=dtype,
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors as transformers reads them.

        Raises:
            WriteError: the folder cannot be written.
        """
        save_folder(folder, self.config, folded_state(self))

    def extra_repr(self) -> str:
        return str(self.config)
