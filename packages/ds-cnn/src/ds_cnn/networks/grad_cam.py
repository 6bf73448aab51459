"""Grad-CAM: where in an image a network sees what speaks for a class. Theory: docs/grad_cam.md.

Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization", 2017.
"""

from typing import Any, NamedTuple

import torch
from ds_core import ShapeError, record
from ds_core.engine.parameter import frozen
from ds_core.speed.precision import widened
from ds_core.training.evaluation import evaluation_mode
from torch import Tensor

from ds_cnn.convolutions.conv import Conv2d
from ds_cnn.networks.tap import layer_named, tapped
from ds_cnn.resampling.interpolate import interpolate

# N = images, K = feature maps, P, Q = their height and width, H, W = those of the image, C = classes


class GradCam(NamedTuple):
    """What `grad_cam` found.

    Attributes:
        logits: (N, C), what the network says.
        classes: (N,), which class was asked about.
        weights: (N, K), how much each feature map speaks for it.
        coarse: (N, P, Q), the maps' weighted sum where it is positive.
        heat: (N, H, W), the same over the image, its largest number 1; zeros where nothing speaks for the class.
    """

    logits: Tensor
    classes: Tensor
    weights: Tensor
    coarse: Tensor
    heat: Tensor


def grad_cam(model: Any, images: Tensor, classes: Tensor | None = None, layer: str | None = None) -> GradCam:
    """Where `model`, in evaluation mode, sees the classes in `images` (N, channels, H, W), as it takes them.

    Neither its parameters nor their gradients change.

    Args:
        model: (N, channels, H, W) -> logits (N, C), whatever is between; its backward is handwritten.
        images: normalised as in training.
        classes: (N,) int64, which class to look for in each image; None: the one that the model predicts.
        layer: whose output (N, K, P, Q) the feature maps are, by its name in `model.named_modules()`; None: the last
            two-dimensional convolution.

    Raises:
        ValueError: no layer of that name, no convolution, one that is called more often than once, or one in a frozen
            part, through which backward does not go; a class that there is not.
        ShapeError: the layer gives no feature maps, or there is not one class for each image.
    """
    name = last_convolution(model) if layer is None else layer
    watched = layer_named(model, name)
    with evaluation_mode(model), frozen(model.parameters()), tapped(watched) as tap, record():
        logits: Tensor = model.forward(images)
        chosen = logits.argmax(1) if classes is None else classes
        _check_classes(chosen, logits)
        dlogits = torch.zeros_like(logits)
        dlogits[torch.arange(len(logits), device=logits.device), chosen] = 1  # d logit_nc / d logit_nj = [j = c_n]  (1)
        model.backward(dlogits)
    if len(tap.outputs) != 1:
        raise ValueError(f"grad_cam: the layer {name} is called {len(tap.outputs)} times in a pass, expected once")
    if not tap.gradients:
        raise ValueError(f"grad_cam: no gradient comes back to the layer {name}, which is in a frozen part: thaw it")
    (maps,), (gradients,) = tap.outputs, tap.gradients
    if not isinstance(maps, Tensor) or maps.dim() != 4:
        given = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise ShapeError(f"grad_cam: the layer {name} gives {given}, expected feature maps (N, K, P, Q)")
    if gradients is None:
        gradients = torch.zeros_like(maps)
    weights, coarse = weighted_maps(widened(maps), widened(gradients))
    over_image = interpolate(coarse.unsqueeze(1), size=images.shape[2:], mode="bilinear").squeeze(1)
    largest = over_image.amax((1, 2), keepdim=True)
    heat = over_image / torch.where(largest > 0, largest, 1.0)  # heat_nhw = M_nhw / max_hw M_nhw              (4)
    return GradCam(logits, chosen, weights, coarse, heat)


def weighted_maps(maps: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Feature maps A (N, K, P, Q) and the gradient there of the logit of the class -> alpha (N, K), map (N, P, Q)."""
    weights = gradients.mean((2, 3))  # alpha_nk = 1/(PQ) sum_pq d logit_nc / d A_nkpq                          (2)
    summed = (weights[:, :, None, None] * maps).sum(1)
    return weights, summed.clamp_min(0)  # M_npq = relu(sum_k alpha_nk A_nkpq)                                   (3)


def last_convolution(model: Any) -> str:
    """The name of the last two-dimensional convolution.

    Raises:
        ValueError: there is none.
    """
    names: list[str] = [name for name, layer in model.named_modules() if isinstance(layer, Conv2d)]
    if not names:
        raise ValueError(f"grad_cam: {type(model).__name__} has no Conv2d in it, so name a layer")
    return names[-1]


def _check_classes(classes: Tensor, logits: Tensor) -> None:
    if classes.shape != logits.shape[:1]:
        raise ShapeError(
            f"grad_cam: given classes of shape {tuple(classes.shape)} for logits {tuple(logits.shape)}, expected one "
            "for each image"
        )
    if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < logits.shape[1]:
        raise ValueError(
            f"grad_cam: given the classes {int(classes.min())} to {int(classes.max())}, expected 0 to "
            f"{logits.shape[1] - 1}"
        )
