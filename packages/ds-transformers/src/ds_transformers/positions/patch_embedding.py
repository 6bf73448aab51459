"""Patches of pictures as vectors, which a Transformer takes for tokens. Theory: docs/patch_embedding.md."""

import math

import torch
from ds_core import Module, ShapeError, accumulate, parameter
from ds_core.initializers import kaiming_uniform_, uniform_
from einops import rearrange
from torch import Tensor

# B = batch, C = in_channels, Y and X = rows and columns of patches, N = Y X, P and Q = height and width of a patch,
# K = C P Q numbers of a patch, E = embed_dim


def patch_embedding(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """x (B, C, Y P, X Q), weight (E, C, P, Q), bias (E,) -> y (B, N, E) and the patches (B N, K)."""
    batch, _, p, q = len(x), *weight.shape[1:]
    # patches_nk = x_(c, y P + p, x Q + q) with n = (y, x) and k = (c, p, q)                                (1)
    patches = rearrange(x, "b c (y p) (x q) -> (b y x) (c p q)", p=p, q=q)
    flat = weight.flatten(1).t()  # (K, E)
    y = torch.mm(patches, flat) if bias is None else torch.addmm(bias, patches, flat)  # y_ne = b_e + sum_k ... (2)
    return y.view(batch, x.shape[2] // p * (x.shape[3] // q), weight.shape[0]), patches


def patch_embedding_backward(
    dy: Tensor,
    patches: Tensor | None,
    weight: Tensor,
    size: tuple[int, int],
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """dy (B, N, E), weight (E, C, P, Q) -> dx (B, C, Y P, X Q), dweight (E, C, P, Q), dbias (E,).

    Args:
        patches: (B N, K) of `patch_embedding`; None where dweight is not needed.
        size: height and width of the pictures, Y P and X Q.
    """
    embed_dim, c, p, q = weight.shape
    drows = dy.reshape(dy.shape[0] * dy.shape[1], embed_dim)  # (B N, E)
    dx = dweight = None
    if needs[0]:
        dpatches = torch.mm(drows, weight.flatten(1))  # dpatches_nk = sum_e dy_ne W_ek                      (3)
        axes = {"b": len(dy), "y": size[0] // p, "x": size[1] // q, "c": c, "p": p, "q": q}
        dx = rearrange(dpatches, "(b y x) (c p q) -> b c (y p) (x q)", **axes)  # each back in its place     (4)
    if needs[1] and patches is not None:
        dweight = torch.mm(drows.t(), patches).view(weight.shape)  # dW_ek = sum_n dy_ne patches_nk          (5)
    dbias = drows.sum(0) if needs[2] else None  # db_e = sum_n dy_ne                                         (6)
    return dx, dweight, dbias


class PatchEmbedding(Module):
    """Pictures cut into patches, and each patch, as one vector, through one linear layer.

    Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020, equation 1 (without the class token and the positions).
    `weight` and `bias` are those of a torch.nn.Conv2d with kernel and stride of the size of a patch, which computes
    the same: same names, shapes and initial values.

    Args:
        image_size: height and width of the pictures, or one number for both; None for any that the patches fit.
        patch_size: P and Q, or one number for both.
        in_channels: C, 3 for colours.
        embed_dim: E, the width of a token.
        bias: whether b is there.
        generator: where the initial weights are drawn from.

    Raises:
        ValueError: a size that is not positive, or an `image_size` that is no multiple of `patch_size`.
        ShapeError: from `forward`, where x is not (B, C, height, width) of that size, or patches do not fit.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] | None,
        patch_size: int | tuple[int, int],
        in_channels: int,
        embed_dim: int,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.image_size = None if image_size is None else _pair(image_size)
        self.patch_size = _pair(patch_size)
        self.in_channels = in_channels
        self.embed_dim = embed_dim
        if min(*self.patch_size, *(self.image_size or ()), in_channels, embed_dim) <= 0:
            raise ValueError(
                f"PatchEmbedding: given image_size={image_size}, patch_size={patch_size}, in_channels={in_channels}, "
                f"embed_dim={embed_dim}, expected all to be positive"
            )
        if self.image_size is not None and not self._fits(self.image_size):
            raise ValueError(
                f"PatchEmbedding: given image_size={image_size} and patch_size={patch_size}, "
                "expected height and width of the picture to be multiples of the patch's"
            )
        weight = torch.empty(embed_dim, in_channels, *self.patch_size, device=device, dtype=dtype)
        # the slope for which the bound is 1/sqrt(K), as in Linear
        self.weight = parameter(kaiming_uniform_(weight, a=math.sqrt(5), generator=generator))
        self.bias: Tensor | None = None
        if bias:
            bound = 1 / math.sqrt(in_channels * math.prod(self.patch_size))
            vector = torch.empty(embed_dim, device=device, dtype=dtype)
            self.bias = parameter(uniform_(vector, -bound, bound, generator=generator))

    @property
    def grid(self) -> tuple[int, int] | None:
        """Y and X, how many patches are one above the other and side by side; None where `image_size` is."""
        if self.image_size is None:
            return None
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, Y P, X Q) -> y (B, Y X, E), the patches row by row."""
        self._check(x)
        y, patches = patch_embedding(x, self.weight, self.bias)
        self.save(patches if self.weight.requires_grad else None, (x.shape[2], x.shape[3]))
        return y

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dy (B, N, E) -> dx of the shape of x, or None without `input_gradient`; adds to those of the parameters."""
        patches, size = self.saved()
        if dy is None:
            return None
        needs = (input_gradient, self.weight.requires_grad, self.bias is not None and self.bias.requires_grad)
        dx, dweight, dbias = patch_embedding_backward(dy, patches, self.weight, size, needs)
        accumulate(self.weight, dweight)
        accumulate(self.bias, dbias)
        return dx

    def _fits(self, size: tuple[int, int]) -> bool:
        return size[0] % self.patch_size[0] == 0 and size[1] % self.patch_size[1] == 0

    def _check(self, x: Tensor) -> None:
        channels = self.in_channels
        if self.image_size is not None:
            if x.dim() != 4 or x.shape[1:] != (channels, *self.image_size):
                expected = f"(B, {channels}, {self.image_size[0]}, {self.image_size[1]})"
                raise ShapeError(f"{self!r}: given input of shape {tuple(x.shape)}, expected {expected}")
        elif x.dim() != 4 or x.shape[1] != channels or not self._fits((x.shape[2], x.shape[3])):
            raise ShapeError(
                f"{self!r}: given input of shape {tuple(x.shape)}, expected (B, {channels}, height, width) "
                f"with height a multiple of {self.patch_size[0]} and width of {self.patch_size[1]}"
            )

    def extra_repr(self) -> str:
        return (
            f"image_size={self.image_size}, patch_size={self.patch_size}, in_channels={self.in_channels}, "
            f"embed_dim={self.embed_dim}, bias={self.bias is not None}"
        )


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
