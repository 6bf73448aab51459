"""TokenCrossEntropy against PyTorch, autograd, finite differences and by hand."""

import math

import pytest
import torch
from ds_core import ShapeError, TokenCrossEntropy, record
from ds_core.testing import check_loss
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_engines import assert_compiles, handwritten


def test_worked_example() -> None:
    logits = torch.tensor([[[0.0, 1.0986], [1.3863, 0.0]]])
    torch.testing.assert_close(logits[0].max(1).values, torch.tensor([3.0, 4.0]).log(), rtol=0, atol=5e-5)
    p = torch.tensor([[0.25, 0.75], [0.8, 0.2]])
    torch.testing.assert_close(torch.softmax(logits[0], 1), p, rtol=0, atol=5e-5)
    target = torch.tensor([[1, 1]])
    value, (gradient,) = handwritten(TokenCrossEntropy(), logits, target)
    assert [-math.log(0.75), -math.log(0.2)] == pytest.approx([0.2877, 1.6094], abs=5e-5)
    assert [float(value), (0.2877 + 1.6094) / 2] == pytest.approx([0.9486, 0.9486], abs=6e-5)
    torch.testing.assert_close(gradient, torch.tensor([[[0.125, -0.125], [0.4, -0.4]]]), rtol=0, atol=5e-5)

    value, (gradient,) = handwritten(TokenCrossEntropy(), logits, torch.tensor([[1, -100]]))
    assert float(value) == pytest.approx(0.2877, abs=5e-5)
    torch.testing.assert_close(gradient, torch.tensor([[[0.25, -0.25], [0.0, 0.0]]]), rtol=0, atol=5e-5)

    value, (gradient,) = handwritten(TokenCrossEntropy(label_smoothing=0.2), logits, target)
    terms = [math.log(4) - 0.9 * 1.0986, math.log(5) - 0.1 * 1.3863]
    assert terms == pytest.approx([0.3975, 1.4708], abs=6e-5)
    assert float(value) == pytest.approx(0.9342, abs=5e-5)
    torch.testing.assert_close(gradient, torch.tensor([[[0.075, -0.075], [0.35, -0.35]]]), rtol=0, atol=5e-5)
    torch.testing.assert_close(gradient, (p - torch.tensor([0.1, 0.9])).unsqueeze(0) / 2, rtol=0, atol=5e-5)
    assert math.log(65) == pytest.approx(4.17, abs=5e-3)


@pytest.mark.parametrize("ignored", [-100, 4])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
def test_token_cross_entropy_is_right(ignored: int, label_smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64)
    target = torch.randint(7, (3, 5), generator=generator)
    target[1, 2] = ignored
    loss = TokenCrossEntropy(ignore_index=ignored, label_smoothing=label_smoothing)
    check_loss(loss, logits, target, batch_dim=0)


@given(
    shape=st.lists(st.integers(1, 4), max_size=3),
    vocabulary=st.integers(1, 6),
    label_smoothing=st.sampled_from([0.0, 0.1, 0.7]),
    ignored=st.sampled_from([-100, 0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_token_cross_entropy_is_the_twin(
    shape: list[int], vocabulary: int, label_smoothing: float, ignored: int, dtype: torch.dtype, seed: int
) -> None:
    """The mean over the targets that are not ignored, whatever stands at the others."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(*shape, vocabulary, generator=generator, dtype=dtype)
    target = torch.randint(vocabulary, shape, generator=generator)
    target[torch.rand(shape, generator=generator) < 0.4] = ignored
    twin = logits.clone().requires_grad_()
    losses = torch.nn.functional.cross_entropy(
        twin.view(-1, vocabulary), target.view(-1), None, None, ignored, None, "none", label_smoothing
    )
    expected = losses.sum() / (target != ignored).sum()
    value, (gradient,) = handwritten(TokenCrossEntropy(ignored, label_smoothing=label_smoothing), logits, target)
    torch.testing.assert_close(value, expected.detach(), equal_nan=True)
    assert gradient.shape == logits.shape
    if (target != ignored).any():
        expected.backward()
        torch.testing.assert_close(gradient, twin.grad)
    else:
        assert torch.equal(gradient, torch.zeros_like(logits))


def test_upstream_gradient_scales() -> None:
    logits, target = torch.randn(1, 2, 3, dtype=torch.float64), torch.tensor([[0, 2]])
    _, (once,) = handwritten(TokenCrossEntropy(), logits, target)
    _, (thrice,) = handwritten(TokenCrossEntropy(), logits, target, grad=torch.tensor(3.0, dtype=torch.float64))
    torch.testing.assert_close(thrice, 3 * once)


def test_one_tensor_of_the_size_of_the_logits_is_kept() -> None:
    loss = TokenCrossEntropy(label_smoothing=0.1)
    with record() as trace:
        loss(torch.randn(2, 5, 10), torch.randint(10, (2, 5)))
        assert sum(line.bytes for line in trace.kept()) == 2 * 5 * 10 * 4
        loss.backward()


def test_token_cross_entropy_compiles_in_one_graph() -> None:
    def batch(b: int, t: int, v: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(b, t, v), torch.randint(v, (b, t))

    assert_compiles(TokenCrossEntropy(label_smoothing=0.1), [batch(2, 3, 5), batch(4, 2, 7)])


def test_token_cross_entropy_says_what_is_wrong() -> None:
    with pytest.raises(ShapeError, match=r"TokenCrossEntropy.*\(2, 3, 4\).*\(2, 4\)"):
        TokenCrossEntropy()(torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"given logits \(\)"):
        TokenCrossEntropy()(torch.tensor(0.0), torch.tensor(0))
    with pytest.raises(ValueError, match=r"label_smoothing=1.5, expected 0 ... 1"):
        TokenCrossEntropy(label_smoothing=1.5)


def test_it_shows_its_options() -> None:
    assert TokenCrossEntropy(3).extra_repr() == "ignore_index=3"
    assert TokenCrossEntropy(label_smoothing=0.1).extra_repr() == "ignore_index=-100, label_smoothing=0.1"
