"""A series cut into what is known and what comes next. Theory: docs/series_windows.md."""

import math

import torch
from ds_core import ShapeError
from torch import Tensor

# L = numbers of the series, W = numbers of a window, F = numbers that follow it, N = windows


def series_windows(series: Tensor, window: int, horizon: int) -> tuple[Tensor, Tensor]:
    """series (L,) -> windows (N, W, 1) and the F numbers that follow each, (N, F), for every place that has both.

    Raises:
        ShapeError: the series is no vector, or shorter than a window and what follows it.
        ValueError: `window` or `horizon` is below 1.
    """
    if window < 1 or horizon < 1:
        raise ValueError(f"series_windows: given window={window} and horizon={horizon}, expected at least 1")
    if series.dim() != 1 or len(series) < window + horizon:
        raise ShapeError(
            f"series_windows: given series of shape {tuple(series.shape)}, expected (L,) with L of at least "
            f"{window + horizon}, a window of {window} and the {horizon} that follow"
        )
    both = series.unfold(0, window + horizon, 1)  # row n is s_n, ..., s_(n + W + F - 1)                     (1)
    return both[:, :window, None].clone(), both[:, window:].clone()


def generated_series(length: int, generator: torch.Generator) -> Tensor:
    """(L,): hours of something that has days and weeks, grows slowly, and is pushed about by noise that lasts a while.

    Two waves of 24 and 168 steps, a trend, and an autoregression of order 1 with a coefficient of 0.8.
    """
    t = torch.arange(length, dtype=torch.float64)
    noise = torch.randn(length, generator=generator, dtype=torch.float64).tolist()
    walk, pushed = 0.0, []
    for push in noise:
        walk = 0.8 * walk + push  # u_t = 0.8 u_(t-1) + e_t                                                 (2)
        pushed.append(walk)
    days, weeks = torch.sin(2 * math.pi * t / 24), torch.sin(2 * math.pi * t / 168)
    # s_t = 20 + 0.002 t + 5 sin(2 pi t / 24) + 3 sin(2 pi t / 168) + 0.5 u_t                               (3)
    return 20 + 0.002 * t + 5 * days + 3 * weeks + 0.5 * torch.tensor(pushed, dtype=torch.float64)
