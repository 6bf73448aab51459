"""The activation of a feed-forward layer, given as torch.nn's Transformer layers take it, or built."""

from typing import Any

from ds_core.activations.by_name import ACTIVATIONS, make_activation
from ds_core.engine.attributes import is_layer


def resolve_activation(layer: str, activation: Any) -> Any:
    """A layer from a name, "relu" or "gelu", from PyTorch's function of a name in `ACTIVATIONS`, or from a layer.

    Raises:
        ValueError: another name.
        TypeError: a function whose backward nobody has written.
    """
    if is_layer(activation):
        return activation
    if isinstance(activation, str):
        if activation not in ("relu", "gelu"):  # the twin's layers know these two
            raise ValueError(f"{layer}: given activation={activation!r}, expected 'relu', 'gelu' or a layer")
        return make_activation(activation, layer=layer)
    name = getattr(activation, "__name__", "")
    module = getattr(activation, "__module__", None) or "torch"  # torch.tanh and its like name none
    if name in ACTIVATIONS and module.split(".")[0] == "torch":
        return make_activation(name, layer=layer)
    raise TypeError(
        f"{layer}: given activation={activation!r}, which has no backward; expected 'relu', 'gelu', a built layer such "
        "as SiLU(), or ds_core.interop.from_autograd(function), which borrows PyTorch's"
    )
