"""Weights whose variance fits the number of inputs and outputs, so that signals keep theirs. docs/initializers.md."""

import math

from torch import Generator, Tensor

from ds_core.errors import ShapeError, did_you_mean
from ds_core.initializers.distributions import normal_, uniform_

_MODES = ("fan_in", "fan_out")
_SLOPE = "leaky_relu"
_CONVOLUTIONS = [f"conv{kind}{dimensions}d" for kind in ("", "_transpose") for dimensions in (1, 2, 3)]
_GAINS = dict.fromkeys(["linear", *_CONVOLUTIONS, "sigmoid"], 1.0)
# 3/4 was found by experiment (torch's pull request 50664); for self-normalising networks take "linear"
_GAINS |= {"tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor on the standard deviation of weights that makes up for what the activation after them takes away.

    Twin of torch.nn.init.calculate_gain.

    Args:
        nonlinearity: "linear" (or a convolution's name), "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
        param: for "leaky_relu" its slope below 0, 0.01 if not given.

    Raises:
        ValueError: another nonlinearity, or a slope that is no number.
    """
    if nonlinearity == _SLOPE:
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))  # g = sqrt(2 / (1 + a^2))                                (7)
    if nonlinearity not in _GAINS:
        raise ValueError(f"Unsupported nonlinearity {nonlinearity}{did_you_mean(nonlinearity, [*_GAINS, _SLOPE])}")
    return _GAINS[nonlinearity]


def fans(tensor: Tensor) -> tuple[int, int]:
    """How many inputs go into each output of a layer with these weights, and how many outputs each input goes into.

    Args:
        tensor: (outputs, inputs) of a linear layer, or (outputs, inputs, *kernel) of a convolution.

    Raises:
        ShapeError: it has fewer than 2 dimensions.
    """
    if tensor.dim() < 2:
        raise ShapeError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions: "
            f"given shape {tuple(tensor.shape)}"
        )
    kernel = math.prod(tensor.shape[2:])
    return tensor.shape[1] * kernel, tensor.shape[0] * kernel


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform numbers of variance 2 gain^2 / (fan_in + fan_out).

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010, equation 16.
    Twin of torch.nn.init.xavier_uniform_.

    Raises:
        ShapeError: the tensor has fewer than 2 dimensions.
        ValueError: `gain` is negative or not finite.
    """
    return _uniform(tensor, _xavier_std(tensor, gain), generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal numbers of variance 2 gain^2 / (fan_in + fan_out). Twin of torch.nn.init.xavier_normal_.

    Source and errors as for `xavier_uniform_`.
    """
    return normal_(tensor, 0.0, _xavier_std(tensor, gain), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform numbers of variance gain^2 / fan.

    He et al., "Delving Deep into Rectifiers", 2015, equations 10 and 14. Twin of torch.nn.init.kaiming_uniform_.

    Args:
        tensor: weights, (outputs, inputs, ...); one without elements is left as it is.
        a: the slope below 0 of a leaky_relu.
        mode: "fan_in" keeps the variance of the signal forward, "fan_out" that of the gradient backward.
        nonlinearity: what follows the layer; see `calculate_gain`.

    Raises:
        ShapeError: the tensor has fewer than 2 dimensions.
        ValueError: an unknown mode or nonlinearity.
    """
    return _uniform(tensor, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal numbers of variance gain^2 / fan. Twin of torch.nn.init.kaiming_normal_.

    Source, arguments and errors as for `kaiming_uniform_`.
    """
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def lecun_uniform_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Uniform numbers of variance 1 / fan_in.

    LeCun et al., "Efficient BackProp", 1998, equation 16. torch.nn.init has none of this name.

    Raises:
        ShapeError: the tensor has fewer than 2 dimensions.
    """
    return kaiming_uniform_(tensor, nonlinearity="linear", generator=generator)


def lecun_normal_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Normal numbers of variance 1 / fan_in, as self-normalising networks with SELU want them.

    Klambauer et al., "Self-Normalizing Neural Networks", 2017. Errors as for `lecun_uniform_`.
    """
    return kaiming_normal_(tensor, nonlinearity="linear", generator=generator)


def _uniform(tensor: Tensor, std: float, generator: Generator | None) -> Tensor:
    bound = math.sqrt(3.0) * std  # u = sqrt(3) sigma                                                    (9)
    return uniform_(tensor, -bound, bound, generator)


def _xavier_std(tensor: Tensor, gain: float) -> float:
    fan_in, fan_out = fans(tensor)
    if not 0 <= gain < math.inf:
        raise ValueError(f"xavier: given gain={gain}, expected a finite number of at least 0")
    # sigma = g sqrt(2 / (fan_in + fan_out))                                                             (5)
    return 0.0 if tensor.numel() == 0 else gain * math.sqrt(2.0 / (fan_in + fan_out))


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fan = dict(zip(_MODES, fans(tensor), strict=True)).get(mode.lower())
    if fan is None:
        raise ValueError(f"Mode {mode} not supported, please use one of {list(_MODES)}{did_you_mean(mode, _MODES)}")
    gain = calculate_gain(nonlinearity, a)
    return 0.0 if tensor.numel() == 0 else gain / math.sqrt(fan)  # sigma = g / sqrt(fan)                (8)
