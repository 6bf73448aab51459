"""The recipe `translate` of the command `ds`: a Transformer that learns to translate from pairs of sentences."""

from pathlib import Path

import torch
from ds_core import TokenCrossEntropy
from ds_core.recipes.translation.commands import translation_recipe
from ds_core.recipes.translation.run import TranslationRun
from ds_core.recipes.translation.translator import Translator
from ds_core.testing import Report, report
from ds_core.text.tokenizers import PAD

from ds_transformers.seq2seq.seq2seq_transformer import Seq2SeqConfig, Seq2SeqTransformer
from ds_transformers.translation.attention_maps import plot_attention
from ds_transformers.translation.options import TranslateOptions


def build_model(options: TranslateOptions, source_vocab: int, target_vocab: int) -> Seq2SeqTransformer:
    """The model that the options ask for, its weights drawn from the default generator."""
    config = Seq2SeqConfig(
        source_vocab,
        target_vocab,
        embed_dim=options.embed_dim,
        num_heads=options.num_heads,
        dim_feedforward=options.dim_feedforward,
        num_encoder_layers=options.num_encoder_layers,
        num_decoder_layers=options.num_decoder_layers,
        dropout=options.dropout,
        norm_first=options.norm_first,
        activation=options.activation,
        shared=options.share_vocabulary,
        tied=options.tied,
        share_weights=options.share_weights,
        pad=PAD,
    )
    return Seq2SeqTransformer(config, recompute=options.recompute)


class TranslateRun(TranslationRun[TranslateOptions, Seq2SeqTransformer]):
    """`ds train translate`."""

    name = "translate"
    options_type = TranslateOptions
    draw_attention = staticmethod(plot_attention)

    def build_model(self) -> Seq2SeqTransformer:
        return build_model(self.options, *self.vocab_sizes)

    @classmethod
    def load(cls, folder: str | Path, weights: str = "final", device: torch.device | str = "cpu") -> Translator:
        translator = super().load(folder, weights, device)
        stacks = translator.model.transformer
        stacks.encoder.recompute = stacks.decoder.recompute = False  # nothing is kept for a backward anyway
        return translator

    def model_in_words(self) -> str:
        options = self.options
        layers = f"{options.num_encoder_layers} + {options.num_decoder_layers} layers"
        return f"a Transformer of {layers}, {options.embed_dim} wide,"


def check() -> Report:
    """`ds check translate`: every gradient of a small model, handwritten, by autograd and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    config = Seq2SeqConfig(
        13,
        13,
        embed_dim=8,
        num_heads=2,
        dim_feedforward=12,
        num_encoder_layers=2,
        num_decoder_layers=2,
        dropout=0.0,
    )
    model = Seq2SeqTransformer(config, generator=generator)
    source, target = (torch.randint(1, 13, (2, size), generator=generator) for size in (4, 6))
    source[1, 2:] = config.pad
    return report(model, (source, target[:, :-1]), TokenCrossEntropy(label_smoothing=0.1), target[:, 1:])


recipe = translation_recipe(
    TranslateRun,
    "a Transformer that learns to translate: the sentences it brings, Multi30k, or pairs of yours",
    check,
)
