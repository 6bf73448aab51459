"""What each target token looked at in the source: a decoder's attention, seen. Theory: docs/cross_attention.md."""

from pathlib import Path
from typing import Any

from ds_core import record
from ds_core.figures import new_figure, plain_text, save_figure
from ds_core.training.evaluation import evaluation_mode
from torch import Tensor

from ds_transformers.attentions.cross_attention import CrossAttention
from ds_transformers.translation.corpus import source_tokens
from ds_transformers.translation.tokenizer import BEGIN
from ds_transformers.translation.translating import Translator

# H = heads, S = source tokens, T = target tokens


def cross_attention_maps(model: Any, source: Tensor, target: Tensor) -> list[Tensor]:
    """The probabilities of every attention to the memory, (B, H, T, S), one for each decoder layer.

    They are what the "vectorized" implementation keeps for its backward, so the trace of a forward pass holds them.

    Args:
        model: called with source (B, S) and target (B, T).

    Raises:
        ValueError: an implementation that keeps no probabilities.
    """
    with evaluation_mode(model), record() as trace:
        model.forward(source, target)
        crosses = [saved for layer, saved in trace.entries if isinstance(layer, CrossAttention)]
        model.backward(None)
    maps = [saved[3] for saved in crosses]
    if any(kept.shape[-1] != source.shape[1] for kept in maps):
        raise ValueError("cross_attention_maps: the model's attention keeps no probabilities; build it vectorized")
    return maps


def plot_attention(translator: Translator, sentence: str, translation: str, path: str | Path) -> None:
    """A PNG of the last decoder layer: the mean over heads, and each head, over the pieces of both sentences.

    Raises:
        MissingPackageError: matplotlib is not installed.
        WriteError: the file cannot be written.
    """
    source = source_tokens(translator.source_tokenizer, [sentence])[0]
    target = translator.target_tokenizer.encode(translation)
    maps = cross_attention_maps(translator.model, translator.padded([source]), translator.padded([[BEGIN, *target]]))
    last = maps[-1][0].float().cpu()  # (H, T, S)
    rows = [*translator.target_tokenizer.pieces(target), "end"]
    columns = [*translator.source_tokenizer.pieces(source[:-1]), "end"]
    pictures = {"mean over heads": last.mean(0), **{f"head {head + 1}": last[head] for head in range(len(last))}}
    across = min(3, len(pictures))
    down = -(-len(pictures) // across)
    size = (0.28 * len(columns) + 1.3, 0.28 * len(rows) + 1.3)
    figure = new_figure(across * max(2.4, size[0]), down * max(2.2, size[1]))
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for panel in panels[len(pictures) :]:
        panel.axis("off")
    for panel, (title, picture) in zip(panels, pictures.items(), strict=False):
        panel.imshow(picture.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        panel.set_title(title, fontsize=9)
        panel.set_xticks(range(len(columns)), [plain_text(piece) for piece in columns], rotation=90, fontsize=7)
        panel.set_yticks(range(len(rows)), [plain_text(piece) for piece in rows], fontsize=7)
    save_figure(figure, path)
