"""MiniViT as a classifier of images: a head that reads one vector of an image. Theory: docs/minivit/heads.md."""

from pathlib import Path
from typing import Any

import torch
from ds_core import CheckpointError, ClassifierLoss, ClassifierOutput, Linear, Module
from ds_core.training.pretrained_labels import Labels
from torch import Tensor

from ds_zoo.minivit.config import MiniViTConfig
from ds_zoo.minivit.model import MiniViT, initialise
from ds_zoo.minivit.outputs import MiniViTOutput

# B = batch, C = num_channels, H, W = height and width of the images, T = tokens: the class token and N patches,
# E = embed_dim, K = number of classes

POOLINGS = ("token", "mean")


class MiniViTForImageClassification(Module):
    """Images to logits, one for each class: transformers' ViTForImageClassification.

    Args:
        config: the sizes.
        labels: the classes, and which loss is theirs; of `Labels.numbered(10)` there are ten.
        pooling: what the head reads: "token", the class token after the last norm, as the published models; or "mean",
            the mean over the patches' tokens (transformers has no such head).
        vit: the model below the head, without a pooler; None: a new one.
        implementation: of the attention, see `MiniViT`.
        generator: draws the initial weights.

    Raises:
        ValueError: an unknown pooling, or a vit of other sizes or with a pooler.
        ShapeError: from `forward`, for images of another shape or dtype.
    """

    def __init__(
        self,
        config: MiniViTConfig,
        labels: Labels | None = None,
        *,
        pooling: str = "token",
        vit: MiniViT | None = None,
        implementation: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"MiniViTForImageClassification: given pooling={pooling!r}, expected one of {POOLINGS}")
        place: dict[str, Any] = {"device": device, "dtype": dtype, "generator": generator}
        if vit is None:
            vit = MiniViT(config, pooler=False, implementation=implementation, **place)
        elif vit.config != config or vit.pooler is not None:
            raise ValueError("MiniViTForImageClassification: expected vit to have the same config and no pooler")
        self.config = config
        self.labels = Labels() if labels is None else labels
        self.pooling = pooling
        self.vit = vit
        self.classifier = Linear(config.embed_dim, len(self.labels.names), **place)
        initialise(self.classifier, config.initializer_range, generator)

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> ClassifierOutput:
        """pixel_values (B, C, H, W) -> logits (B, K).

        Args:
            interpolate_pos_encoding: take images of any size, and the positions between the learned ones for them.
        """
        hidden = self.vit.forward(pixel_values, interpolate_pos_encoding).last_hidden_state
        assert hidden is not None
        self.save(hidden.shape)
        # u_b = h_b0  (1)   or   u_b = 1/N sum_n h_bn  (2)
        pooled = hidden[:, 0] if self.pooling == "token" else hidden[:, 1:].mean(1)
        return ClassifierOutput(logits=self.classifier.forward(pooled))  # z_bk = sum_e u_be W_ke + b_k  (3)

    def backward(self, gradients: ClassifierOutput | None, *, input_gradient: bool = True) -> Tensor | None:
        """The gradients of the outputs -> dpixel_values (B, C, H, W)."""
        dpooled = self.classifier.backward(None if gradients is None else gradients.logits)  # du = dz W  (4)
        (shape,) = self.saved()
        if dpooled is None:
            return self.vit.backward(None, input_gradient=input_gradient)
        dhidden = dpooled.new_zeros(shape)
        if self.pooling == "token":
            dhidden[:, 0] = dpooled  # dh_b0 = du_b, and no other token has a gradient                   (5)
        else:
            dhidden[:, 1:] = (dpooled / (shape[1] - 1)).unsqueeze(1)  # dh_bn = du_b / N, n >= 1         (6)
        return self.vit.backward(MiniViTOutput(dhidden), input_gradient=input_gradient)

    def criterion(self) -> ClassifierLoss:
        """The loss that transformers computes for this model: `criterion(model(pixel_values=x), labels=y)`."""
        return ClassifierLoss(len(self.labels.names), self.labels.problem_type)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> "MiniViTForImageClassification":
        """As `MiniViT.from_pretrained`, but of folders with a classifier alone, unless a new one is asked for.

        Raises:
            CheckpointError: there is none; and all that `MiniViT.from_pretrained` raises.
        """
        model = MiniViT.from_pretrained(folder, **options)
        if not isinstance(model, cls):
            raise CheckpointError(f"{folder} holds a {type(model).__name__} without a classifier: num_labels= adds one")
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors as transformers reads them.

        A head with `pooling="mean"` is written under an architecture of our own, because transformers has none that
        computes it; its ViTModel reads the body.

        Raises:
            WriteError: the folder cannot be written.
        """
        from ds_zoo.minivit.pretrained import save_folder  # which imports this file

        save_folder(folder, self)

    def extra_repr(self) -> str:
        return f"pooling={self.pooling!r}"
