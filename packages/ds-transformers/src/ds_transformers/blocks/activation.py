"""The activation of a feed-forward layer, given as torch.nn's Transformer layers take it, or built."""

from typing import Any

from ds_core import ELU, GELU, SELU, LeakyReLU, Mish, ReLU, Sigmoid, SiLU, Tanh
from ds_core.engine.module import is_layer

# By the names that torch and torch.nn.functional give the functions.
_ACTIVATIONS: dict[str, Any] = {
    "relu": ReLU,
    "gelu": GELU,
    "silu": SiLU,
    "mish": Mish,
    "elu": ELU,
    "selu": SELU,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "leaky_relu": LeakyReLU,
}


def make_activation(layer: str, activation: Any) -> Any:
    """A layer from a name, "relu" or "gelu", from PyTorch's function of such a name, or from a layer.

    Raises:
        ValueError: another name.
        TypeError: a function whose backward nobody has written.
    """
    if is_layer(activation):
        return activation
    if isinstance(activation, str):
        if activation not in ("relu", "gelu"):
            raise ValueError(f"{layer}: given activation={activation!r}, expected 'relu', 'gelu' or a layer")
        return _ACTIVATIONS[activation]()
    name = getattr(activation, "__name__", "")
    module = getattr(activation, "__module__", None) or "torch"  # torch.tanh and its like name none
    if name in _ACTIVATIONS and module.split(".")[0] == "torch":
        return _ACTIVATIONS[name]()
    raise TypeError(
        f"{layer}: given activation={activation!r}, which has no backward; expected 'relu', 'gelu', a built layer such "
        "as SiLU(), or ds_core.interop.from_autograd(function), which borrows PyTorch's"
    )
