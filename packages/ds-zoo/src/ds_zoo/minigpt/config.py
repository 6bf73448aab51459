"""The sizes of a MiniGPT, and transformers' config.json of them. Theory: docs/minigpt/pretrained.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ds_core.arguments import probability, real_number, whole_number
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
        hidden_dim: the width of the feed-forward layers between; None: four times `embed_dim`.
        dropout: the share of activations dropped in training, after the embedding, on the attention weights and at
            the end of each branch.
        embedding_dropout, attention_dropout: other shares after the embedding and on the attention weights; None:
            `dropout`.
        bias: whether linear layers and normalisations have a bias. GPT-2 has them; False leaves all of them out.
        epsilon: what the normalisations add to the variance.

    Raises:
        TypeError, ValueError: a size is not a positive whole number, `num_heads` does not divide `embed_dim`, a
            dropout is outside [0, 1), epsilon is not positive.
    """

    vocab_size: int = 50257
    block_size: int = 1024
    num_layers: int = 12
    num_heads: int = 12
    embed_dim: int = 768
    hidden_dim: int | None = None
    dropout: float = 0.1
    bias: bool = True
    epsilon: float = 1e-5
    embedding_dropout: float | None = None
    attention_dropout: float | None = None

    def __post_init__(self) -> None:
        for name in ("vocab_size", "block_size", "num_layers", "num_heads", "embed_dim", "hidden_dim"):
            if name != "hidden_dim" or self.hidden_dim is not None:
                whole_number("MiniGPTConfig", name, getattr(self, name))
        if self.embed_dim % self.num_heads:
            raise ValueError(f"MiniGPTConfig: {self.num_heads} heads do not divide an embed_dim of {self.embed_dim}")
        for name in ("dropout", "embedding_dropout", "attention_dropout"):
            rate = getattr(self, name)
            if (rate is not None or name == "dropout") and probability("MiniGPTConfig", name, rate) == 1:
                raise ValueError(f"MiniGPTConfig: given {name}=1, expected less")
        if not isinstance(self.bias, bool):
            raise TypeError(f"MiniGPTConfig: bias is {self.bias!r}, expected True or False")
        if real_number("MiniGPTConfig", "epsilon", self.epsilon) <= 0:
            raise ValueError(f"MiniGPTConfig: given epsilon={self.epsilon}, expected a positive number")

    @property
    def dropout_rates(self) -> tuple[float, float, float]:
        """After the embedding, on the attention weights, and at the end of each branch."""
        embedding, attention = self.embedding_dropout, self.attention_dropout
        return (
            self.dropout if embedding is None else embedding,
            self.dropout if attention is None else attention,
            self.dropout,
        )


def to_hugging_face(config: MiniGPTConfig) -> dict[str, Any]:
    """The config.json that transformers reads as a GPT-2 of the same sizes.

    GPT-2 there always has biases, so a model without them is saved with biases of zero, which compute the same;
    `deepscratch_bias: false` (transformers keeps such a field and ignores it) lets MiniGPT leave them out again.
    """
    embedding_dropout, attention_dropout, dropout = config.dropout_rates
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_ctx": config.block_size,
        "n_embd": config.embed_dim,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.hidden_dim,
        "activation_function": "gelu_new",
        "embd_pdrop": embedding_dropout,
        "attn_pdrop": attention_dropout,
        "resid_pdrop": dropout,
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
    "hidden_dim": "n_inner",
    "dropout": "resid_pdrop",
    "bias": "deepscratch_bias",
    "epsilon": "layer_norm_epsilon",
}
_DROPOUTS = {"embedding_dropout": "embd_pdrop", "attention_dropout": "attn_pdrop"}
_ARCHITECTURES = ("GPT2LMHeadModel", "GPT2Model")  # the published files are of the second, which lacks the tied head


def from_hugging_face(fields_given: Mapping[str, Any], dropout: float | None = None) -> MiniGPTConfig:
    """Read transformers' GPT-2 config.json; `dropout` overrides the three rates that it may hold.

    Raises:
        ValueError: a model that is not GPT-2, or one with an option that MiniGPT does not have.
    """
    check_fixed("MiniGPT", fields_given, _FIXED)
    architecture = next(iter(fields_given.get("architectures") or _ARCHITECTURES), None)
    if architecture not in _ARCHITECTURES:
        raise ValueError(f"architectures is [{architecture!r}]; MiniGPT reads only {' and '.join(_ARCHITECTURES)}")
    default = MiniGPTConfig()
    values = {ours: fields_given.get(theirs, getattr(default, ours)) for ours, theirs in _NAMES.items()}
    if dropout is not None:
        values["dropout"] = dropout
    else:
        rates = {ours: fields_given.get(theirs, default.dropout) for ours, theirs in _DROPOUTS.items()}
        values |= {name: rate for name, rate in rates.items() if rate != values["dropout"]}
    return MiniGPTConfig(**values)
