"""The embedding, a table of vectors looked up by number. Theory: docs/embedding.md."""

import math

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.parameter import accumulate, parameter
from ds_core.engine.recompute import replaying
from ds_core.engine.trace import no_record
from ds_core.errors import ShapeError
from ds_core.initializers.distributions import normal_
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import wide_dtype

# V = num_embeddings, D = embedding_dim, N = all indices together


def plain_embedding(indices: Tensor, weight: Tensor) -> Tensor:
    """indices (...) of integers, weight (V, D) -> y (..., D)."""
    rows = weight[indices.flatten()]  # y_nd = W_{i_n d}
    return rows.view(*indices.shape, weight.shape[1])


def plain_embedding_backward(dy: Tensor, indices: Tensor, weight: Tensor, scale: Tensor | None = None) -> Tensor:
    """dy (..., D), indices (...), scale (N, 1) of `row_scale` -> dweight (V, D)."""
    drows = dy.reshape(indices.numel(), weight.shape[1])  # (N, D)
    dweight = torch.zeros_like(weight)
    for n, v in enumerate(indices.flatten().tolist()):
        # dW_v = sum_{n: i_n = v} s_n dy_n                                                                   (1)
        dweight[v] += drows[n] if scale is None else scale[n] * drows[n]
    return dweight


def plain_row_scale(indices: Tensor, weight: Tensor, padding_idx: int | None, by_frequency: bool) -> Tensor | None:
    """What each looked-up row's gradient is multiplied by, (N, 1); None for 1."""
    if padding_idx is None and not by_frequency:
        return None
    flat = indices.flatten()
    scale = torch.ones(flat.shape, dtype=weight.dtype, device=weight.device)
    if by_frequency:
        scale = scale / (flat.unsqueeze(1) == flat).sum(1)  # s_n = 1 / |{m: i_m = i_n}|                     (2)
    if padding_idx is not None:
        scale = torch.where(flat == padding_idx, 0.0, scale)
    return scale.unsqueeze(1)


# index_select and index_add_ read and add all rows at once, in float32 for half precision.
@fast_form(plain_embedding)
def embedding(indices: Tensor, weight: Tensor) -> Tensor:
    """indices (...) of integers, weight (V, D) -> y (..., D)."""
    rows = weight.index_select(0, indices.reshape(indices.numel()))  # (N, D)
    return rows.view(*indices.shape, weight.shape[1])


@fast_form(plain_embedding_backward)
def embedding_backward(dy: Tensor, indices: Tensor, weight: Tensor, scale: Tensor | None = None) -> Tensor:
    """dy (..., D), indices (...), scale (N, 1) of `row_scale` -> dweight (V, D)."""
    drows = dy.reshape(indices.numel(), weight.shape[1])  # (N, D)
    if scale is not None:
        drows = drows * scale
    dweight = torch.zeros(weight.shape, dtype=wide_dtype(weight), device=weight.device)
    # dW_v = sum_{n: i_n = v} s_n dy_n                                                                       (1)
    dweight.index_add_(0, indices.reshape(indices.numel()), drows.to(dweight.dtype))
    return dweight.to(weight.dtype)


@fast_form(plain_row_scale)
def row_scale(indices: Tensor, weight: Tensor, padding_idx: int | None, by_frequency: bool) -> Tensor | None:
    """What each looked-up row's gradient is multiplied by, (N, 1); None for 1.

    0 for the padding row; with `by_frequency` 1 over how often the index occurs in this batch.
    """
    if padding_idx is None and not by_frequency:
        return None
    flat = indices.reshape(indices.numel())
    scale = torch.ones(flat.shape, dtype=wide_dtype(weight), device=weight.device)
    if by_frequency:
        counts = torch.zeros(weight.shape[0], dtype=scale.dtype, device=weight.device).index_add_(0, flat, scale)
        scale = counts.index_select(0, flat).reciprocal_()  # s_n = 1 / |{m: i_m = i_n}|                         (2)
    if padding_idx is not None:
        scale = scale.masked_fill(flat == padding_idx, 0)
    return scale.to(weight.dtype).unsqueeze(1)


def renormalise(indices: Tensor, weight: Tensor, max_norm: float, norm_type: float) -> None:
    """Shrink, in place, each row of `weight` that `indices` names and whose p-norm exceeds `max_norm` to that norm."""
    flat = indices.reshape(indices.numel()).to(torch.int64)  # index_copy_ takes no int32
    rows = weight.index_select(0, flat)  # (N, D)
    norms = _norms(rows, norm_type)  # (N, 1)
    shrunk = rows * (max_norm / (norms + 1e-7))
    weight.index_copy_(0, flat, torch.where(norms > max_norm, shrunk, rows))


