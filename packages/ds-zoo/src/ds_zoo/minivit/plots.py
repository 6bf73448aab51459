"""Pictures of what a MiniViT looks at: attention rollout over images, and which positions are alike."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from ds_cnn import GradCam, interpolate
from ds_cnn.recipes.image_plots import plot_grad_cam
from ds_core.plotting import new_figure, save_figure
from ds_core.training.evaluation import evaluation_mode
from torch import Tensor

from ds_zoo.minivit.rollout import rollout_maps

# B = images, C = channels, H, W = height and width, G = rows and columns of patches, E = embed_dim


def plot_rollout(
    path: Path,
    model: Any,
    images: Tensor,
    normalise: Callable[[Tensor], Tensor],
    names: Sequence[str],
    titles: Sequence[str],
) -> None:
    """Images (B, C, H, W) of 8 bits, each above what the model looked at, with the class that it took it for.

    Args:
        model: images as it sees them -> logits (B, K), with a `MiniViT` inside.
        normalise: makes images what the model sees.
        names: of the classes.
        titles: of the images.
    """
    seen = normalise(images)
    heat = rollout_maps(model, seen).float().unsqueeze(1)
    with evaluation_mode(model):
        logits = model.forward(seen)
    over_image = interpolate(heat, size=images.shape[2:], mode="nearest").squeeze(1)
    empty = torch.empty(0)
    plot_grad_cam(path, images, GradCam(logits, logits.argmax(1), empty, empty, over_image), names, titles)


def plot_positions(path: Path, positions: Tensor) -> None:
    """The cosine between the position of each patch and those of all others, a small picture for each patch.

    Args:
        positions: (G G, E), without the class token's.
    """
    unit = positions.detach().float().cpu()
    unit = unit / unit.square().sum(1, keepdim=True).sqrt()
    cosines = torch.matmul(unit, unit.t())  # (G G, G G)
    side = round(len(cosines) ** 0.5)
    step = -(-side // 8)  # at most eight pictures a side
    shown = range(0, side, step)
    figure = new_figure(1 + 0.8 * len(shown), 1 + 0.8 * len(shown))
    axes = figure.subplots(len(shown), len(shown), squeeze=False)
    for row, column in ((row, column) for row in range(len(shown)) for column in range(len(shown))):
        one = axes[row][column]
        alike = cosines[shown[row] * side + shown[column]].view(side, side)
        one.imshow(alike.tolist(), cmap="viridis", vmin=-1, vmax=1)
        one.set_axis_off()
    figure.suptitle("how alike the position of a patch is to all others")
    save_figure(figure, path)
