"""The contrastive loss: each caption among all images, each image among all captions.

Theory: docs/miniclip/criterion.md.
"""

import torch
from ds_core import Module, ShapeError
from ds_core.activations.log_softmax import log_softmax
from ds_core.distributed.gather_rows import gathered_rows
from ds_core.engine.trace import describe
from ds_core.speed.precision import widened
from torch import Tensor

from ds_zoo.miniclip.outputs import MiniCLIPOutput

# N = pairs of an image and its caption, R = those of this process; R = N if there is only one


def match_targets(own: Tensor, groups: Tensor, dtype: torch.dtype) -> Tensor:
    """own (R,), groups (N,) int64 -> q (R, N): uniform over the columns of the same group."""
    matches = (own.unsqueeze(1) == groups).to(dtype)
    return matches / matches.sum(1, keepdim=True)  # q_ij = [g_i = g_j] / sum_k [g_i = g_k]                  (1)


def mean_cross_entropy(z: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """z, q (R, N) -> the mean over rows of -sum_j q_ij log p_ij, (), and log p (R, N)."""
    log_p = log_softmax(z, 1)
    return -(q * log_p).sum() / z.shape[0], log_p  # l(z) = -1/R sum_ij q_ij log p_ij                       (2)


def mean_cross_entropy_backward(dloss: Tensor, log_p: Tensor, q: Tensor) -> Tensor:
    """dloss (), log_p, q (R, N) -> dz (R, N)."""
    return (torch.exp(log_p) - q) * (dloss / log_p.shape[0])  # dz_ij = dl (p_ij - q_ij) / R                 (4)


class ContrastiveLoss(Module):
    """The mean of two cross-entropies: of the rows of `logits_per_text` and of `logits_per_image`.

    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021, figure 3. The target
    of row i is column i. If captions repeat, `groups` says which are equal: each of a group's columns is then a match,
    and the target is uniform over them, so that no equal caption counts as a wrong one.

    Args:
        gather: whether `MiniCLIP` gathers the embeddings of several processes. Each of them then has rows of its own
            pairs, with a column for every pair.

    Attributes:
        terms: `caption_loss` and `image_loss` of the last forward, without a gradient.

    Raises:
        ShapeError: from `forward`, if there are not as many images as texts, or groups do not fit.
    """

    def __init__(self, gather: bool = False) -> None:
        self.gather = gather
        self.terms: dict[str, Tensor] = {}

    def forward(self, out: MiniCLIPOutput, groups: Tensor | None = None) -> Tensor:
        """`out` of `MiniCLIP`, groups (R,) int64, the same number for equal captions -> loss ()."""
        z_text, z_image = self._checked(out, groups)
        q = self._targets(z_text, groups)
        caption_loss, log_p_text = mean_cross_entropy(widened(z_text), q)
        image_loss, log_p_image = mean_cross_entropy(widened(z_image), q)
        self.terms = {"caption_loss": caption_loss.detach(), "image_loss": image_loss.detach()}
        self.save(log_p_text, log_p_image, q, z_text.dtype)
        return (0.5 * (caption_loss + image_loss)).to(z_text.dtype)  # L = (l(z) + l(z^T)) / 2              (3)

    def backward(self, grad: Tensor | None = None) -> MiniCLIPOutput:
        """grad (), None for 1 -> the gradients of both kinds of logits."""
        log_p_text, log_p_image, q, dtype = self.saved()
        half = log_p_text.new_full((), 0.5) if grad is None else 0.5 * grad.to(log_p_text.dtype)
        return MiniCLIPOutput(
            logits_per_text=mean_cross_entropy_backward(half, log_p_text, q).to(dtype),
            logits_per_image=mean_cross_entropy_backward(half, log_p_image, q).to(dtype),
        )

    def _targets(self, z: Tensor, groups: Tensor | None) -> Tensor:
        rows, columns = z.shape
        wide = widened(z).dtype
        if rows == columns:
            if groups is None:
                return torch.eye(rows, dtype=wide, device=z.device)
            return match_targets(groups, groups, wide)
        numbers = torch.arange(rows, device=z.device) if groups is None else groups
        everyone, first = gathered_rows(numbers)
        if groups is None:
            return torch.eye(columns, dtype=wide, device=z.device)[first : first + rows]
        return match_targets(groups, everyone, wide)

    def _checked(self, out: MiniCLIPOutput, groups: Tensor | None) -> tuple[Tensor, Tensor]:
        """The logits of both kinds."""
        z_text, z_image = out.logits_per_text, out.logits_per_image
        if z_text is None or z_image is None:
            raise ShapeError(f"{describe(self)}: given an output without logits, expected that of MiniCLIP")
        rows, columns = z_text.shape
        if z_image.shape != z_text.shape or (rows != columns and not self.gather):
            raise ShapeError(
                f"{describe(self)}: given {rows} texts and {z_image.shape[0]} images, expected as many: text i "
                "belongs to image i"
            )
        if rows == 0:
            raise ShapeError(f"{describe(self)}: given no pairs, expected at least one")
        if groups is not None and (groups.shape != (rows,) or groups.is_floating_point()):
            raise ShapeError(
                f"{describe(self)}: given groups {tuple(groups.shape)} of {groups.dtype}, expected ({rows},) whole "
                "numbers, the same for captions that are equal"
            )
        return z_text, z_image

    def extra_repr(self) -> str:
        return f"gather={self.gather}" if self.gather else ""
