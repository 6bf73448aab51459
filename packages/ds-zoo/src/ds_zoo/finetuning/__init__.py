"""Fine-tuning: pretrained weights that learn something new, all of them, some, or small updates beside them."""

from ds_zoo.finetuning.freezing import freeze
from ds_zoo.finetuning.layer_decay import parameter_groups
from ds_zoo.finetuning.lora import add_lora, folded_state, has_lora
from ds_zoo.finetuning.lora_layers import LoRALinear, LoRASelfAttention
from ds_zoo.finetuning.options import FineTuningOptions, prepare

__all__ = [
    "FineTuningOptions",
    "LoRALinear",
    "LoRASelfAttention",
    "add_lora",
    "folded_state",
    "freeze",
    "has_lora",
    "parameter_groups",
    "prepare",
]
