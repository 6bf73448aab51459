"""GPT-2 with torch.nn, written as one writes it for speed: what the benchmarks here hold MiniGPT against.

Nothing to run: the benchmarks import it.
"""

import math

import torch
import torch.nn.functional as F
from ds_zoo import MiniGPT, MiniGPTConfig
from torch import Tensor, nn


class Attention(nn.Module):
    def __init__(self, config: MiniGPTConfig) -> None:
        super().__init__()
        self.num_heads, self.dropout = config.num_heads, config.dropout
        self.c_attn = nn.Linear(config.embed_dim, 3 * config.embed_dim, bias=config.bias)
        self.c_proj = nn.Linear(config.embed_dim, config.embed_dim, bias=config.bias)

    def forward(self, x: Tensor, cache: "Cache | None" = None) -> Tensor:
        batch, time, embed_dim = x.shape
        query, key, value = (
            part.view(batch, time, self.num_heads, embed_dim // self.num_heads).transpose(1, 2)
            for part in self.c_attn(x).split(embed_dim, dim=2)
        )
        if cache is not None:
            key, value = cache.append(key, value)
        dropout = self.dropout if self.training else 0.0
        # a cached single token sees everything; a first block is causal
        y = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=time > 1)
        return self.c_proj(y.transpose(1, 2).reshape(batch, time, embed_dim))


class Block(nn.Module):
    def __init__(self, config: MiniGPTConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.embed_dim, config.epsilon, bias=config.bias)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.embed_dim, config.epsilon, bias=config.bias)
        self.c_fc = nn.Linear(config.embed_dim, 4 * config.embed_dim, bias=config.bias)
        self.gelu = nn.GELU("tanh")
        self.c_proj = nn.Linear(4 * config.embed_dim, config.embed_dim, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cache: "Cache | None" = None) -> Tensor:
        x = x + self.dropout(self.attn(self.ln_1(x), cache))
        return x + self.dropout(self.c_proj(self.gelu(self.c_fc(self.ln_2(x)))))


class TorchGPT(nn.Module):
    def __init__(self, config: MiniGPTConfig) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.embed_dim)
        self.wpe = nn.Embedding(config.block_size, config.embed_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.h = nn.ModuleList([Block(config) for _ in range(config.num_layers)])
        self.ln_f = nn.LayerNorm(config.embed_dim, config.epsilon, bias=config.bias)
        for name, tensor in self.named_parameters():
            if tensor.dim() == 2:
                shrink = math.sqrt(2 * config.num_layers) if name.endswith("c_proj.weight") else 1.0
                nn.init.normal_(tensor, 0.0, 0.02 / shrink)
            elif name.endswith("bias"):
                nn.init.zeros_(tensor)

    def forward(self, tokens: Tensor, cache: "list[Cache] | None" = None, last_only: bool = False) -> Tensor:
        offset = 0 if cache is None else cache[0].length
        positions = torch.arange(offset, offset + tokens.shape[1], device=tokens.device)
        x = self.dropout(self.wte(tokens) + self.wpe(positions))
        for index, block in enumerate(self.h):
            x = block(x, None if cache is None else cache[index])
        x = self.ln_f(x[:, -1:] if last_only else x)
        return F.linear(x, self.wte.weight)

    @classmethod
    def like(cls, model: MiniGPT) -> "TorchGPT":
        """One with the weights of `model`."""
        twin = cls(model.config)
        renamed = {
            "tokens": "wte",
            "positions": "wpe",
            "blocks": "h",
            "norm1": "ln_1",
            "norm2": "ln_2",
            "norm": "ln_f",
            "attention": "attn",
            "out_proj": "c_proj",
            "linear1": "c_fc",
            "linear2": "c_proj",
            "in_proj_weight": "c_attn.weight",
            "in_proj_bias": "c_attn.bias",
        }
        state = {
            ".".join(renamed.get(part, part) for part in name.split(".") if part != "feed_forward"): tensor
            for name, tensor in model.state_dict().items()
        }
        twin.load_state_dict(state)
        return twin.to(model.tokens.weight.device)


class Cache:
    """Keys and values written in place into buffers of full length."""

    def __init__(self, config: MiniGPTConfig, batch: int = 1) -> None:
        sizes = (batch, config.num_heads, config.block_size, config.embed_dim // config.num_heads)
        self.key, self.value, self.length = torch.empty(sizes), torch.empty(sizes), 0

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        end = self.length + key.shape[2]
        self.key[:, :, self.length : end] = key
        self.value[:, :, self.length : end] = value
        self.length = end
        return self.key[:, :, :end], self.value[:, :, :end]


def adamw(model: nn.Module, weight_decay: float, **settings: object) -> torch.optim.AdamW:
    """Decay on matrices only, as nanoGPT has it."""
    parameters = list(model.parameters())
    groups = [
        {"params": [tensor for tensor in parameters if tensor.dim() >= 2], "weight_decay": weight_decay},
        {"params": [tensor for tensor in parameters if tensor.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, **settings)
