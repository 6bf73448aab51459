"""Activations by name, as torch.nn.functional spells them: what `--activation` offers and other packages look up."""

from collections.abc import Callable

from ds_core.activations.celu import CELU
from ds_core.activations.elu import ELU
from ds_core.activations.gelu import GELU
from ds_core.activations.hardsigmoid import Hardsigmoid
from ds_core.activations.hardswish import Hardswish
from ds_core.activations.hardtanh import Hardtanh
from ds_core.activations.leaky_relu import LeakyReLU
from ds_core.activations.log_sigmoid import LogSigmoid
from ds_core.activations.mish import Mish
from ds_core.activations.quick_gelu import QuickGELU
from ds_core.activations.relu import ReLU
from ds_core.activations.relu6 import ReLU6
from ds_core.activations.selu import SELU
from ds_core.activations.sigmoid import Sigmoid
from ds_core.activations.silu import SiLU
from ds_core.activations.softplus import Softplus
from ds_core.activations.softsign import Softsign
from ds_core.activations.tanh import Tanh
from ds_core.engine.module import Module
from ds_core.errors import did_you_mean

# Those that need no argument, work element by element and learn nothing. The keys are the names that the functions of
# PyTorch have as `__name__`, so `F.logsigmoid` is "log_sigmoid"; quick_gelu is not among them.
ACTIVATIONS: dict[str, Callable[[], Module]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "relu6": ReLU6,
    "elu": ELU,
    "selu": SELU,
    "celu": CELU,
    "gelu": GELU,
    "quick_gelu": QuickGELU,
    "silu": SiLU,
    "mish": Mish,
    "softplus": Softplus,
    "softsign": Softsign,
    "log_sigmoid": LogSigmoid,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "hardtanh": Hardtanh,
    "hardsigmoid": Hardsigmoid,
    "hardswish": Hardswish,
}


def make_activation(name: str, *, layer: object) -> Module:
    """A new activation layer by its name, with its default arguments.

    Args:
        name: one of `ACTIVATIONS`.
        layer: who asks for it, as the error message should name it.

    Raises:
        ValueError: another name.
    """
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        near = did_you_mean(name.lower(), ACTIVATIONS)
        raise ValueError(f"{layer}: given activation={name!r}, expected one of {known}{near}")
    return ACTIVATIONS[name]()
