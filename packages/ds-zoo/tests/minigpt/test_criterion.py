"""The loss of a causal language model: labels are shifted, some are ignored."""

import pytest
import torch
from ds_core import ShapeError, TokenCrossEntropy, record
from ds_core.testing import check_loss
from ds_zoo import CausalLanguageLoss


def test_worked_example():
    ln3 = torch.log(torch.tensor(3.0, dtype=torch.float64))
    logits = torch.zeros(1, 4, 2, dtype=torch.float64)
    logits[0, 0, 1] = ln3
    labels = torch.tensor([[0, 1, -100, 0]])
    criterion = CausalLanguageLoss()
    with record():
        loss = criterion(logits, labels=labels)
        dlogits = criterion.backward()
    assert float(loss) == pytest.approx(0.49041, abs=5e-6)
    first, second = -torch.log(torch.tensor([0.75, 0.5], dtype=torch.float64))
    assert [float(first), float(second)] == pytest.approx([0.28768, 0.69315], abs=5e-6)
    expected = torch.tensor([[[0.125, -0.125], [0.0, 0.0], [-0.25, 0.25], [0.0, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(dlogits, expected)
    assert float(criterion.denominator(labels)) == 2


def shifted(logits, labels):
    """As one writes it with torch.nn."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


@pytest.mark.parametrize("ignored", [0, 3])
def test_gradients_and_values(ignored):
    generator = torch.Generator().manual_seed(ignored)
    logits = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)
    labels = torch.randint(7, (2, 5), generator=generator)
    labels[0, 1 : 1 + ignored] = -100
    check_loss(CausalLanguageLoss(), logits, labels)
    leaf = logits.clone().requires_grad_()
    expected = shifted(leaf, labels)
    expected.backward()
    criterion = CausalLanguageLoss()
    with record():
        torch.testing.assert_close(criterion(logits, labels), expected.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(criterion.backward(), leaf.grad, rtol=1e-12, atol=1e-12)


def test_parts_of_a_batch_add_up():
    logits = torch.randn(3, 5, 7, dtype=torch.float64)
    labels = torch.randint(7, (3, 5))
    labels[0, 2:] = -100
    criterion = CausalLanguageLoss()
    whole = criterion.denominator(labels)
    parts = [criterion(logits[i : i + 1], labels[i : i + 1], denominator=whole) for i in range(3)]
    torch.testing.assert_close(sum(parts), criterion(logits, labels))


def test_is_the_loss_of_shifted_blocks():
    tokens = torch.randint(7, (2, 6))
    logits = torch.randn(2, 6, 7)
    expected = TokenCrossEntropy()(logits[:, :-1], tokens[:, 1:])
    torch.testing.assert_close(CausalLanguageLoss()(logits, tokens), expected)


@pytest.mark.parametrize(("logits", "labels"), [((2, 5, 7), (2, 4)), ((2, 5, 7), (2, 5, 7)), ((7,), ())])
def test_shapes_that_do_not_fit(logits, labels):
    with pytest.raises(ShapeError, match=r"CausalLanguageLoss: given logits .* expected \(B, T, V\) and \(B, T\)"):
        CausalLanguageLoss()(torch.zeros(logits), torch.zeros(labels, dtype=torch.int64))
