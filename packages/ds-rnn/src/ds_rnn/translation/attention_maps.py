"""What each target token looked at in the source, as a picture. Theory: docs/attention.md."""

from pathlib import Path

import torch
from ds_core import UserError, record
from ds_core.recipes.translation.corpus import source_tokens
from ds_core.recipes.translation.token_maps import draw_token_maps
from ds_core.recipes.translation.translator import Translator
from ds_core.text.tokenizers import BEGIN
from ds_core.training.evaluation import evaluation_mode
from torch import Tensor

from ds_rnn.attention.attention import Attention
from ds_rnn.seq2seq.seq2seq_rnn import Seq2SeqRNN

# B = sentences, S = source tokens, T = target tokens


def attention_maps(model: Seq2SeqRNN, source: Tensor, target: Tensor) -> Tensor:
    """source (B, S), target (B, T) -> the weight of each source token in what each target token was told, (B, T, S).

    Attention keeps the weights for its backward, so the trace of a forward pass holds them.

    Raises:
        ValueError: the model has no attention.
    """
    if model.decoder.attention is None:
        raise ValueError('attention_maps: given a model with attention="none", which looks at nothing')
    with evaluation_mode(model), record() as trace:
        model.forward(source, target)
        entries = [entry.saved for entry in trace.entries if isinstance(entry.layer, Attention)]
        # a call keeps what its scores need, and then the weights with the memory
        weights = [saved[0] for saved in entries[1::2]]
        model.backward(None)
    return torch.cat(weights, 1)


def plot_attention(translator: Translator, sentence: str, translation: str, path: str | Path) -> None:
    """A PNG of what each token of the translation looked at.

    Raises:
        UserError: the model has no attention.
        MissingPackageError: matplotlib is not installed.
        WriteError: the file cannot be written.
    """
    if translator.model.decoder.attention is None:
        raise UserError("the model was trained without attention, so there is nothing to draw")
    source = source_tokens(translator.source_tokenizer, [sentence])[0]
    (target,) = translator.target_tokenizer.encode_batch([translation])
    weights = attention_maps(translator.model, translator.padded([source]), translator.padded([[BEGIN, *target]]))[0]
    rows = [*translator.target_tokenizer.tokens(target), "end"]
    columns = [*translator.source_tokenizer.tokens(source[:-1]), "end"]
    draw_token_maps(path, {"attention": weights}, rows, columns)
