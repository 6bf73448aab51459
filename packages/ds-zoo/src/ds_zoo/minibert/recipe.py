"""The recipe `minibert` of the command `ds`: train a BERT on a text or on classified ones, and use it."""

import torch
from ds_core.recipes import Command, Recipe
from ds_core.testing import Report, report

from ds_zoo.minibert.classify import ClassifyRun
from ds_zoo.minibert.config import MiniBERTConfig
from ds_zoo.minibert.heads import MiniBERTForPreTraining
from ds_zoo.minibert.masking import IGNORED
from ds_zoo.minibert.options import MiniBERTOptions, PredictOptions
from ds_zoo.minibert.predict import predict_text
from ds_zoo.minibert.run import MaskedRun


def train(options: MiniBERTOptions) -> None:
    """`ds train minibert`."""
    run = MaskedRun if options.labelled is None else ClassifyRun
    run.train(options)


def check() -> Report:
    """`ds check minibert`: every gradient of a small MiniBERT with both of its heads, handwritten, by autograd and by
    finite differences."""
    generator = torch.Generator().manual_seed(0)
    config = MiniBERTConfig(11, 6, 2, 2, 8, 12, dropout=0.0, attention_dropout=0.0, initializer_range=0.3)
    model = MiniBERTForPreTraining(config, generator=generator)
    tokens = 1 + torch.randint(10, (3, 6), generator=generator)  # not the padding token, which is not trained
    mask = torch.ones(3, 6, dtype=torch.int64)
    mask[1, 4:] = 0
    types = (torch.arange(6) > 2).long().expand(3, 6)
    labels = torch.where(torch.arange(6) % 3 == 1, tokens, IGNORED)
    return report(model, (tokens, mask, types), model.criterion(), (labels, torch.tensor([0, 1, 1])))


recipe = Recipe(
    name="minibert",
    summary="a BERT that guesses masked words of a text, or classifies texts of yours",
    options=MiniBERTOptions,
    train=train,
    commands=(Command("predict", "fill in [MASK], or name the class of a text", PredictOptions, predict_text),),
    check=check,
)
