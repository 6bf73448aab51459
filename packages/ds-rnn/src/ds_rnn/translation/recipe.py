"""The recipe `translate-rnn`: an encoder and a decoder, both recurrent, that learn to translate."""

import torch
from ds_core import TokenCrossEntropy, Trainer
from ds_core.recipes.translation.commands import translation_recipe
from ds_core.recipes.translation.run import TranslationRun
from ds_core.testing import Report, report
from ds_core.text.tokenizers import PAD

from ds_rnn.seq2seq.seq2seq_rnn import Seq2SeqRNN, Seq2SeqRNNConfig
from ds_rnn.seq2seq.teacher_forcing import TeacherForcing
from ds_rnn.translation.attention_maps import plot_attention
from ds_rnn.translation.options import TranslateRNNOptions


class TranslateRNNRun(TranslationRun[TranslateRNNOptions, Seq2SeqRNN]):
    """`ds train translate-rnn`."""

    name = "translate-rnn"
    options_type = TranslateRNNOptions
    draw_attention = staticmethod(plot_attention)

    def build_model(self) -> Seq2SeqRNN:
        options = self.options
        source_vocab, target_vocab = self.vocab_sizes
        config = Seq2SeqRNNConfig(
            source_vocab,
            target_vocab,
            embed_dim=options.embed_dim,
            hidden_size=options.hidden_size,
            num_layers=options.num_layers,
            cell=options.cell,
            attention=options.attention,
            dropout=options.dropout,
            shared=options.share_vocabulary,
            tied=options.tied,
            pad=PAD,
        )
        return Seq2SeqRNN(config)

    def make_trainer(self) -> Trainer:
        options, trainer = self.options, super().make_trainer()
        if options.teacher_forcing < 1:
            trainer.callbacks.append(
                TeacherForcing(self.model, options.teacher_forcing, self.steps, options.forcing_schedule)
            )
        return trainer

    def model_in_words(self) -> str:
        options = self.options
        attention = "without attention" if options.attention == "none" else f"with {options.attention}'s attention"
        return f"an encoder and decoder of {options.num_layers} {options.cell} layer(s) {attention}"

    def describe(self) -> str:
        options = self.options
        forcing = (
            f"; the share of true tokens given to the decoder falls to {options.teacher_forcing:g} "
            f"({options.forcing_schedule})"
        )
        return super().describe() + (forcing if options.teacher_forcing < 1 else "")

    @property
    def has_attention(self) -> bool:
        return self.options.attention != "none"


def check() -> Report:
    """`ds check translate-rnn`: every gradient of a small model, handwritten, by autograd and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    config = Seq2SeqRNNConfig(13, 13, embed_dim=6, hidden_size=5, num_layers=2, dropout=0.0)
    model = Seq2SeqRNN(config, generator=generator)
    source, target = (torch.randint(1, 13, (2, size), generator=generator) for size in (4, 6))
    source[1, 2:] = config.pad
    return report(model, (source, target[:, :-1]), TokenCrossEntropy(label_smoothing=0.1), target[:, 1:])


recipe = translation_recipe(
    TranslateRNNRun,
    "recurrent encoder and decoder with attention that learn to translate: the sentences it brings, or pairs of yours",
    check,
)
