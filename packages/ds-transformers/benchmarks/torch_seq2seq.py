"""The translation model of torch.nn's parts, for benchmarks: same arithmetic and state_dict as Seq2SeqTransformer."""

import math

import torch
from ds_transformers import Seq2SeqConfig, sinusoidal_encoding
from torch import Tensor


class TorchSeq2Seq(torch.nn.Module):
    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.config = config
        self.source_tokens = torch.nn.Embedding(config.source_vocab, config.embed_dim)
        self.target_tokens = self.source_tokens
        self.dropout = torch.nn.Dropout(config.dropout)
        self.transformer = torch.nn.Transformer(
            config.embed_dim,
            config.num_heads,
            config.num_encoder_layers,
            config.num_decoder_layers,
            config.dim_feedforward,
            config.dropout,
            config.activation,
            batch_first=True,
            norm_first=config.norm_first,
        )
        self.transformer.encoder.enable_nested_tensor = False
        self.register_buffer("table", sinusoidal_encoding(4096, config.embed_dim), persistent=False)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        padding = source == self.config.pad
        mask = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool, device=target.device).triu_(1)
        y = self.transformer(
            self.embed(source),
            self.embed(target),
            tgt_mask=mask,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
            tgt_is_causal=True,
        )
        return torch.nn.functional.linear(y, self.target_tokens.weight)

    def embed(self, tokens: Tensor) -> Tensor:
        x = self.source_tokens(tokens) * math.sqrt(self.config.embed_dim)
        return self.dropout(x + self.table[: tokens.shape[1]])
