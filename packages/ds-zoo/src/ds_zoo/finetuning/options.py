"""What a recipe can be told about fine-tuning, and what it does with it. Theory: docs/finetuning/options.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ds_core import UserError
from ds_core.options import option

from ds_zoo.finetuning.freezing import freeze
from ds_zoo.finetuning.lora import add_lora

LORA_TARGETS = ("attention",)
_LORA_ALPHA = 16.0
# What fine-tuning begins with unless --lr is given: of all weights, and of LoRA's updates
_LR, _LORA_LR = 1e-4, 1e-3
LR_HELP = (
    f"peak learning rate, reached after warm-up; with --from-pretrained {_LR:g}, with LoRA {_LORA_LR:g} if not given"
)


def follow_pretrained(recipe: Any, values: dict[str, Any], given: set[str]) -> set[str]:
    """For `with_presets`: fine-tuning has a smaller `lr`, as if it were given, and no sizes of a preset.

    Args:
        recipe: the class of the options.

    Returns:
        The names of what was given, `lr` among them if it was set here.
    """
    if values["from_pretrained"] is None:
        return given
    values.update({name: getattr(recipe, name) for name in recipe.decided if name not in given})
    if "lr" in given:
        return given
    values["lr"] = _LORA_LR if values["lora_rank"] else _LR
    return {*given, "lr"}


@dataclass
class FineTuningOptions:
    """Which weights training begins with, and which of them it may change; a recipe's options inherit them.

    A mixin beside `RunOptions`, whose `__post_init__` calls this one's.

    Attributes:
        decided: the options that a pretrained folder decides, so that they cannot be given beside it.
    """

    decided: ClassVar[tuple[str, ...]] = ()

    from_pretrained: Path | None = option(
        None, "fine-tune this model: a folder that ds or transformers' save_pretrained wrote", may_change=True
    )
    freeze: tuple[str, ...] = option(
        (), "parts that are not trained, by the beginning of their parameters' names, such as '*blocks.[0-3]'"
    )
    layer_decay: float = option(
        1.0, "each layer's learning rate is this factor of the one above it; 1: the same for all", minimum=0, maximum=1
    )
    lora_rank: int = option(0, "train updates of this rank beside frozen weights (LoRA); 0: the weights", minimum=0)
    lora_alpha: float = option(_LORA_ALPHA, "LoRA's updates are multiplied by this over --lora-rank", minimum=0)
    lora_targets: tuple[str, ...] = option(
        LORA_TARGETS, "layers that get LoRA's updates, by the end of their names, such as attention.out_proj"
    )

    def __post_init__(self) -> None:
        super_check = getattr(super(), "__post_init__", None)
        if super_check is not None:
            super_check()
        if self.from_pretrained is not None:
            self._check_pretrained(self.from_pretrained)
        if self.layer_decay == 0:
            raise UserError("--layer-decay: given 0, expected more than 0: --freeze names what is not to be trained")
        if self.lora_rank == 0:
            if self.lora_targets != LORA_TARGETS or self.lora_alpha != _LORA_ALPHA:
                raise UserError("--lora-targets and --lora-alpha need --lora-rank of at least 1")
            return
        if self.lora_alpha == 0:
            raise UserError("--lora-alpha: given 0, expected more than 0")
        if not self.lora_targets:
            raise UserError("--lora-targets: given nothing, expected the name of a layer, such as attention")
        if self.freeze:
            raise UserError("--freeze and --lora-rank exclude each other: LoRA freezes all weights already")
        if self.from_pretrained is None:
            raise UserError("--lora-rank needs --from-pretrained: LoRA freezes all weights, and new ones are random")

    def _check_pretrained(self, folder: Path) -> None:
        out = getattr(self, "out", None)
        if out is not None and Path(out).resolve() == folder.resolve():
            raise UserError(
                f"--out and --from-pretrained are the same folder, {folder}: the run would overwrite the model that it "
                "begins with"
            )
        for name in self.decided:
            if getattr(self, name) != getattr(type(self), name):
                flag = "--" + name.replace("_", "-")
                raise UserError(f"{flag} contradicts --from-pretrained: the model in {folder} has its own")


def prepare(model: Any, options: FineTuningOptions, *, new: Sequence[str] = ()) -> None:
    """Freeze, or add LoRA, as the options say. What LoRA draws comes from the default generator.

    Args:
        model: is changed; call it after the pretrained weights have been loaded.
        new: parts without pretrained weights, as a new head, which LoRA leaves trainable; names as `--freeze` has them.

    Raises:
        UserError: a name that fits nothing in the model, or nothing is left to train.
    """
    try:
        if options.lora_rank:
            add_lora(model, options.lora_rank, options.lora_alpha, options.lora_targets, trained=new)
        else:
            freeze(model, options.freeze)
    except ValueError as error:
        flag = "--lora-targets" if options.lora_rank else "--freeze"
        raise UserError(f"{flag}: {str(error).partition(': ')[2]}") from error
