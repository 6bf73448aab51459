import math

import pytest
import torch
from ds_core import ShapeError, record
from ds_core.testing import check_loss
from ds_zoo.minigpt.loss import TokenCrossEntropy


def loss_and_gradient(loss, logits, target):
    with record():
        value = loss(logits, target)
        return value, loss.backward()


def test_worked_example():
    # docs/loss.md
    logits = torch.tensor([[[0.0, math.log(3)], [math.log(4), 0.0]]], dtype=torch.float64)
    value, gradient = loss_and_gradient(TokenCrossEntropy(), logits, torch.tensor([[1, 1]]))
    assert float(value) == pytest.approx(0.94856, abs=1e-5)
    torch.testing.assert_close(gradient, torch.tensor([[[0.125, -0.125], [0.4, -0.4]]], dtype=torch.float64))
    value, gradient = loss_and_gradient(TokenCrossEntropy(), logits, torch.tensor([[1, -100]]))
    assert float(value) == pytest.approx(0.28768, abs=1e-5)
    torch.testing.assert_close(gradient, torch.tensor([[[0.25, -0.25], [0.0, 0.0]]], dtype=torch.float64))


def test_equals_pytorch_and_autograd():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64)
    target = torch.randint(7, (3, 5), generator=generator)
    target[1, 2] = 4
    check_loss(TokenCrossEntropy(), logits, target)
    check_loss(TokenCrossEntropy(ignore_index=4), logits, target)
    value, gradient = loss_and_gradient(TokenCrossEntropy(ignore_index=4), logits, target)
    theirs = logits.clone().requires_grad_()
    expected = torch.nn.functional.cross_entropy(theirs.permute(0, 2, 1), target, ignore_index=4)
    expected.backward()
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, theirs.grad, rtol=1e-12, atol=1e-15)


def test_upstream_gradient_scales():
    logits, target = torch.randn(1, 2, 3, dtype=torch.float64), torch.tensor([[0, 2]])
    _, once = loss_and_gradient(TokenCrossEntropy(), logits, target)
    loss = TokenCrossEntropy()
    with record():
        loss(logits, target)
        thrice = loss.backward(torch.tensor(3.0, dtype=torch.float64))
    torch.testing.assert_close(thrice, 3 * once)


def test_shapes_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"\(2, 3, 4\).*\(2, 4\)"):
        TokenCrossEntropy()(torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.int64))
