"""What a Trainer, and a compiled step, can be made of."""

from typing import Any

from ds_core.errors import no_layer

_METHODS = {
    "model": ("forward", "backward", "parameters"),
    "criterion": ("forward", "backward"),
    "optimizer": ("step", "zero_grad"),
}


def check_parts(who: str, model: Any, criterion: Any, optimizer: Any) -> None:
    """Raise TypeError, saying what to write, unless each has the methods of its protocol.

    Args:
        who: is given them, for the message.
    """
    for name, given in {"model": model, "criterion": criterion, "optimizer": optimizer}.items():
        if not isinstance(given, type) and all(callable(getattr(given, method, None)) for method in _METHODS[name]):
            continue
        if name == "optimizer":
            shown = f"the class {given.__name__}" if isinstance(given, type) else f"{given!r:.80}"
            problem = f"given {shown}, expected an optimizer such as AdamW(model.parameters(), lr=1e-3)"
        elif given is None:
            problem = "given None, expected " + (
                "a layer such as Sequential(...)" if name == "model" else "a loss such as MSELoss()"
            )
        else:
            problem = no_layer(given)
        raise TypeError(f"{who}: {name}: {problem}")


def check_counts(clip_norm: float | None, **counts: int | None) -> None:
    """Raise ValueError if one of a Trainer's numbers is too small."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"Trainer: given {name}={count}, expected at least 1")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"Trainer: given clip_norm={clip_norm}, expected more than 0")
