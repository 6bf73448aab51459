import math

import pytest
import torch
from ds_rnn import tanh, tanh_backward
from hypothesis import given
from hypothesis import strategies as st


@given(st.floats(-1e4, 1e4, width=32))
def test_value_and_gradient_in_both_engines(number):
    x = torch.tensor(number, requires_grad=True)
    y = tanh(x)
    (dx,) = torch.autograd.grad(y, x)
    exact = math.tanh(number)
    slope = 1 / math.cosh(number) ** 2 if abs(number) < 300 else 0.0
    assert math.isclose(y.item(), exact, rel_tol=3e-7, abs_tol=1e-44)
    # Near +-1 the slope is a small difference of numbers near 1, in PyTorch's tanh too.
    assert dx.item() == pytest.approx(slope, rel=1e-6, abs=5e-7)
    assert tanh_backward(torch.ones(()), y.detach()).item() == pytest.approx(slope, rel=1e-6, abs=5e-7)


def test_at_zero_at_the_ends_and_for_nan():
    x = torch.tensor([0.0, -0.0, 1e4, -1e4, torch.inf, -torch.inf, torch.nan, 1e-30])
    torch.testing.assert_close(tanh(x), torch.tanh(x), equal_nan=True)
    leaf = torch.zeros(1, requires_grad=True)
    tanh(leaf).backward()
    assert leaf.grad.item() == 1.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once_and_never_overflows(dtype):
    x = torch.cat([torch.linspace(-30, 30, 2001), torch.tensor([5.5, 6.0, 20.0, 6e4, -6e4, torch.inf])]).to(dtype)
    y = tanh(x)
    assert y.dtype == dtype
    assert torch.equal(y, tanh(x.float()).to(dtype))
    torch.testing.assert_close(y, torch.tanh(x), rtol=torch.finfo(dtype).eps, atol=0)
    assert tanh_backward(torch.ones_like(y), y).isfinite().all()


def test_worked_example():
    x = torch.tensor([[0.0, 1.0], [-1.0, 2.0]])
    y = tanh(x)
    torch.testing.assert_close(y, torch.tensor([[0.0, 0.7616], [-0.7616, 0.9640]]), atol=5e-5, rtol=0)
    torch.testing.assert_close(1 - y * y, torch.tensor([[1.0, 0.4200], [0.4200, 0.0707]]), atol=5e-5, rtol=0)
    dx = tanh_backward(torch.tensor([[1.0, 0.5], [2.0, -1.0]]), y)
    torch.testing.assert_close(dx, torch.tensor([[1.0, 0.2100], [0.8399, -0.0707]]), atol=5e-5, rtol=0)
