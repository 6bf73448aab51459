"""The pictures of a run: filters, feature maps, mistakes, and where the network looked."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ds_core.activations.softmax import softmax
from ds_core.plotting import new_figure, plain_text, save_figure
from ds_core.training.evaluation import evaluation_mode
from torch import Tensor

from ds_cnn.convolutions.conv import Conv2d
from ds_cnn.images.write_image import image_grid, stretch_contrast
from ds_cnn.networks.grad_cam import GradCam
from ds_cnn.networks.tap import tapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# N = images, C = channels, H, W = height and width, O = filters, K = kernel size

_COLUMNS = 8
_MOST = 64  # filters or maps in a picture
_MISTAKES = 32

Normaliser = Callable[[Tensor], Tensor]


def first_convolution(model: Any) -> tuple[str, Conv2d]:
    """The name of the first two-dimensional convolution, and the layer."""
    return next((name, layer) for name, layer in model.named_modules() if isinstance(layer, Conv2d))


def plot_filters(path: Path, model: Any) -> None:
    """The kernels (O, C, K, K) of the first convolution, in colours if it reads three channels.

    Each is stretched from its smallest number, black, to its largest.
    """
    name, layer = first_convolution(model)
    kernels = layer.weight.detach().float().cpu()[:_MOST]
    if kernels.shape[1] not in (1, 3):
        kernels = kernels[:, :1]
    figure = new_figure(6, 0.8 * -(-len(kernels) // _COLUMNS) + 0.5)
    axes = figure.add_subplot()
    _show(axes, image_grid(stretch_contrast(kernels), _COLUMNS, background=1))
    axes.set_title(f"filters of {plain_text(name)}, {layer.kernel_size[0]} x {layer.kernel_size[1]}")
    save_figure(figure, path)


def plot_feature_maps(path: Path, model: Any, image: Tensor, normalise: Normaliser) -> None:
    """An image (C, H, W) of 8 bits, and what each filter of the first convolution makes of it."""
    name, layer = first_convolution(model)
    with evaluation_mode(model), tapped(layer) as tap:
        model.forward(normalise(image.unsqueeze(0)))
    maps = tap.outputs[0][0].detach().float().cpu()[:_MOST].unsqueeze(1)  # (O, 1, H, W)
    figure = new_figure(9, 4.5)
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    _show(left, image)
    left.set_title("the image")
    _show(right, image_grid(stretch_contrast(maps), _COLUMNS, background=1))
    right.set_title(f"the feature maps of {plain_text(name)}")
    save_figure(figure, path)


def plot_wrong(path: Path, images: Tensor, classes: Tensor, probabilities: Tensor, names: Sequence[str]) -> None:
    """The images whose class the network mistakes, the surest mistakes first, with what it took them for.

    Args:
        images: (N, C, H, W) of 8 bits.
        classes: (N,), the true ones.
        probabilities: (N, classes).
    """
    sure, taken_for = probabilities.max(1)
    wrong = (taken_for != classes).nonzero().flatten()
    shown = wrong[sure[wrong].argsort(descending=True)][:_MISTAKES].tolist()
    rows = max(1, -(-len(shown) // _COLUMNS))
    figure = new_figure(1.6 * _COLUMNS, 1.9 * rows + 0.4)
    figure.suptitle(f"{len(wrong)} of {len(classes)} images are mistaken")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for one in axes:
        one.set_axis_off()
    for one, index in zip(axes, shown, strict=False):
        _show(one, images[index])
        true, taken = names[int(classes[index])], names[int(taken_for[index])]
        one.set_title(plain_text(f"{true}, taken for\n{taken} ({float(sure[index]):.0%})"), fontsize="x-small")
    save_figure(figure, path)


def plot_grad_cam(
    path: Path, images: Tensor, found: GradCam, names: Sequence[str], titles: Sequence[str] | None = None
) -> None:
    """Images (N, C, H, W) of 8 bits, each above where the network sees the class that was asked about.

    Args:
        found: of these images.
        names: of the classes.
        titles: of the images.
    """
    count = len(images)
    probabilities = softmax(found.logits.float(), 1)
    figure = new_figure(2.2 * count, 4.6)
    axes = figure.subplots(2, count, squeeze=False)
    for column in range(count):
        name, heat = names[int(found.classes[column])], found.heat[column].float().cpu()
        above, below = axes[0][column], axes[1][column]
        _show(above, images[column])
        above.set_title(plain_text("" if titles is None else titles[column]), fontsize="small")
        _show(below, images[column])
        below.imshow(heat.tolist(), cmap="inferno", alpha=0.55, vmin=0, vmax=1, interpolation="nearest")
        share = float(probabilities[column, found.classes[column]])
        below.set_title(f"{plain_text(name)} ({share:.0%})", fontsize="small")
    save_figure(figure, path)


def _show(axes: "Axes", image: Tensor) -> None:
    """An image (C, H, W), of 8 bits or of 0 to 1, grey if it has one channel."""
    shown = image.detach().cpu()
    shown = shown.float() / 255 if shown.dtype == torch.uint8 else shown.clamp(0, 1)
    if len(shown) == 1:
        axes.imshow(shown[0].tolist(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(shown.permute(1, 2, 0).tolist(), interpolation="nearest")
    axes.set_axis_off()
