"""What each target token looked at in the source, as a picture. Theory: docs/cross_attention.md."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ds_core import record
from ds_core.recipes.translation.corpus import source_tokens
from ds_core.recipes.translation.token_maps import draw_token_maps
from ds_core.recipes.translation.translator import Translator
from ds_core.text.tokenizers import BEGIN
from ds_core.training.evaluation import evaluation_mode
from torch import Tensor

from ds_transformers.attentions.cross_attention import CrossAttention, Kept
from ds_transformers.seq2seq.seq2seq_transformer import Seq2SeqTransformer

# B = sentences, H = heads, S = source tokens, T = target tokens


def cross_attention_maps(model: Seq2SeqTransformer, source: Tensor, target: Tensor) -> list[Tensor]:
    """The probabilities of every attention to the memory, (B, H, T, S), one for each call of a decoder layer.

    Attention keeps them for its backward, so the trace of a forward pass holds them.

    Args:
        model: called with source (B, S) and target (B, T), in evaluation mode.

    Raises:
        ValueError: the attention keeps no probabilities, because it is tiled.
    """
    crosses = [module for module in model.modules() if isinstance(module, CrossAttention)]
    if any(cross.implementation == "tiled" for cross in crosses):
        raise ValueError("cross_attention_maps: tiled attention keeps no probabilities; build the model vectorized")
    with evaluation_mode(model), _all_kept(model), record() as trace:
        model.forward(source, target)
        kept = [Kept(*entry.saved) for entry in trace.entries if isinstance(entry.layer, CrossAttention)]
        model.backward(None)
    return [each.of_implementation for each in kept]


def plot_attention(translator: Translator, sentence: str, translation: str, path: str | Path) -> None:
    """A PNG of the last decoder layer: the mean over heads, and each head, over the tokens of both sentences.

    Raises:
        MissingPackageError: matplotlib is not installed.
        WriteError: the file cannot be written.
    """
    source = source_tokens(translator.source_tokenizer, [sentence])[0]
    (target,) = translator.target_tokenizer.encode_batch([translation])
    maps = cross_attention_maps(translator.model, translator.padded([source]), translator.padded([[BEGIN, *target]]))
    last = maps[-1][0]  # (H, T, S)
    rows = [*translator.target_tokenizer.tokens(target), "end"]
    columns = [*translator.source_tokenizer.tokens(source[:-1]), "end"]
    pictures = {"mean over heads": last.mean(0), **{f"head {head + 1}": last[head] for head in range(len(last))}}
    draw_token_maps(path, pictures, rows, columns)


@contextmanager
def _all_kept(model: Seq2SeqTransformer) -> Iterator[None]:
    """Inside, layers that would keep only their input, and compute the rest again in backward, keep all."""
    decoder = model.transformer.decoder
    recompute, decoder.recompute = decoder.recompute, False
    try:
        yield
    finally:
        decoder.recompute = recompute
