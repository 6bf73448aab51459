"""`ds train minibert --labelled FILE`: a BERT that learns to classify texts of the user's."""

from collections.abc import Mapping
from typing import Any

import torch
from ds_core import evaluate
from ds_core.data.generators import keyed_generator
from ds_core.metrics import Accuracy
from ds_core.training.evaluation import evaluation_mode
from ds_core.training.pretrained_labels import Labels
from torch import Tensor

from ds_zoo.finetuning.options import prepare
from ds_zoo.minibert.heads import MiniBERTForSequenceClassification
from ds_zoo.minibert.run import BertRun, begin_positions, config_of, load_for_training
from ds_zoo.minibert.text_data import LabelledData, LabelledTexts, read_labelled

# B = batch, T = tokens of the longest text

_EVALUATED_TOGETHER = 64


class TextBatches:
    """Batch number `index`: `batch_size` different texts, drawn by (seed, index) alone."""

    def __init__(self, texts: LabelledTexts, batch_size: int, seed: int, device: torch.device) -> None:
        self.texts, self.batch_size, self.seed, self.device = texts, batch_size, seed, device

    def batch(self, index: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """-> (input_ids (B, T), attention_mask (B, T)), classes (B,)."""
        order = torch.randperm(len(self.texts.classes), generator=keyed_generator(self.seed, index))
        return _rows(self.texts, order[: self.batch_size], self.device)


class ClassifyRun(BertRun[LabelledData]):
    """Classes of texts, as a rule on a body that has learned the language before."""

    new = ("classifier", "bert.pooler")

    def read_data(self) -> LabelledData:
        assert self.options.labelled is not None
        return read_labelled(self.options.labelled, self.options)

    def build_model(self) -> Any:
        options, data = self.options, self.data
        kind = MiniBERTForSequenceClassification
        if options.from_pretrained is None:
            model = kind(config_of(options, data.tokenizer), labels=Labels(data.names))
            begin_positions(model, options)
        else:
            model = load_for_training(
                options.from_pretrained,
                data.tokenizer,
                options.max_length,
                architecture=kind.architecture,
                num_labels=len(data.names),
            )
            model.labels = Labels(data.names, "single_label_classification")
        prepare(model, options, new=self.new)
        return model

    def make_batches(self) -> TextBatches:
        return TextBatches(self.data.training, self.options.batch_size, self.options.seed, self.device)

    def evaluate(self, model: Any) -> Mapping[str, float]:
        texts = self.data.validation
        parts = torch.split(torch.arange(len(texts.classes)), _EVALUATED_TOGETHER)
        batches = [_rows(texts, part, self.device) for part in parts]
        metrics = {"accuracy": _ClassAccuracy()}
        found: dict[str, float] = evaluate(model, batches, model.criterion(), metrics)
        return found

    def describe(self) -> str:
        data = self.data
        cut = f", {data.cut} of them cut off at {self.options.max_length} tokens" if data.cut else ""
        return (
            f"{self.in_words()} learns {len(data.names)} classes from {data.source}: {len(data.training.classes):,} "
            f"texts to train on, {len(data.validation.classes):,} to validate on{cut}"
        )

    def report(self) -> Mapping[str, Any]:
        with evaluation_mode(self.model):
            found = self.evaluate(self.model)
        texts = self.data.validation
        most = int(torch.bincount(texts.classes).max()) / len(texts.classes)
        print(
            f"of {len(texts.classes):,} validation texts {found['accuracy']:.1%} are classified right; the most "
            f"frequent class alone would be {most:.1%}"
        )
        return {"validation": {**found, "most_frequent_class": most}}

    def next_commands(self) -> list[str]:
        return [
            f"predict {self.typed_folder} --text TEXT",
            f"train minibert --out {self.typed_folder} --resume --steps {2 * self.trainer.step}",
        ]


class _ClassAccuracy(Accuracy):
    """Accuracy of a `ClassifierOutput`."""

    def update(self, output: Any, target: Tensor) -> None:
        super().update(output.logits, target)


def _rows(texts: LabelledTexts, rows: Tensor, device: torch.device) -> tuple[tuple[Tensor, Tensor], Tensor]:
    inputs = (texts.input_ids[rows].to(device), texts.attention_mask[rows].to(device))
    return inputs, texts.classes[rows].to(device)
