"""What MiniCLIP returns: transformers' names. The gradients that it is given stand in the same fields."""

from dataclasses import dataclass

from torch import Tensor

# N = texts, M = images, P = projection_dim


@dataclass
class MiniCLIPOutput:
    """Every pair's logit, and the embeddings, each of length 1.

    If several processes gather their embeddings, N and M are the rows of this process, and the columns of the logits
    are those of all: `logits_per_image` is then no transpose of `logits_per_text`.

    Attributes:
        logits_per_image: (M, N), for each image how well each text fits.
        logits_per_text: (N, M), for each text how well each image fits.
        text_embeds: (N, P).
        image_embeds: (M, P).
    """

    logits_per_image: Tensor | None = None
    logits_per_text: Tensor | None = None
    text_embeds: Tensor | None = None
    image_embeds: Tensor | None = None
