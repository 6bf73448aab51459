"""`ds train miniclip`: a CLIP that learns from captions alone."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from ds_core import Callback, KeepBest, Trainer
from ds_core.data.batches import Batches
from ds_core.distributed.processes import current
from ds_core.metrics import Mean
from ds_core.recipes import Run
from ds_core.recipes.choices import make_schedule
from ds_core.recipes.results import table
from ds_core.training.evaluation import evaluation_mode
from ds_core.training.pretrained_files import write_config
from ds_core.training.same_data import SameData

from ds_zoo.finetuning.optimizer import make_adamw
from ds_zoo.finetuning.options import prepare
from ds_zoo.miniclip.caption_tokenizer import CONFIG_FILE, TOKENIZER_FILE
from ds_zoo.miniclip.config import MiniCLIPConfig, TextConfig, VisionConfig, to_hugging_face
from ds_zoo.miniclip.criterion import ContrastiveLoss
from ds_zoo.miniclip.data import RETRIEVED, ClipData, read_data
from ds_zoo.miniclip.model import MiniCLIP
from ds_zoo.miniclip.options import MiniCLIPOptions
from ds_zoo.miniclip.pairs import Digits, Examples
from ds_zoo.miniclip.plots import SIMILARITY_FILE, plot_similarities
from ds_zoo.miniclip.retrieval import embed_images, embed_texts, retrieval, zero_shot_accuracy
from ds_zoo.scenes import digit_prompts

PREPROCESSOR_FILE = "preprocessor_config.json"
LARGEST_SCALE = math.log(100)


class ClampScale(Callback):
    """After each step the learned scale is at most 100 (Radford et al., 2021, section 2.5).

    Beyond that a pair counts for nothing but whether it is the nearest, and training becomes unstable.
    """

    def on_step_end(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        with torch.no_grad():
            trainer.model.similarity.logit_scale.clamp_(max=LARGEST_SCALE)


class MiniCLIPRun(Run[MiniCLIPOptions, ClipData, MiniCLIP]):
    """`ds train miniclip`."""

    name = "miniclip"
    files = ("config.json", "model.safetensors", TOKENIZER_FILE, CONFIG_FILE, PREPROCESSOR_FILE, SIMILARITY_FILE)

    def read_data(self) -> ClipData:
        return read_data(self.options, self.device, self.dtype)

    def build_model(self) -> MiniCLIP:
        options = self.options
        gather = current().world_size > 1
        if options.from_pretrained is None:
            model = MiniCLIP(config_of(options, self.data), gather=gather)
        else:
            model = MiniCLIP.from_pretrained(options.from_pretrained, gather=gather)
        prepare(model, options)
        return model

    def make_batches(self) -> Batches:
        return self.data.batches(self.options)

    def count_steps(self) -> int:
        return self.options.steps

    def make_trainer(self) -> Trainer:
        options = self.options
        optimizer = make_adamw(self.model, options)
        schedule = make_schedule(
            "cosine", optimizer, self.steps, warmup_steps=min(options.warmup_steps, self.steps), min_lr=options.min_lr
        )
        return Trainer(
            self.model,
            self.model.criterion(),
            optimizer,
            schedule=schedule,
            clip_norm=options.clip_norm or None,
            accumulate=options.accumulate,
            compile=options.compile == "step",
            folder=self.folder,
            evaluate=lambda model: self.measure(),
            evaluate_every=options.evaluate_every,
            checkpoint_every=options.checkpoint_every,
            callbacks=[
                ClampScale(),
                SameData(self.data.digest, self.data.source),
                KeepBest(write=lambda trainer: trainer.model.save_pretrained(trainer.folder)),
            ],
        )

    def measure(self) -> dict[str, float]:
        """Loss, retrieval and zero-shot accuracy on the validation data."""
        data = self.data
        recall = self.retrieval(data.validation.distinct(RETRIEVED))
        values = {"loss": self.loss(data.validation), "recall_at_1": recall["image by caption, recall@1"]}
        return values if data.digits is None else {**values, "zero_shot": self.zero_shot(data.digits)}

    def loss(self, examples: Examples) -> float:
        """The contrastive loss in batches as large as in training, or one of all if there are fewer examples."""
        size, mean, criterion = min(self.options.batch_size, len(examples)), Mean(), ContrastiveLoss()
        with evaluation_mode(self.model):
            for first in range(0, len(examples) - size + 1, size):
                rows = slice(first, first + size)
                inputs, groups = self.data.prepare.batch(examples.pixel_values[rows], examples.captions[rows])
                mean.update(criterion(self.model(*inputs), groups), size)
        return mean.compute()

    def retrieval(self, examples: Examples) -> dict[str, float]:
        """Recall of examples with different captions."""
        texts = embed_texts(self.model, self.data.prepare.tokenizer, examples.captions)
        return retrieval(texts, embed_images(self.model, examples.pixel_values))

    def zero_shot(self, digits: Digits) -> float:
        """The share of scenes whose digit's prompt is the nearest of ten."""
        prompts = embed_texts(self.model, self.data.prepare.tokenizer, digit_prompts())
        return zero_shot_accuracy(prompts, embed_images(self.model, digits.pixel_values), digits.classes)

    def describe(self) -> str:
        config = self.model.config
        return (
            f"MiniCLIP with {self.parameters_in_words} (images: {config.vision.num_layers} layers, "
            f"{config.vision.embed_dim} wide; texts: {config.text.num_layers} layers, {config.text.embed_dim} wide) "
            f"learns {self.data.source}"
        )

    def write_folder(self) -> None:
        """What transformers reads, but for the weights, which `KeepBest` writes."""
        write_config(self.folder, to_hugging_face(self.model.config), self.model.state_dict())
        prepare = self.data.prepare
        prepare.tokenizer.save_pretrained(self.folder)
        prepare.processor.save_pretrained(self.folder)

    def report(self) -> Mapping[str, Any]:
        data = self.data
        found: dict[str, Any] = {"validation loss": self.loss(data.validation), **self.retrieval(data.test)}
        if data.test_digits is not None:
            found["zero-shot accuracy"] = self.zero_shot(data.test_digits)
        unseen = "" if data.test_digits is None else ", of digits that training never saw"
        print(f"found among {len(data.test)} images and captions{unseen}:")
        print(table(["", "value"], [[name, value] for name, value in found.items()]))
        scale = float(self.model.similarity.logit_scale.detach().exp())
        print(f"temperature {1 / scale:.4f} (the logits are cosines times {scale:.1f})")
        return {**found, "scale": scale}

    def plot(self) -> None:
        super().plot()
        few = self.data.test.distinct(12)
        texts = embed_texts(self.model, self.data.prepare.tokenizer, few.captions)
        plot_similarities(
            self.folder / SIMILARITY_FILE, texts, embed_images(self.model, few.pixel_values), few.captions
        )

    def next_commands(self) -> list[str]:
        texts = '--text "a three" "a seven"' if self.options.images_captions is None else '--text "..." "..."'
        return [
            f"predict {self.typed_folder} --image FILE {texts}",
            f"check {self.name}",
            f"train {self.name} --out {self.typed_folder} --resume --steps {2 * self.trainer.step}",
            f"train {self.name} --images-captions FILE --preset photos --out runs/mine",
        ]


def config_of(options: MiniCLIPOptions, data: ClipData) -> MiniCLIPConfig:
    """The sizes that the options ask for, with the vocabulary of the data."""
    tokenizer = data.prepare.tokenizer
    return MiniCLIPConfig(
        TextConfig(
            embed_dim=options.text_dim,
            num_layers=options.text_layers,
            num_heads=options.text_heads,
            hidden_dim=4 * options.text_dim,
            attention_dropout=options.attention_dropout,
            vocab_size=tokenizer.vocab_size,
            max_length=tokenizer.max_length,
            end_token=tokenizer.end_token,
            begin_token=tokenizer.begin_token,
            pad_token=tokenizer.end_token,
        ),
        VisionConfig(
            embed_dim=options.vision_dim,
            num_layers=options.vision_layers,
            num_heads=options.vision_heads,
            hidden_dim=4 * options.vision_dim,
            attention_dropout=options.attention_dropout,
            image_size=options.image_size,
            patch_size=options.patch_size,
        ),
        projection_dim=options.projection_dim,
    )
