"""`ds check` of a GAN: the gradients of both players, each in its own turn."""

from typing import Any

import torch
from ds_core import Module
from ds_core.engine.parameter import frozen
from ds_core.testing import Report, report
from torch import Tensor


class _Turn(Module):
    """A turn of a GAN as a model of one input; the rest of its inputs stay what they are.

    `report` differentiates by every number, but in a turn only those of one player count.
    """

    def __init__(self, gan: Any, before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> None:
        self.gan = gan
        self.around = (before, after)

    def forward(self, input: Tensor) -> Any:
        before, after = ([tensor.to(input) for tensor in part] for part in self.around)
        return self.gan.forward(*before, input, *after)

    def backward(self, *dys: Any, input_gradient: bool = True) -> Any:
        return self.gan.backward(*dys, input_gradient=input_gradient)


@torch.no_grad()
def scale_weights(network: Module, factor: float) -> None:
    """Make every parameter larger: with those of a new GAN all numbers are so near 0 that finite differences meet the
    bend of the rectifiers."""
    for tensor in network.parameters():
        tensor.mul_(factor)


class Reports:
    """A table for each player."""

    def __init__(self, *reports: Report) -> None:
        self.reports = reports

    @property
    def ok(self) -> bool:
        return all(report.ok for report in self.reports)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.reports))

    @classmethod
    def of_turns(cls, gan: Any, loss: Any, inputs: tuple[Tensor, ...]) -> "Reports":
        """Both turns of `gan`; `inputs` are those of the discriminator's."""
        noise, real, *mix = inputs
        ones, zeros = torch.ones(len(noise), 1), torch.zeros(len(noise), 1)
        found = []
        for still, turn, given, target in (
            (gan.generator, _Turn(gan, (noise,), tuple(mix)), real, (ones, zeros)),
            (gan.discriminator, _Turn(gan, (), ()), noise, ones),
        ):
            with frozen(still.parameters()):
                found.append(report(turn, given, loss, target))
        return cls(*found)
