"""PyTorch's attention with the inputs that our layers take, and with heads that share keys."""

import torch
from torch.nn.functional import linear, scaled_dot_product_attention


def without_key_bias(name, tensor):
    """A parameter without the bias of keys: it changes no output, so its gradient is rounding, and Adam scales that up.

    The rounding differs between processors, so what Adam makes of it is not compared.
    """
    if not name.endswith("in_proj_bias"):
        return tensor
    query, _, value = tensor.chunk(3)
    return torch.cat([query, value])


def causal_mask(queries, keys=None):
    """True for what a token may not see, as torch.nn.MultiheadAttention takes it."""
    return torch.ones(queries, queries if keys is None else keys, dtype=torch.bool).triu(1)


class TorchSelfAttention(torch.nn.MultiheadAttention):
    """One input, and no weights."""

    def __init__(self, embed_dim, num_heads, causal=False, bias=True, batch_first=True, dropout=0.0):
        super().__init__(embed_dim, num_heads, dropout=dropout, bias=bias, batch_first=batch_first)
        self.causal = causal

    def forward(self, x, key_padding_mask=None, attn_mask=None, is_causal=False):
        length = x.shape[1 if self.batch_first and x.dim() == 3 else 0]
        mask = causal_mask(length) if self.causal and attn_mask is None else attn_mask
        return super().forward(x, x, x, key_padding_mask, False, mask, is_causal=is_causal)[0]


class TorchCrossAttention(torch.nn.MultiheadAttention):
    """One memory as key and value, and no weights."""

    def __init__(self, embed_dim, num_heads, bias=True, batch_first=True, dropout=0.0):
        super().__init__(embed_dim, num_heads, dropout=dropout, bias=bias, batch_first=batch_first)

    def forward(self, x, memory, key_padding_mask=None, attn_mask=None, is_causal=False):
        return super().forward(x, memory, memory, key_padding_mask, False, attn_mask, is_causal=is_causal)[0]


class GroupedAttention(torch.nn.Module):
    """Heads that share keys and values, by PyTorch's own grouped kernel; batch first."""

    def __init__(self, embed_dim, num_heads, num_kv_heads, causal=False, bias=True):
        super().__init__()
        self.heads, self.kv_heads, self.causal = num_heads, num_kv_heads, causal
        self.sizes = [embed_dim, *[num_kv_heads * embed_dim // num_heads] * 2]
        self.in_proj_weight = torch.nn.Parameter(torch.randn(sum(self.sizes), embed_dim))
        self.register_parameter("in_proj_bias", torch.nn.Parameter(torch.randn(sum(self.sizes))) if bias else None)
        self.out_proj = torch.nn.Linear(embed_dim, embed_dim, bias)

    def forward(self, x, memory=None, key_padding_mask=None):
        packed = [linear(t, self.in_proj_weight, self.in_proj_bias) for t in (x, x if memory is None else memory)]
        parts = [packed[0].split(self.sizes, 2)[0], *packed[1].split(self.sizes, 2)[1:]]
        counts = (self.heads, self.kv_heads, self.kv_heads)
        q, k, v = (part.unflatten(2, (n, -1)).transpose(1, 2) for part, n in zip(parts, counts, strict=True))
        seen = None if key_padding_mask is None else ~key_padding_mask[:, None, None]
        if self.causal and seen is not None:
            seen = seen & ~causal_mask(x.shape[1])
        heads = scaled_dot_product_attention(
            q, k, v, attn_mask=seen, is_causal=self.causal and seen is None, enable_gqa=True
        )
        return self.out_proj(heads.transpose(1, 2).flatten(2))
