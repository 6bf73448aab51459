"""The sizes of a MiniGPT, and transformers' config.json of them. Theory: docs/minigpt/pretrained.md."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ds_core.training.pretrained_files import check_fixed


@dataclass(frozen=True)
class MiniGPTConfig:
    """The sizes of a MiniGPT; the defaults are GPT-2's smallest (Radford et al., "Language Models are Unsupervised
    Multitask Learners", 2019).

    Args:
        vocab_size: V, how many different tokens there are.
        block_size: the most tokens the model looks at together.
        num_layers: how many blocks follow one another.
        num_heads: attention heads in a block; must divide `embed_dim`.
        embed_dim: the length of a token's vector.
        dropout: the share of activations dropped in training, after the embedding, on the attention weights and at
            the end of each branch.
        bias: whether linear layers and normalisations have a bias. GPT-2 has them; False leaves all of them out.
        epsilon: what the normalisations add to the variance.

    Raises:
        TypeError, ValueError: a size is not a positive whole number, `num_heads` does not divide `embed_dim`, the
            dropout is outside [0, 1), epsilon is not positive.
    """

    vocab_size: int = 50257
    block_size: int = 1024
    num_layers: int = 12
    num_heads: int = 12
    embed_dim: int = 768
    dropout: float = 0.1
    bias: bool = True
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("vocab_size", "block_size", "num_layers", "num_heads", "embed_dim"):
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool):
                raise TypeError(f"MiniGPTConfig: {name} is {size!r}, expected a whole number")
            if size < 1:
                raise ValueError(f"MiniGPTConfig: {name} is {size}, expected at least 1")
        if self.embed_dim % self.num_heads:
            raise ValueError(f"MiniGPTConfig: {self.num_heads} heads do not divide an embed_dim of {self.embed_dim}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"MiniGPTConfig: dropout is {self.dropout}, expected 0 <= dropout < 1")
        if not isinstance(self.bias, bool):
            raise TypeError(f"MiniGPTConfig: bias is {self.bias!r}, expected True or False")
        if not self.epsilon > 0.0:
            raise ValueError(f"MiniGPTConfig: epsilon is {self.epsilon}, expected a positive number")


def to_hugging_face(config: MiniGPTConfig) -> dict[str, Any]:
    """The config.json that transformers reads as a GPT-2 of the same sizes.

    GPT-2 there always has biases, so a model without them is saved with biases of zero, which compute the same;
    `deepscratch_bias: false` (transformers keeps such a field and ignores it) lets MiniGPT leave them out again.
    """
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_ctx": config.block_size,
        "n_embd": config.embed_dim,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": None,
        "activation_function": "gelu_new",
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "layer_norm_epsilon": config.epsilon,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": None,
        "deepscratch_bias": config.bias,
    }


# Fields of a GPT-2 config.json that change the mathematics, and the one value of each that MiniGPT computes.
# An absent field has transformers' own default, which is that value for all of them.
_FIXED = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh"),
    "tie_word_embeddings": (True,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
_NAMES = {
    "vocab_size": "vocab_size",
    "block_size": "n_positions",
    "num_layers": "n_layer",
    "num_heads": "n_head",
    "embed_dim": "n_embd",
    "dropout": "resid_pdrop",
    "bias": "deepscratch_bias",
    "epsilon": "layer_norm_epsilon",
}


def from_hugging_face(fields_given: Mapping[str, Any], dropout: float | None = None) -> MiniGPTConfig:
    """Read transformers' GPT-2 config.json; `dropout` overrides the three rates that it may hold.

    Raises:
        ValueError: a model that is not GPT-2, or one with an option that MiniGPT does not have.
    """
    check_fixed("MiniGPT", fields_given, _FIXED)
    default = MiniGPTConfig()
    values = {
        field.name: fields_given.get(_NAMES[field.name], getattr(default, field.name)) for field in fields(default)
    }
    if fields_given.get("n_inner") not in (None, 4 * values["embed_dim"]):
        raise ValueError(f"n_inner is {fields_given['n_inner']}; MiniGPT reads only four times n_embd")
    rates = {fields_given.get(name, default.dropout) for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop")}
    if dropout is not None:
        values["dropout"] = dropout
    elif len(rates) > 1:
        raise ValueError(f"dropout rates differ: {', '.join(map(str, sorted(rates)))}; MiniGPT has one: give dropout=")
    return MiniGPTConfig(**values)
