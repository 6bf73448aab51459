"""What a token is before the first block: word, place and text, added. Theory: docs/minibert/embeddings.md."""

import torch
from ds_core import Dropout, Embedding, LayerNorm, Module, ShapeError
from ds_core.engine.composition import backward_through, trainable
from torch import Tensor

from ds_zoo.minibert.config import MiniBERTConfig

# B = batch, T = time, E = embed_dim


def sum_to(dx: Tensor, rows: int, columns: int) -> Tensor:
    """dx (B, T, E) -> the gradient of what was broadcast from (rows, columns, E): rows B or 1, columns T or 1."""
    dims = [dim for dim, size in enumerate((rows, columns)) if size == 1 and dx.shape[dim] != 1]
    return dx.sum(dims, keepdim=True) if dims else dx


class BertEmbeddings(Module):
    """x = dropout(norm(tokens[i] + token_types[s] + positions[t])) (Devlin et al., 2019, figure 2).

    Args:
        config: the sizes.
        generator: draws the initial weights.

    Raises:
        ShapeError: from `forward`, if the ids do not fit each other or the config.
    """

    def __init__(
        self,
        config: MiniBERTConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        def table(rows: int, padding: int | None = None) -> Embedding:
            return Embedding(rows, config.embed_dim, padding, device=device, dtype=dtype, generator=generator)

        self.max_length = config.max_length
        self.tokens = table(config.vocab_size, config.pad_token_id)
        self.positions = table(config.max_length)
        self.token_types = table(config.type_vocab_size)
        self.norm = LayerNorm(config.embed_dim, config.epsilon, device=device, dtype=dtype)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Tensor:
        """input_ids (B, T) -> x (B, T, E).

        Args:
            token_type_ids: (B, T) or (1, T), which text a token belongs to; the first, 0, by default.
            position_ids: (B, T) or (1, T), each token's place; 0, 1, 2, ... by default.
        """
        self._check(input_ids, token_type_ids, position_ids)
        time = input_ids.shape[1]
        if position_ids is None:
            position_ids = torch.arange(time, device=input_ids.device)[None]  # (1, T)
        if token_type_ids is None:
            token_type_ids = torch.zeros(1, 1, dtype=torch.int64, device=input_ids.device)
        # u_bte = W_(i_bt),e + S_(s_bt),e + P_(p_bt),e                                                          (1)
        u = self.tokens.forward(input_ids) + self.token_types.forward(token_type_ids)
        u = u + self.positions.forward(position_ids)
        self.save(token_type_ids.shape, position_ids.shape)
        return self.dropout.forward(self.norm.forward(u))

    def backward(self, dx: Tensor | None, *, input_gradient: bool = True) -> None:
        """dx (B, T, E); ids are whole numbers and get no gradient."""
        tables = trainable(self.tokens, self.positions, self.token_types)
        du = backward_through([self.norm, self.dropout], dx, input_gradient=tables)
        types, positions = self.saved()
        # Each table gets du; one row that serves several tokens gets the sum of theirs                         (2)
        self.positions.backward(None if du is None else sum_to(du, *positions))
        self.token_types.backward(None if du is None else sum_to(du, *types))
        self.tokens.backward(du)

    def _check(self, input_ids: Tensor, token_type_ids: Tensor | None, position_ids: Tensor | None) -> None:
        shape = tuple(input_ids.shape)
        if len(shape) != 2 or shape[1] > self.max_length:
            raise ShapeError(
                f"BertEmbeddings: given input_ids of shape {shape}, expected (B, T) of at most {self.max_length} "
                "tokens, the length that the model has positions for"
            )
        for name, ids in (("token_type_ids", token_type_ids), ("position_ids", position_ids)):
            if ids is not None and tuple(ids.shape) not in (shape, (1, shape[1])):
                raise ShapeError(
                    f"BertEmbeddings: given {name} of shape {tuple(ids.shape)} beside input_ids of {shape}, expected "
                    f"{shape} or {(1, shape[1])}"
                )

    def extra_repr(self) -> str:
        return f"max_length={self.max_length}"
