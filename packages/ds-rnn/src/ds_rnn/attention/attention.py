"""The layers that look a memory up: Bahdanau's and Luong's attention. Theory: docs/attention.md."""

from abc import abstractmethod

import torch
from ds_core import Linear, Module, ShapeError, accumulate, parameter
from ds_core.engine.trace import describe
from ds_core.initializers import uniform_
from torch import Tensor

from ds_rnn.attention.additive_scores import additive_scores, additive_scores_backward
from ds_rnn.attention.weighted_mean import weighted_mean, weighted_mean_backward

# B = sequences, T = queries, S = positions of the memory, Q = query_size, M = memory_size, A = numbers of a key


class Attention(Module):
    """What both share: keys are made of the memory once, and each query reads a weighted mean of the memory.

    `forward(query, keys, memory, padding)` takes (B, T, Q), (B, S, A), (B, S, M) and (B, S), True where the memory
    holds nothing, and gives the contexts (B, T, M). A sequence that is all padding reads zeros. `backward(dcontext)`
    gives (dquery, dkeys, dmemory). The keys of a memory are `keys.forward(memory)`, and the caller does their backward,
    so that many steps can share them.

    Raises:
        ShapeError: from `forward`, if a shape does not fit the layer, or the others.
    """

    query_size: int
    memory_size: int
    keys: Linear

    def forward(self, query: Tensor, keys: Tensor, memory: Tensor, padding: Tensor | None = None) -> Tensor:
        self._check(query, keys, memory, padding)
        context, p = weighted_mean(self._scores(query, keys), memory, padding)
        self.save(p, memory)
        return context

    def backward(self, dcontext: Tensor | None) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        p, memory = self.saved()
        if dcontext is None:
            self._scores_backward(None)
            return None, None, None
        dscores, dmemory = weighted_mean_backward(dcontext, p, memory)
        dquery, dkeys = self._scores_backward(dscores)
        return dquery, dkeys, dmemory

    @abstractmethod
    def _scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """query (B, T, Q), keys (B, S, A) -> (B, T, S)."""

    @abstractmethod
    def _scores_backward(self, dscores: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """dscores (B, T, S) -> dquery, dkeys."""

    def _check(self, query: Tensor, keys: Tensor, memory: Tensor, padding: Tensor | None) -> None:
        batch, positions = memory.shape[:2] if memory.dim() == 3 else (-1, -1)
        queries = query.shape[1] if query.dim() == 3 else -1
        expected = {
            "query": (batch, queries, self.query_size),
            "keys": (batch, positions, self.keys.weight.shape[0]),
            "memory": (batch, positions, self.memory_size),
            "padding": (batch, positions),
        }
        given = {"query": query, "keys": keys, "memory": memory, **({} if padding is None else {"padding": padding})}
        if any(tuple(tensor.shape) != expected[name] for name, tensor in given.items()):
            shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in given.items())
            raise ShapeError(
                f"{describe(self)}: given {shapes}, expected query (B, T, {self.query_size}), keys (B, S, "
                f"{self.keys.weight.shape[0]}), memory (B, S, {self.memory_size}) and padding (B, S)"
            )

    def extra_repr(self) -> str:
        return f"{self.query_size}, {self.memory_size}"


class AdditiveAttention(Attention):
    """e_ts = w . tanh(W_q q_t + W_k m_s + b): Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning
    to Align and Translate", 2015, appendix A.1.2.

    Args:
        query_size: Q.
        memory_size: M.
        attention_size: A, the width of the network inside.
        generator: where the initial weights are drawn from.
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        attention_size: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        self.query_size, self.memory_size = query_size, memory_size
        self.queries = Linear(query_size, attention_size, False, device, dtype, generator=generator)
        self.keys = Linear(memory_size, attention_size, True, device, dtype, generator=generator)
        bound = attention_size**-0.5
        weight = torch.empty(attention_size, device=device, dtype=dtype)
        self.weight = parameter(uniform_(weight, -bound, bound, generator=generator))

    def _scores(self, query: Tensor, keys: Tensor) -> Tensor:
        scores, u = additive_scores(self.queries.forward(query), keys, self.weight)
        self.save(u)
        return scores

    def _scores_backward(self, dscores: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        (u,) = self.saved()
        if dscores is None:
            return self.queries.backward(None), None
        dquery, dkeys, dweight = additive_scores_backward(
            dscores, u, self.weight, (True, True, self.weight.requires_grad)
        )
        accumulate(self.weight, dweight)
        return self.queries.backward(dquery), dkeys


class MultiplicativeAttention(Attention):
    """e_ts = q_t . W m_s: the score "general" of Luong, Pham and Manning, "Effective Approaches to Attention-based
    Neural Machine Translation", 2015, equation 8.

    Args:
        query_size: Q.
        memory_size: M.
        generator: where the initial weights are drawn from.
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        self.query_size, self.memory_size = query_size, memory_size
        self.keys = Linear(memory_size, query_size, False, device, dtype, generator=generator)

    def _scores(self, query: Tensor, keys: Tensor) -> Tensor:
        self.save(query, keys)
        return torch.bmm(query, keys.transpose(1, 2))  # e_ts = sum_q query_tq keys_sq                      (1)

    def _scores_backward(self, dscores: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        query, keys = self.saved()
        if dscores is None:
            return None, None
        # dquery = de keys, dkeys = de^T query                                                         (2), (3)
        return torch.bmm(dscores, keys), torch.bmm(dscores.transpose(1, 2), query)
