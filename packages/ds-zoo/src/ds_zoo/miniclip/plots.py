"""A picture of what belongs to what."""

from collections.abc import Sequence
from pathlib import Path

import torch
from ds_core.plotting import new_figure, plain_text, save_figure
from torch import Tensor

# N = pairs, P = projection_dim

SIMILARITY_FILE = "similarity.png"
_LONGEST = 44  # characters of a caption beside its row


def plot_similarities(path: str | Path, texts: Tensor, images: Tensor, captions: Sequence[str]) -> None:
    """Cosines of N captions (rows) and their images (columns): a bright diagonal if all is well.

    Args:
        texts, images: embeddings of length 1, (N, P).
        captions: N of them.

    Raises:
        MissingPackageError: matplotlib is not installed.
        WriteError: the file cannot be written.
    """
    cosines = torch.mm(texts, images.t()).cpu()
    count = len(captions)
    figure = new_figure(5 + 0.5 * count, 1.5 + 0.4 * count)
    axes = figure.subplots()
    shown = axes.imshow(cosines.tolist(), vmin=-1, vmax=1, cmap="viridis")
    axes.set_yticks(range(count), [plain_text(_shortened(caption)) for caption in captions], fontsize=7)
    axes.set_xticks(range(count), [str(number + 1) for number in range(count)])
    axes.set_xlabel("image")
    figure.colorbar(shown, label="cosine")
    save_figure(figure, path)


def _shortened(caption: str) -> str:
    return caption if len(caption) <= _LONGEST else f"{caption[: _LONGEST - 1]}…"
