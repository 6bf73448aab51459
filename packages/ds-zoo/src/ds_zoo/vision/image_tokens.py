"""An image as the tokens of a Transformer: patches, a class token, positions. Theory: docs/vision/image_tokens.md."""

import torch
from ds_cnn import interpolate, interpolate_backward
from ds_core import Module, ShapeError, accumulate, parameter
from ds_core.arguments import whole_number
from ds_core.engine.trace import describe
from ds_core.initializers import normal_
from ds_transformers import PatchEmbedding
from einops import rearrange
from torch import Tensor

# B = batch, C = num_channels, H, W = height and width of the images, P = patch_size, E = embed_dim,
# G = image_size // P rows and columns of patches that the positions were made for, Y = H // P and X = W // P,
# N = Y X tokens of patches, S = 1 token in front of them, or 0


def resize_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """positions (G G, E), one for each cell of a square -> (Y X, E), for the cells of `grid` = (Y, X)."""
    side = round(len(positions) ** 0.5)
    square = rearrange(positions, "(y x) e -> 1 e y x", y=side)
    # p'_ne = sum_m A_nm p_me, A's numbers being the cubic kernel's                                        (3)
    resized = interpolate(square, size=grid, mode="bicubic", align_corners=False)
    return rearrange(resized, "1 e y x -> (y x) e")


def resize_positions_backward(dresized: Tensor, count: int, grid: tuple[int, int]) -> Tensor:
    """dresized (Y X, E) -> dpositions (G G, E), G G being `count`."""
    side = round(count**0.5)
    image = rearrange(dresized, "(y x) e -> 1 e y x", y=grid[0])
    # dp_me = sum_n A_nm dp'_ne                                                                            (6)
    dsquare = interpolate_backward(image, (side, side), size=grid, mode="bicubic", align_corners=False)
    return rearrange(dsquare, "1 e y x -> (y x) e")


