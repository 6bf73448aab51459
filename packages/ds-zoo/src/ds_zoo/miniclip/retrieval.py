"""What a trained CLIP can do: find by caption, name by prompt. Theory: docs/miniclip/retrieval.md."""

from collections.abc import Sequence

import torch
from ds_core.training.evaluation import evaluation_mode
from torch import Tensor

from ds_zoo.miniclip.caption_tokenizer import CaptionTokenizer
from ds_zoo.miniclip.model import MiniCLIP

# N = pairs of an image and its caption, M = images, K = prompts

_BATCH = 64


def embed_images(model: MiniCLIP, pixel_values: Tensor) -> Tensor:
    """pixel_values (M, C, H, W) -> (M, P) float32, on the model's device, in evaluation mode."""
    where = model.similarity.logit_scale
    with evaluation_mode(model):
        parts = [model.image_features(part.to(where)) for part in torch.split(pixel_values, _BATCH)]
    return torch.cat(parts).float()


def embed_texts(model: MiniCLIP, tokenizer: CaptionTokenizer, captions: Sequence[str]) -> Tensor:
    """Captions -> (N, P) float32, on the model's device, in evaluation mode."""
    input_ids = tokenizer.encode(captions).to(model.similarity.logit_scale.device)
    with evaluation_mode(model):
        parts = [model.text_features(part) for part in torch.split(input_ids, 4 * _BATCH)]
    return torch.cat(parts).float()


def recall_at(similarities: Tensor, k: int) -> float:
    """The share of the rows of (N, N) whose own column is among the k largest; a draw counts against it."""
    own = similarities.diagonal().unsqueeze(1)
    # a_i = #{j != i : s_ij >= s_ii}; NaN is ahead of everything                                       (2)
    ahead = (similarities < own).logical_not().sum(1) - 1
    return float((ahead < k).double().mean())  # mean of [a_i < k]                                     (3)


def retrieval(texts: Tensor, images: Tensor) -> dict[str, float]:
    """Embeddings of N captions and their images, all captions different -> recall@1 and recall@5 both ways."""
    similarities = torch.mm(texts, images.t())  # s_ij = x_i . y_j                                     (1)
    return {
        "image by caption, recall@1": recall_at(similarities, 1),
        "image by caption, recall@5": recall_at(similarities, 5),
        "caption by image, recall@1": recall_at(similarities.t(), 1),
        "caption by image, recall@5": recall_at(similarities.t(), 5),
    }


def zero_shot_accuracy(prompts: Tensor, images: Tensor, classes: Tensor) -> float:
    """Embeddings of K prompts, one a class, and of M images; classes (M,) -> share of images nearest to their own."""
    nearest = torch.mm(images, prompts.t()).argmax(1)  # argmax_k y_m . p_k                            (4)
    return float((nearest.cpu() == classes.cpu()).double().mean())
