"""LoRA: a frozen weight and a trained update of low rank beside it. Theory: docs/finetuning/lora.md."""

from typing import Any, TypeVar

import torch
from ds_core import Linear, accumulate, linear, linear_backward, parameter
from ds_core.arguments import real_number, whole_number
from ds_core.errors import check_last_dimension
from ds_core.initializers import uniform_
from ds_transformers import SelfAttention
from torch import Tensor

# N = all leading dimensions together, I = inputs, O = outputs, r = rank, s = scale = alpha / r

T = TypeVar("T", bound="LoRALinear | LoRASelfAttention")


def low_rank(x: Tensor, lora_a: Tensor, lora_b: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """x (..., I), lora_a (r, I), lora_b (O, r) -> the update of y (..., O), and u (..., r), which backward needs."""
    u = linear(x, lora_a, None)  # u_nk = sum_i x_ni A_ki                                            (2)
    return scale * linear(u, lora_b, None), u  # s sum_k u_nk B_ok                                   (3)


def low_rank_backward(
    dy: Tensor,
    x: Tensor,
    u: Tensor,
    lora_a: Tensor,
    lora_b: Tensor,
    scale: float,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """dy (..., O), x (..., I), u (..., r) -> the update's part of dx (..., I), dlora_a (r, I), dlora_b (O, r)."""
    du, dlora_b, _ = linear_backward(dy, u, lora_b, (needs[0] or needs[1], needs[2], False))
    dlora_b = None if dlora_b is None else scale * dlora_b  # dB_ok = s sum_n dy_no u_nk             (4)
    if du is None:
        return None, None, dlora_b
    du = scale * du  # du_nk = s sum_o dy_no B_ok                                                    (5)
    # dx_ni = sum_k du_nk A_ki  (6),  dA_ki = sum_n du_nk x_ni  (7)
    dx, dlora_a, _ = linear_backward(du, x, lora_a, (needs[0], needs[1], False))
    return dx, dlora_a, dlora_b


class LoRALinear(Linear):
    """y = x W^T + b + (alpha / r) (x A^T) B^T, where W and b are frozen and A and B learn.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, equation 3. `lora_b` begins as zero, so that
    the layer begins as the `Linear` that it replaces; `lora_a` is drawn as the weight of a `Linear`.
    Beside Linear's `weight` (O, I) and `bias` (O,) it has `lora_a` (r, I) and `lora_b` (O, r).

    Args:
        in_features, out_features, bias: of `Linear`.
        rank: r, how many directions the update has.
        alpha: the update is multiplied by alpha / r, so that another rank asks for no other learning rate.
        generator: where the initial weights are drawn from.

    Raises:
        TypeError, ValueError: a rank that is no whole number of at least 1, an alpha that is not above 0.
        ShapeError: from `forward`, if the last dimension of x is not I.
    """

    lora_a: Tensor
    lora_b: Tensor
    scale: float

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        rank: int,
        alpha: float,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype, generator=generator)
        add_update(self, self.weight, rank, alpha, generator)

    def forward(self, input: Tensor) -> Tensor:
        """input (..., I) -> y (..., O)."""
        check_last_dimension(self, input, self.in_features)
        update, u = low_rank(input, self.lora_a, self.lora_b, self.scale)
        self.save(input, u)
        return linear(input, self.weight, self.bias) + update  # (1)

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dy (..., O) -> dx (..., I), or None without `input_gradient`; adds to the gradients of what is trained."""
        x, u = self.saved()
        if dy is None:
            return None
        return backward_of_both(self, self.weight, self.bias, dy, x, u, input_gradient)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {described_update(self)}"


class LoRASelfAttention(SelfAttention):
    """`SelfAttention` with one update of low rank for queries, keys and values together.

    As peft does for GPT-2's packed `c_attn`: `lora_a` (r, E) is shared by the three, `lora_b` (P, r) is as high as the
    packed weight. `out_proj` stays what it is, a `Linear` that may be replaced by itself.

    Args:
        embed_dim, num_heads, options: of `SelfAttention`.
        rank, alpha: as of `LoRALinear`.

    Raises:
        TypeError, ValueError: a rank that is no whole number of at least 1, an alpha that is not above 0; and what
            `SelfAttention` raises.
    """

    lora_a: Tensor
    lora_b: Tensor
    scale: float

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        rank: int,
        alpha: float,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> None:
        super().__init__(embed_dim, num_heads, generator=generator, **options)
        self.out_proj.requires_grad_(False)
        add_update(self, self.in_proj_weight, rank, alpha, generator)

    def project(self, x: Tensor) -> tuple[Tensor, Any]:
        packed, _ = super().project(x)
        update, u = low_rank(x, self.lora_a, self.lora_b, self.scale)
        return packed + update, u  # (1)

    def project_backward(self, dpacked: Tensor, x: Tensor, projected: Any, input_gradient: bool) -> Tensor | None:
        return backward_of_both(self, self.in_proj_weight, self.in_proj_bias, dpacked, x, projected, input_gradient)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {described_update(self)}"


def backward_of_both(
    layer: LoRALinear | LoRASelfAttention,
    weight: Tensor,
    bias: Tensor | None,
    dy: Tensor,
    x: Tensor,
    u: Tensor,
    input_gradient: bool,
) -> Tensor | None:
    """dy (..., O) -> dx (..., I), the sum of the frozen path's and the update's; adds to the parameters' gradients.

    The weight's gradient is computed only if somebody has unfrozen it.
    """
    lora_a, lora_b = layer.lora_a, layer.lora_b
    needs = (input_gradient, lora_a.requires_grad, lora_b.requires_grad)
    dx, dlora_a, dlora_b = low_rank_backward(dy, x, u, lora_a, lora_b, layer.scale, needs)
    accumulate(lora_b, dlora_b)
    accumulate(lora_a, dlora_a)
    needs = (input_gradient, weight.requires_grad, bias is not None and bias.requires_grad)
    through, dweight, dbias = linear_backward(dy, x, weight, needs)
    accumulate(weight, dweight)
    accumulate(bias, dbias)
    return None if dx is None or through is None else through + dx  # dx = dy W + du A                (6)


def with_update(
    kind: type[T], layer: Linear | SelfAttention, rank: int, alpha: float, generator: torch.Generator | None
) -> T:
    """A `kind` in the state of `layer`: the same parameters, children and mode, and an update that is zero at first."""
    copy = kind.__new__(kind)
    # Not attribute by attribute: a parameter that is frozen already would be taken for a buffer
    copy.__dict__.update(
        {name: dict(value) if isinstance(value, dict) else value for name, value in layer.__dict__.items()}
    )
    weight = copy.in_proj_weight if isinstance(copy, SelfAttention) else copy.weight
    add_update(copy, weight, rank, alpha, generator)
    return copy


def add_update(
    layer: LoRALinear | LoRASelfAttention,
    weight: Tensor,
    rank: int,
    alpha: float,
    generator: torch.Generator | None,
) -> None:
    """Freeze the layer's own parameters, and give it `lora_a`, drawn, and `lora_b`, zero."""
    name = type(layer).__name__
    rank = whole_number(name, "rank", rank)
    if not real_number(name, "alpha", alpha) > 0:
        raise ValueError(f"{name}: given alpha={alpha}, expected a number above 0")
    outputs, inputs = weight.shape
    for own in layer.parameters(recurse=False):
        own.requires_grad_(False)
    bound = inputs**-0.5 if inputs else 0.0
    drawn = torch.empty(rank, inputs, device=weight.device, dtype=weight.dtype)
    layer.lora_a = parameter(uniform_(drawn, -bound, bound, generator=generator))
    layer.lora_b = parameter(torch.zeros(outputs, rank, device=weight.device, dtype=weight.dtype))
    layer.scale = alpha / rank


def described_update(layer: LoRALinear | LoRASelfAttention) -> str:
    rank = layer.lora_a.shape[0]
    return f"rank={rank}, alpha={layer.scale * rank:g}"
