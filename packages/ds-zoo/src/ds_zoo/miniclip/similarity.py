"""How well every text fits every image, sharpened by a learned temperature. Theory: docs/miniclip/similarity.md."""

import torch
from ds_core import Module, accumulate, parameter
from torch import Tensor

# N = rows (texts), M = columns (images), P = projection_dim


def similarity(x: Tensor, y: Tensor, logit_scale: Tensor) -> tuple[Tensor, Tensor]:
    """x (N, P), y (M, P), logit_scale () -> z (N, M) and s ()."""
    scale = torch.exp(logit_scale)  # s = exp(t)                                                             (1)
    return torch.mm(x, y.t()) * scale, scale  # z_ij = s sum_p x_ip y_jp                                     (2)


def similarity_backward(dz: Tensor, x: Tensor, y: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """dz (N, M), x (N, P), y (M, P), scale () -> dx (N, P), dy (M, P), dlogit_scale ()."""
    scaled = dz * scale
    dx = torch.mm(scaled, y)  # dx_ip = s sum_j dz_ij y_jp                                                   (3)
    dy = torch.mm(scaled.t(), x)  # dy_jp = s sum_i dz_ij x_ip                                               (4)
    dlogit_scale = (x * dx).sum()  # dt = sum_ij dz_ij z_ij = sum_ip x_ip dx_ip                              (6)
    return dx, dy, dlogit_scale


class Similarity(Module):
    """z = exp(logit_scale) x y^T: the logits of a choice among images for each text, or the other way round.

    Args:
        initial: of `logit_scale`; CLIP's is ln(1 / 0.07), a temperature of 0.07.
    """

    def __init__(
        self, initial: float, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        self.logit_scale = parameter(torch.full((), float(initial), device=device, dtype=dtype))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x (N, P), y (M, P) -> z (N, M)."""
        z, scale = similarity(x, y, self.logit_scale)
        self.save(x, y, scale)
        return z

    def backward(self, dz: Tensor | None, *, input_gradient: bool = True) -> tuple[Tensor | None, Tensor | None]:
        """dz (N, M) -> dx (N, P), dy (M, P), each None without `input_gradient`; adds to that of `logit_scale`."""
        x, y, scale = self.saved()
        if dz is None:
            return None, None
        dx, dy, dlogit_scale = similarity_backward(dz, x, y, scale)
        accumulate(self.logit_scale, dlogit_scale)
        return (dx, dy) if input_gradient else (None, None)
