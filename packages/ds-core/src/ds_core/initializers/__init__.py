"""Initializers: what weights are before training. Theory: docs/initializers.md."""

from ds_core.initializers.distributions import normal_, trunc_normal_, uniform_
from ds_core.initializers.filling import constant_, dirac_, eye_, ones_, zeros_
from ds_core.initializers.orthogonal import orthogonal_
from ds_core.initializers.variance_scaling import (
    calculate_gain,
    kaiming_normal_,
    kaiming_uniform_,
    lecun_normal_,
    lecun_uniform_,
    xavier_normal_,
    xavier_uniform_,
)

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]
