"""The exponential through powers of 2."""

import pytest
import torch
from ds_core.speed.exponential import exponential


@pytest.mark.parametrize(("dtype", "unit"), [(torch.float32, 2**-23), (torch.float64, 2**-52)])
def test_exponential_is_exp(dtype: torch.dtype, unit: float) -> None:
    t = torch.linspace(-80, 80, 10_001, dtype=dtype)
    exact = torch.exp(t.to(torch.float64))
    with torch.no_grad():
        found = exponential(t.clone())
    error = (found.to(torch.float64) / exact - 1).abs()
    assert bool((error <= (t.abs().double() + 4) * unit).all())


def test_exponential_at_extremes_in_both_engines() -> None:
    inf = float("inf")
    values = [0.0, -0.0, -1e4, -inf, inf, 1.0, float("nan")]
    t = torch.tensor(values, requires_grad=True)
    y = exponential(t)
    torch.testing.assert_close(y, torch.exp(t), equal_nan=True)
    y[:4].sum().backward()
    assert t.grad[:4].tolist() == [1, 1, 0, 0]


def test_exponential_reuses_its_input_only_where_nobody_differentiates() -> None:
    t = torch.zeros(3)
    with torch.no_grad():
        assert exponential(t) is t
    t = torch.ones(3)
    assert exponential(t) is not t
    assert t.tolist() == [1, 1, 1]
