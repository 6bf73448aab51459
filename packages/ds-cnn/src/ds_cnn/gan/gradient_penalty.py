"""The gradient penalty of WGAN-GP, and the gradient of that gradient. Theory: docs/gradient_penalty.md."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from ds_core import Module, ShapeError, accumulate
from ds_core.errors import check_floating
from ds_core.speed.precision import wide_dtype
from torch import Tensor

from ds_cnn.gan.penalty_rules import PenaltyRule, penalised_layers

# N = batch, L = layers of the critic, ... = an image; l counts the layers from 1

Layers = Sequence[tuple[Any, PenaltyRule]]


class KeptByPenalty(NamedTuple):
    """What `gradient_penalty_backward` reads.

    Attributes:
        slopes: for each layer what its rule needs to know the slope.
        outputs: v_1 ... v_L, the gradient of the critic by the output of each layer.
        gradient: g (N, ...), the gradient of the critic by its input.
        norms: ||g|| (N,).
    """

    slopes: list[Any]
    outputs: list[Tensor]
    gradient: Tensor
    norms: Tensor


def gradient_penalty(layers: Layers, x: Tensor) -> tuple[Tensor, KeptByPenalty]:
    """x (N, ...) -> (||g_n|| - 1)^2 (N,), with g the gradient by x of the critic that these layers are."""
    s, slopes = x, []
    for layer, rule in layers:
        s, kept = rule.forward(layer, s)  # s_l = f_l(s_(l-1)), s_0 = x                                     (1)
        slopes.append(kept)
    if s.numel() != len(x):
        raise ShapeError(
            f"gradient penalty: the critic makes {tuple(s.shape)} of an input {tuple(x.shape)}, expected one number "
            "for each row"
        )
    v = torch.ones_like(s)  # v_L = 1                                                                       (2)
    outputs: list[Tensor] = []
    for (layer, rule), kept in zip(reversed(layers), reversed(slopes), strict=True):
        outputs.insert(0, v)
        v = rule.back(layer, kept, v)  # v_(l-1) = J_l^T v_l, and g = v_0                                   (3)
    wide = v.to(wide_dtype(v)).flatten(1)
    squares = (wide * wide).sum(1)
    # Autograd, which the tests hold this against, has no slope for a root of 0
    norms = torch.where(squares > 0, squares, 1.0).sqrt() * (squares > 0)
    penalties = ((norms - 1) * (norms - 1)).to(x.dtype)  # P_n = (||g_n|| - 1)^2                            (4)
    return penalties, KeptByPenalty(slopes, outputs, v, norms)


def gradient_penalty_backward(dpenalties: Tensor, layers: Layers, kept: KeptByPenalty) -> list[Tensor | None]:
    """dpenalties (N,) -> the gradient of each layer's `weight`, None for a layer without one. Biases have none."""
    # u_0 = dg_n = dP_n 2 (||g_n|| - 1) g_n / ||g_n||, and 0 where g_n = 0: such a row is divided by 1      (5)
    divisors = torch.where(kept.norms > 0, kept.norms, 1.0)
    factor = 2 * (kept.norms - 1) * dpenalties.to(kept.norms.dtype) / divisors
    g = kept.gradient
    u = g * factor.to(g.dtype).view(-1, *[1] * (g.dim() - 1))
    dweights: list[Tensor | None] = []
    for (layer, rule), slope, v in zip(layers, kept.slopes, kept.outputs, strict=True):
        trained = rule.weight_gradient is not None and layer.weight.requires_grad
        # dW_l = d(v_l . J_l u_(l-1)) / dW_l                                                                (6)
        dweights.append(rule.weight_gradient(layer, v, u) if trained and rule.weight_gradient else None)
        u = rule.along(layer, slope, u)  # u_l = J_l u_(l-1)                                                (7)
    return dweights


def accumulate_penalty(dpenalties: Tensor, layers: Layers, kept: KeptByPenalty) -> None:
    """Add what `gradient_penalty_backward` gives to the gradients of the layers' weights."""
    for (layer, _), dweight in zip(layers, gradient_penalty_backward(dpenalties, layers, kept), strict=True):
        if dweight is not None:
            accumulate(layer.weight, dweight)


class GradientPenalty(Module):
    """(||grad_x f(x)|| - 1)^2 of each row, f being a critic: how far its slope is from 1.

    Gulrajani et al., "Improved Training of Wasserstein GANs", 2017, equation 3, without the factor and the mean. Input
    (N, ...), output (N,). The critic is a `Sequential` of layers for which `PENALTY_RULES` has a rule, and gives one
    number a row. A gradient of length 0 has no direction: its penalty is 1, the gradient of that is taken to be 0.

        penalty = GradientPenalty(critic)
        with record():
            rows = penalty(interpolated)
            penalty.backward(torch.full_like(rows, 10 / len(rows)))  # of 10 * rows.mean()

    Args:
        critic: f.

    Raises:
        TypeError: a layer of the critic has no rule.
        ShapeError: from `forward`, if the critic gives more than one number a row, or the input holds integers.
    """

    def __init__(self, critic: Any) -> None:
        penalised_layers(critic)  # to be refused here
        self.critic = critic

    def forward(self, input: Tensor) -> Tensor:
        """input (N, ...) -> penalties (N,)."""
        check_floating("gradient penalty", input=input)
        penalties, kept = gradient_penalty(penalised_layers(self.critic), input)
        self.save(input.shape, kept, reads=self.critic.parameters())
        return penalties

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dy (N,) -> dx (N, ...), which is 0: f is linear around almost every x. Adds to the critic's gradients."""
        shape, kept = self.saved()
        if dy is None:
            return None
        accumulate_penalty(dy, penalised_layers(self.critic), kept)
        return torch.zeros_like(kept.gradient).view(shape) if input_gradient else None
