"""MiniCLIP: CLIP's architecture, both passes written out. Theory: docs/miniclip/model.md."""

from pathlib import Path

import torch
from ds_core import Module, no_record
from ds_core.distributed.gather_rows import GatherRows
from ds_core.distributed.processes import current
from ds_core.engine.composition import merge_gradients
from torch import Tensor

from ds_zoo.miniclip.config import MiniCLIPConfig
from ds_zoo.miniclip.criterion import ContrastiveLoss
from ds_zoo.miniclip.normalise import Normalise
from ds_zoo.miniclip.outputs import MiniCLIPOutput
from ds_zoo.miniclip.pretrained import load_miniclip, save_miniclip
from ds_zoo.miniclip.similarity import Similarity
from ds_zoo.miniclip.text_tower import TextTower
from ds_zoo.miniclip.vision_tower import VisionTower

# N = texts, M = images, T = tokens, C = num_channels, H, W = height and width, P = projection_dim


class MiniCLIP(Module):
    """Images and texts to vectors of one space, in which an image lies near its caption (Radford et al., 2021).

    Args:
        config: the sizes.
        gather: whether, if several processes train together, each compares its images and texts with those of all of
            them, so that they learn what one process learns from the whole batch. In evaluation nothing is gathered.
        implementation: of the attention: "vectorized", "tiled" or "loops". None takes the faster one for each tower:
            tiled for more than 128 tokens.
        generator: draws the initial weights.

    Raises:
        ShapeError: from `forward`, if tokens, mask or images are of another shape.
    """

    def __init__(
        self,
        config: MiniCLIPConfig,
        *,
        gather: bool = False,
        implementation: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.config = config
        self.gather = gather
        self.text = TextTower(
            config.text,
            config.projection_dim,
            implementation=implementation,
            device=device,
            dtype=dtype,
            generator=generator,
        )
        self.vision = VisionTower(
            config.vision,
            config.projection_dim,
            implementation=implementation,
            device=device,
            dtype=dtype,
            generator=generator,
        )
        self.normalise_text, self.normalise_image = Normalise(), Normalise()
        self.gather_texts, self.gather_images = GatherRows(), GatherRows()
        self.similarity = Similarity(config.logit_scale, device, dtype)

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor,
        attention_mask: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
    ) -> MiniCLIPOutput:
        """Texts and images, whose numbers may differ unless the loss is wanted, to embeddings and logits.

        Args:
            input_ids: (N, T) int64.
            pixel_values: (M, C, H, W).
            attention_mask: (N, T), 0 where a token is padding, which no token sees.
            interpolate_pos_encoding: take images of another size than the config's, see `ImageTokens`.
        """
        x = self.normalise_text.forward(self.text.forward(input_ids, attention_mask))  # (N, P)             (1)
        y = self.normalise_image.forward(self.vision.forward(pixel_values, interpolate_pos_encoding))  # (M, P)
        gathered = self.gather and self.training and current().world_size > 1
        if gathered:
            everyone_x, everyone_y = self.gather_texts.forward(x), self.gather_images.forward(y)
            per_text = self.similarity.forward(x, everyone_y)  # z_ij = s x_i . y_j for own i and every j    (4)
            per_image = self.similarity.forward(y, everyone_x)
        else:
            per_text = self.similarity.forward(x, y)  # z_ij = s x_i . y_j                                   (2)
            per_image = per_text.t()
        self.save(gathered)
        return MiniCLIPOutput(logits_per_image=per_image, logits_per_text=per_text, text_embeds=x, image_embeds=y)

    def backward(self, gradients: MiniCLIPOutput | None, *, input_gradient: bool = True) -> Tensor | None:
        """The gradients of the outputs -> dpixel_values (M, C, H, W), or None without `input_gradient`."""
        given = MiniCLIPOutput() if gradients is None else gradients
        dx, dy = self._logits_backward(given.logits_per_text, given.logits_per_image)
        dy = merge_gradients(dy, given.image_embeds)
        dx = merge_gradients(dx, given.text_embeds)
        dpixel_values = self.vision.backward(self.normalise_image.backward(dy), input_gradient=input_gradient)
        self.text.backward(self.normalise_text.backward(dx))
        return dpixel_values

    def _logits_backward(self, dtext: Tensor | None, dimage: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of the logits of both kinds -> dx (N, P), dy (M, P)."""
        (gathered,) = self.saved()
        if not gathered:
            # dz = dz_text + dz_image^T                                                                      (3)
            return self.similarity.backward(merge_gradients(dtext, None if dimage is None else dimage.t()))
        own_y, everyone_x = self.similarity.backward(dimage)
        own_x, everyone_y = self.similarity.backward(dtext)
        dy = merge_gradients(own_y, self.gather_images.backward(everyone_y))
        dx = merge_gradients(own_x, self.gather_texts.backward(everyone_x))
        return dx, dy  # what this process found of its own rows, and what all found of them                 (5)

    def text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """input_ids (N, T), attention_mask (N, T) -> embeddings of length 1, (N, P), for use and not for training."""
        with no_record():
            return self.normalise_text.forward(self.text.forward(input_ids, attention_mask))

    def image_features(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """pixel_values (M, C, H, W) -> embeddings of length 1, (M, P), for use and not for training."""
        with no_record():
            return self.normalise_image.forward(self.vision.forward(pixel_values, interpolate_pos_encoding))

    def criterion(self) -> ContrastiveLoss:
        """The loss that transformers computes with `return_loss=True`: `criterion(model(...))`."""
        return ContrastiveLoss(self.gather)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        implementation: str | None = None,
        gather: bool = False,
    ) -> "MiniCLIP":
        """Read a CLIPModel that transformers or `save_pretrained` wrote; details in docs/miniclip/pretrained.md.

        Args:
            dtype: what the weights are cast to; by default they keep the file's.
            implementation, gather: as of the class.

        Raises:
            CheckpointError: a file is missing or damaged, or holds a model that MiniCLIP cannot compute.
        """

        def build(config: MiniCLIPConfig) -> MiniCLIP:
            return cls(config, gather=gather, implementation=implementation, device="meta")

        return load_miniclip(folder, build, device=device, dtype=dtype)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors as transformers reads them.

        Raises:
            WriteError: the folder cannot be written.
        """
        save_miniclip(folder, self.config, self)

    def extra_repr(self) -> str:
        return str(self.config)
