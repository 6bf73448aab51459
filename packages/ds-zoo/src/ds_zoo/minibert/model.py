"""MiniBERT: BERT's architecture without a head, both passes written out. Theory: docs/minibert/model.md."""

from pathlib import Path
from typing import Any

import torch
from ds_core import GELU, LayerNorm, Linear, Module, ShapeError, Tanh
from ds_core.engine.composition import backward_through, merge_gradients, trainable
from ds_core.initializers import normal_
from ds_transformers import FeedForward, PostNormBlock, SelfAttention
from torch import Tensor

from ds_zoo.minibert.config import MiniBERTConfig
from ds_zoo.minibert.embeddings import BertEmbeddings
from ds_zoo.minibert.outputs import BertOutput
from ds_zoo.towers import attention_for

# B = batch, T = time, E = embed_dim


class Pooler(Module):
    """p = tanh(dense(h_0)): one vector for a text, made of its first token's, which is [CLS].

    Args:
        embed_dim: E.
    """

    def __init__(self, embed_dim: int, **options: Any) -> None:
        self.dense = Linear(embed_dim, embed_dim, **options)
        self.activation = Tanh()

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden (B, T, E) -> p (B, E)."""
        self.save(hidden.shape)
        p: Tensor = self.activation.forward(self.dense.forward(hidden[:, 0]))  # p_b = tanh(W h_b0 + c)         (2)
        return p

    def backward(self, dp: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dp (B, E) -> dhidden (B, T, E)."""
        dfirst: Tensor | None = backward_through([self.dense, self.activation], dp, input_gradient=input_gradient)
        (shape,) = self.saved()
        if dfirst is None:
            return None
        dhidden: Tensor = dfirst.new_zeros(shape)
        dhidden[:, 0] = dfirst  # dh_bt = W^T ((1 - p_b^2) dp_b) for t = 0, otherwise 0                         (3)
        return dhidden


class MiniBERT(Module):
    """Tokens to a vector for each, which has seen all of the text, and one for the text (Devlin et al., 2019).

    transformers' BertModel. Embeddings are added and normalised; each block lets every token look at every other, then
    thinks about each by itself, with a norm after either. The classes in heads.py put a task on top.

    Args:
        config: the sizes.
        pooler: whether the vector of the whole text is computed; masked language modelling does without it.
        implementation: of the attention: "vectorized", "tiled" or "loops". None takes the faster one: tiled for texts
            of more than 128 tokens.
        generator: draws the initial weights.

    Raises:
        ShapeError: from `forward`, if ids or mask do not fit each other or the config.
    """

    def __init__(
        self,
        config: MiniBERTConfig,
        *,
        pooler: bool = True,
        implementation: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.config = config
        embed_dim = config.embed_dim
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        drawn = {**options, "generator": generator}
        implementation = attention_for(config.max_length, implementation)

        def block() -> PostNormBlock:
            attention = SelfAttention(
                embed_dim,
                config.num_heads,
                dropout=config.attention_dropout,
                implementation=implementation,
                **drawn,
            )
            return PostNormBlock(
                attention,
                FeedForward(embed_dim, config.hidden_dim, GELU(), **drawn),
                norm1=LayerNorm(embed_dim, config.epsilon, **options),
                norm2=LayerNorm(embed_dim, config.epsilon, **options),
                dropout=config.dropout,
            )

        self.embeddings = BertEmbeddings(config, **drawn)
        self.blocks = [block() for _ in range(config.num_layers)]
        self.pooler = Pooler(embed_dim, **drawn) if pooler else None
        initialise(self, config, generator)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> BertOutput:
        """input_ids (B, T) int64 -> a vector for each token and, with a pooler, one for each text.

        Args:
            attention_mask: (B, T), 0 where a token is padding, which no token looks at: on the left, on the right or
                between others. A text of padding alone attends to nothing: its attention is 0.
            token_type_ids, position_ids: see `BertEmbeddings.forward`.
        """
        if attention_mask is not None and attention_mask.shape != input_ids.shape:
            raise ShapeError(
                f"MiniBERT: given an attention_mask of shape {tuple(attention_mask.shape)} beside input_ids of "
                f"{tuple(input_ids.shape)}, expected the same shape"
            )
        hidden = self.embeddings.forward(input_ids, token_type_ids, position_ids)
        options = {} if attention_mask is None else {"key_padding_mask": attention_mask == 0}
        for block in self.blocks:
            hidden = block.forward(hidden, **options)  # h^l = block_l(h^(l-1))                                 (1)
        return BertOutput(hidden, None if self.pooler is None else self.pooler.forward(hidden))

    def backward(self, gradients: BertOutput | None, *, input_gradient: bool = True) -> None:
        """The gradients of the outputs; ids are whole numbers and get none."""
        gradients = BertOutput() if gradients is None else gradients
        below = [self.embeddings, *self.blocks]
        dhidden = gradients.last_hidden_state
        if self.pooler is not None:
            dfirst = self.pooler.backward(gradients.pooler_output, input_gradient=trainable(*below))
            dhidden = merge_gradients(dhidden, dfirst)  # h is used by the caller and by the pooler             (4)
        backward_through(below, dhidden, input_gradient=False)

    def criterion(self) -> Any:
        """BERT without a head has no loss.

        Raises:
            TypeError: always; it names the classes that have one.
        """
        raise TypeError(
            "MiniBERT has no loss of its own, as transformers' BertModel has none: take MiniBERTForMaskedLM, "
            "MiniBERTForPreTraining, MiniBERTForSequenceClassification or MiniBERTForTokenClassification"
        )

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        architecture: str | None = None,
        num_labels: int | None = None,
        implementation: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> Any:
        """Read a BERT that transformers or `save_pretrained` wrote; details in docs/minibert/pretrained.md.

        Args:
            architecture: whose head the model gets, by transformers' name, such as "BertForSequenceClassification";
                by default the one that config.json names. What the folder has no weights for is drawn anew.
            num_labels: the classes of a classifier that is drawn anew; by default those of config.json.
            dtype: what the weights are cast to; by default they keep the file's.
            generator: draws what is drawn anew.

        Returns:
            A `MiniBERT`, or the class of heads.py that has the architecture.

        Raises:
            CheckpointError: a file is missing or damaged, or holds a model that MiniBERT cannot compute.
        """
        from ds_zoo.minibert.pretrained import load_bert  # which knows the classes that are made of this one

        return load_bert(
            folder,
            architecture,
            num_labels,
            generator,
            implementation=implementation,
            device=device,
            dtype=dtype,
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors as transformers reads them.

        Raises:
            WriteError: the folder cannot be written.
        """
        from ds_zoo.minibert.pretrained import save_bert

        save_bert(folder, self, "BertModel")

    def extra_repr(self) -> str:
        return str(self.config)


def initialise(module: Module, config: MiniBERTConfig, generator: torch.Generator | None) -> None:
    """BERT's initial values: matrices normal, biases zero, norms one and zero, the padding token zeros."""
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            draw_initial(name, tensor, config, generator)


def draw_initial(name: str, tensor: Tensor, config: MiniBERTConfig, generator: torch.Generator | None) -> None:
    """Fill one parameter with its initial values, in place, under `torch.no_grad()`."""
    if tensor.dim() >= 2:
        normal_(tensor, 0.0, config.initializer_range, generator=generator)
        if name.endswith("tokens.weight") and config.pad_token_id is not None:
            tensor[config.pad_token_id].zero_()
    else:
        tensor.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
