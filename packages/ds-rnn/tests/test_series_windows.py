import math

import pytest
import torch
from ds_core import ShapeError
from ds_rnn.series.series_windows import generated_series, series_windows


def test_worked_example():
    # docs/series_windows.md
    windows, following = series_windows(torch.tensor([1.0, 2.0, 4.0, 7.0, 11.0]), 2, 1)
    assert windows.squeeze(2).tolist() == [[1, 2], [2, 4], [4, 7]]
    assert following.tolist() == [[4], [7], [11]]


@pytest.mark.parametrize(("length", "window", "horizon"), [(5, 4, 1), (9, 3, 2), (20, 1, 7)])
def test_every_place_that_has_both(length, window, horizon):
    windows, following = series_windows(torch.arange(float(length)), window, horizon)
    assert windows.shape == (length - window - horizon + 1, window, 1)
    for n in range(len(windows)):
        assert windows[n, :, 0].tolist() == list(range(n, n + window))
        assert following[n].tolist() == list(range(n + window, n + window + horizon))


def test_what_cannot_be_cut():
    with pytest.raises(ShapeError, match=r"given series of shape \(4,\), expected \(L,\) with L of at least 5"):
        series_windows(torch.zeros(4), 3, 2)
    with pytest.raises(ShapeError, match=r"given series of shape \(4, 1\)"):
        series_windows(torch.zeros(4, 1), 1, 1)
    with pytest.raises(ValueError, match="given window=0 and horizon=1, expected at least 1"):
        series_windows(torch.zeros(4), 0, 1)


def test_the_generated_series_is_what_its_page_says():
    one, same, other = (generated_series(20_000, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    t = torch.arange(20_000, dtype=torch.float64)
    known = 20 + 0.002 * t + 5 * torch.sin(2 * math.pi * t / 24) + 3 * torch.sin(2 * math.pi * t / 168)
    noise = (one - known) / 0.5
    assert float(noise.std()) == pytest.approx(1 / math.sqrt(1 - 0.64), rel=0.1)
    assert float((noise[1:] * noise[:-1]).mean() / noise.square().mean()) == pytest.approx(0.8, abs=0.05)