def _norms(rows: Tensor, p: float) -> Tensor:
    if math.isinf(p):
        return rows.abs().amax(1, keepdim=True) if p > 0 else rows.abs().amin(1, keepdim=True)
    if p == 0:
        return (rows != 0).to(rows.dtype).sum(1, keepdim=True)
    return rows.abs().pow_(p).sum(1, keepdim=True).pow_(1 / p)


class Embedding(Module):
    """y = W[i]: a table of `num_embeddings` vectors, looked up by number.

    Twin of torch.nn.Embedding, `sparse` left out: same arguments, same parameter
    (`weight` (V, D)), same initialisation, standard normal.

    Args:
        num_embeddings: V, how many vectors.
        embedding_dim: D, how long each is.
        padding_idx: this vector starts as zeros and gets no gradient; negative counts from the end.
        max_norm: vectors that are looked up and longer than this are first shrunk to it, in place.
        norm_type: p of the p-norm that `max_norm` bounds.
        scale_grad_by_freq: divide each vector's gradient by how often the batch looks it up.
        generator: where the initial weights are drawn from.

    Raises:
        ValueError: where `padding_idx` is not within the table.
        ShapeError: from `forward`, where the indices are not int64 or int32.
        IndexError: from `forward` on CPU, where an index is outside 0 ... V - 1.
    """

    backward_reads_parameters = False  # so `max_norm` may shrink vectors between a forward and its backward

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"Embedding: padding_idx={padding_idx} is not within num_embeddings={num_embeddings}")
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        weight = normal_(torch.empty(num_embeddings, embedding_dim, device=device, dtype=dtype), generator=generator)
        if self.padding_idx is not None:
            weight[self.padding_idx].zero_()
        self.weight = parameter(weight)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
    ) -> "Embedding":
        """A layer whose table is `embeddings` (V, D), sharing its memory; not trained where `freeze`.

        Raises:
            ValueError: where `embeddings` is no matrix.
        """
        if embeddings.dim() != 2:
            raise ValueError(f"Embedding.from_pretrained: given shape {tuple(embeddings.shape)}, expected (V, D)")
        layer = cls(0, embeddings.shape[1], None, max_norm, norm_type, scale_grad_by_freq)
        if padding_idx is not None and not -embeddings.shape[0] <= padding_idx < embeddings.shape[0]:
            raise ValueError(f"Embedding: padding_idx={padding_idx} is not within {embeddings.shape[0]} embeddings")
        layer.num_embeddings = embeddings.shape[0]
        layer.padding_idx = None if padding_idx is None else padding_idx % embeddings.shape[0]
        layer.weight = parameter(embeddings).requires_grad_(not freeze)
        return layer

    def forward(self, input: Tensor) -> Tensor:
        """input (...) of integers -> y (..., D)."""
        if input.dtype not in (torch.int64, torch.int32):
            raise ShapeError(f"{self!r}: given indices of {input.dtype}, expected int64 or int32")
        self._check_range(input)
        if self.max_norm is not None and not replaying():
            with no_record():
                renormalise(input, self.weight, self.max_norm, self.norm_type)
        y = embedding(input, self.weight)
        if torch.is_grad_enabled():
            scale = row_scale(input, self.weight, self.padding_idx, self.scale_grad_by_freq)
            if scale is not None:
                y = _with_scaled_gradient(y, scale.view(*input.shape, 1))
        self.save(input)
        return y

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> None:
        """dy (..., D) -> None, for numbers of rows have no gradient; adds to that of `weight` (V, D)."""
        (indices,) = self.saved()
        if dy is None or not self.weight.requires_grad:
            return
        scale = row_scale(indices, self.weight, self.padding_idx, self.scale_grad_by_freq)
        accumulate(self.weight, embedding_backward(dy, indices, self.weight, scale))

    def _check_range(self, indices: Tensor) -> None:
        """Not on a GPU nor while compiling: a look at the indices would wait for them, and the lookup itself fails."""
        if torch.compiler.is_compiling() or indices.device.type != "cpu" or indices.numel() == 0:
            return
        low, high = int(indices.min()), int(indices.max())
        if low < 0 or high >= self.num_embeddings:
            wrong = low if low < 0 else high
            raise IndexError(f"{self!r}: given the index {wrong}, expected 0 ... {self.num_embeddings - 1}")

    def extra_repr(self) -> str:
        defaults = {"padding_idx": None, "max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False}
        extra = [f"{name}={getattr(self, name)}" for name in defaults if getattr(self, name) != defaults[name]]
        return ", ".join([str(self.num_embeddings), str(self.embedding_dim), *extra])


def _with_scaled_gradient(y: Tensor, scale: Tensor) -> Tensor:
    """`y`, which autograd differentiates as `scale * y`: y - y is zero, its derivative is not."""
    value = y.detach()
    return value + (y - value) * scale