class ImageTokens(Module):
    """Images to tokens: a class token and the embedded patches, a learned position added to each.

    Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020, equation 1. ViT and CLIP begin with it.

    Args:
        image_size: height and width of the images that the positions are made for.
        patch_size: P, height and width of a patch. Pixels at the right and the bottom that are no whole patch are not
            looked at, as by a convolution of stride P.
        num_channels: C.
        embed_dim: E.
        patch_bias: whether the patches' linear layer has a bias: ViT's has, CLIP's has not.
        class_token: whether a learned token stands in front of the patches.
        generator: where the initial weights are drawn from: token and positions normal, standard deviation 0.02.

    Raises:
        TypeError, ValueError: a size that is no positive whole number, or patches larger than the image.
        ShapeError: from `forward`, for images of another shape or dtype.
    """

    backward_reads_parameters = False

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        num_channels: int,
        embed_dim: int,
        *,
        patch_bias: bool = True,
        class_token: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.image_size = whole_number("ImageTokens", "image_size", image_size)
        self.patch_size = whole_number("ImageTokens", "patch_size", patch_size)
        self.num_channels = whole_number("ImageTokens", "num_channels", num_channels)
        self.embed_dim = whole_number("ImageTokens", "embed_dim", embed_dim)
        self.side = image_size // patch_size  # G
        if self.side == 0:
            raise ValueError(f"ImageTokens: no patch of {patch_size} pixels fits into an image of {image_size}")

        def learned(*shape: int) -> Tensor:
            return parameter(normal_(torch.empty(*shape, device=device, dtype=dtype), 0.0, 0.02, generator=generator))

        self.patches = PatchEmbedding(
            None,
            patch_size,
            num_channels,
            embed_dim,
            bias=patch_bias,
            device=device,
            dtype=dtype,
            generator=generator,
        )
        self.class_token: Tensor | None = learned(embed_dim) if class_token else None
        self.positions = learned(int(class_token) + self.side**2, embed_dim)

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """pixel_values (B, C, H, W) -> tokens (B, S + N, E), the class token first, then the patches row by row.

        Args:
            interpolate_pos_encoding: take images of any size, and the positions between the learned ones for them.
        """
        self._check(pixel_values, interpolate_pos_encoding)
        size = pixel_values.shape[2:]
        rows, columns = (length // self.patch_size for length in size)  # Y, X
        cropped = pixel_values[:, :, : rows * self.patch_size, : columns * self.patch_size]
        tokens = self.patches.forward(cropped)  # (B, N, E)
        front = len(self.positions) - self.side**2  # S
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(len(tokens), 1, -1), tokens], 1)  # x = (c, z_1, ..., z_N)  (1)
        positions = self.positions
        resized = (rows, columns) != (self.side, self.side)
        if resized:
            positions = torch.cat([positions[:front], resize_positions(positions[front:], (rows, columns))])
        self.save(tuple(size), (rows, columns), front, resized)
        return tokens + positions  # y_bn = x_bn + p_n                                                     (2)

    def backward(self, dtokens: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dtokens (B, S + N, E) -> dpixel_values (B, C, H, W), or None without `input_gradient`."""
        size, grid, front, resized = self.saved()
        if dtokens is None:
            return self.patches.backward(None)
        if self.class_token is not None and self.class_token.requires_grad:
            accumulate(self.class_token, dtokens[:, 0].sum(0))  # dc = sum_b dy_b0                          (4)
        if self.positions.requires_grad:
            dpositions = dtokens.sum(0)  # dp_n = sum_b dy_bn                                              (5)
            if resized:
                of_square = resize_positions_backward(dpositions[front:], self.side**2, grid)
                dpositions = torch.cat([dpositions[:front], of_square])
            accumulate(self.positions, dpositions)
        dcropped = self.patches.backward(dtokens[:, front:], input_gradient=input_gradient)
        return None if dcropped is None else _uncropped(dcropped, size)

    def for_images_of(self, image_size: int) -> "ImageTokens":
        """The same layer made for another size, its positions interpolated once; the parameters are copies."""
        weights = self.positions
        other = ImageTokens(
            image_size,
            self.patch_size,
            self.num_channels,
            self.embed_dim,
            patch_bias=self.patches.bias is not None,
            class_token=self.class_token is not None,
            device="meta",
            dtype=weights.dtype,
        )
        front = len(weights) - self.side**2
        with torch.no_grad():
            state = self.state_dict()
            resized = resize_positions(weights[front:], (other.side, other.side))
            state["positions"] = torch.cat([weights[:front], resized])
        other.to_empty(device=weights.device)
        other.load_state_dict(state)
        return other

    def _check(self, pixel_values: Tensor, interpolated: bool) -> None:
        given, channels = tuple(pixel_values.shape), self.num_channels
        if len(given) != 4 or given[1] != channels:
            raise ShapeError(
                f"{describe(self)}: given pixel_values of shape {given}, expected (B, {channels}, height, width)"
            )
        if not interpolated and given[2:] != (self.image_size, self.image_size):
            raise ShapeError(
                f"{describe(self)}: given images of {given[2]} x {given[3]} pixels, expected {self.image_size} x "
                f"{self.image_size}; interpolate_pos_encoding=True takes images of any size"
            )
        if min(given[2:]) < self.patch_size:
            raise ShapeError(
                f"{describe(self)}: given images of {given[2]} x {given[3]} pixels, which hold no whole patch"
            )
        if pixel_values.dtype != self.positions.dtype:
            raise ShapeError(
                f"{describe(self)}: given pixel_values in {pixel_values.dtype}, but the weights are in "
                f"{self.positions.dtype}: expected the same (whole numbers of 0 to 255 are normalised first)"
            )

    def extra_repr(self) -> str:
        return (
            f"image_size={self.image_size}, patch_size={self.patch_size}, num_channels={self.num_channels}, "
            f"embed_dim={self.embed_dim}, class_token={self.class_token is not None}"
        )


def _uncropped(dcropped: Tensor, size: tuple[int, int]) -> Tensor:
    """The gradient of what was cropped to whole patches: zero where nothing was looked at."""
    if dcropped.shape[2:] == size:
        return dcropped
    dimage = dcropped.new_zeros(*dcropped.shape[:2], *size)
    dimage[:, :, : dcropped.shape[2], : dcropped.shape[3]] = dcropped
    return dimage
