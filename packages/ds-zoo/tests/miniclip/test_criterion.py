import math

import pytest
import torch
import transformers
from ds_core import ShapeError, primitives_only, record
from ds_core.testing import check_loss
from ds_zoo import ContrastiveLoss
from ds_zoo.miniclip import MiniCLIPOutput
from ds_zoo.miniclip.criterion import match_targets, mean_cross_entropy, mean_cross_entropy_backward


def output(z):
    return MiniCLIPOutput(logits_per_image=z.t(), logits_per_text=z)


def free_output(rows, seed=0):
    """Two kinds of logits that have nothing to do with each other, so that each one's gradient shows."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2, rows, rows, generator=generator, dtype=torch.float64)
    return MiniCLIPOutput(logits_per_image=drawn[0], logits_per_text=drawn[1])


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_without_groups(rows):
    check_loss(ContrastiveLoss(), free_output(rows), None, constants=(), batch_dim=None)


@pytest.mark.parametrize("groups", [[0, 1, 2, 3], [7, 7, 7, 7], [3, 1, 3, 2]])
def test_groups(groups):
    check_loss(ContrastiveLoss(), free_output(4), torch.tensor(groups), constants=(), batch_dim=None)


def test_equals_transformers():
    z = 3 * torch.randn(6, 6, dtype=torch.float64)
    expected = transformers.models.clip.modeling_clip.image_text_contrastive_loss(z)
    criterion = ContrastiveLoss()
    for groups in (None, torch.arange(6), torch.tensor([5, 0, 9, 3, 2, 1])):
        torch.testing.assert_close(criterion(output(z), groups), expected)
    torch.testing.assert_close(criterion.terms["caption_loss"], torch.nn.functional.cross_entropy(z, torch.arange(6)))
    torch.testing.assert_close(criterion.terms["image_loss"], torch.nn.functional.cross_entropy(z.t(), torch.arange(6)))


def test_the_gradient_is_as_symmetric_as_the_loss():
    z = torch.randn(4, 4, dtype=torch.float64)
    groups = torch.tensor([0, 1, 0, 2])

    def dz(of):
        criterion = ContrastiveLoss()
        with record(), primitives_only():
            criterion(output(of), groups)
            found = criterion.backward()
        return found.logits_per_text + found.logits_per_image.t()

    torch.testing.assert_close(dz(z.t()), dz(z).t())
    torch.testing.assert_close(dz(z).sum(), torch.zeros((), dtype=torch.float64))


def test_equal_captions_are_no_false_negatives():
    """Two equal captions and two equal images: nothing is wrong with that, so the gradient is zero."""
    z = torch.zeros(2, 2, dtype=torch.float64)
    criterion = ContrastiveLoss()
    with record():
        loss = criterion(output(z), torch.tensor([4, 4]))
        gradient = criterion.backward()
    assert float(loss) == pytest.approx(math.log(2))
    assert not gradient.logits_per_text.any()
    assert not gradient.logits_per_image.any()


def test_large_logits_and_half_precision():
    z = 100 * torch.eye(3)
    assert float(ContrastiveLoss()(output(z))) == 0
    assert float(ContrastiveLoss()(output(-1e4 * torch.eye(3)))) == pytest.approx(1e4, rel=1e-3)
    criterion = ContrastiveLoss()
    with record():
        loss = criterion(output(z.bfloat16()))
        assert loss.dtype == torch.bfloat16
        assert criterion.backward().logits_per_text.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("out", "groups", "message"),
    [
        (output(torch.randn(2, 3)), None, "given 2 texts and 3 images, expected as many"),
        (MiniCLIPOutput(), None, "given an output without logits"),
        (output(torch.randn(0, 0)), None, "given no pairs"),
        (output(torch.randn(2, 2)), torch.tensor([1, 2, 3]), r"given groups \(3,\) of torch.int64, expected \(2,\)"),
        (output(torch.randn(2, 2)), torch.tensor([1.0, 2.0]), "whole numbers"),
    ],
)
def test_bad_input(out, groups, message):
    with pytest.raises(ShapeError, match=message):
        ContrastiveLoss()(out, groups)


def test_worked_example():
    near = {"rtol": 0, "atol": 5e-5}
    z = torch.tensor([[2.0, 0.0], [1.2, 1.6]])
    target = torch.eye(2)
    caption_loss, log_p = mean_cross_entropy(z, target)
    image_loss, log_p_image = mean_cross_entropy(z.t(), target)
    torch.testing.assert_close(log_p.exp(), torch.tensor([[0.8808, 0.1192], [0.4013, 0.5987]]), **near)
    torch.testing.assert_close(log_p_image.exp().t(), torch.tensor([[0.6900, 0.1680], [0.3100, 0.8320]]), **near)
    assert float(caption_loss) == pytest.approx(0.3200, abs=5e-5)
    assert float(image_loss) == pytest.approx(0.2775, abs=5e-5)
    criterion = ContrastiveLoss()
    with record():
        assert float(criterion(output(z))) == pytest.approx(0.2987, abs=5e-5)
        gradient = criterion.backward()
    dz = gradient.logits_per_text + gradient.logits_per_image.t()
    torch.testing.assert_close(dz, torch.tensor([[-0.1073, 0.0718], [0.1778, -0.1423]]), **near)
    both = log_p.exp() + log_p_image.exp().t() - 2 * target
    torch.testing.assert_close(dz, 0.25 * both)
    groups = torch.tensor([0, 1, 0])
    z = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    q = match_targets(groups, groups, torch.float32)
    assert q[0].tolist() == [0.5, 0.0, 0.5]
    one = torch.tensor(3.0)  # three rows
    _, log_p = mean_cross_entropy(z, q)
    torch.testing.assert_close(log_p[0].exp(), torch.tensor([0.4223, 0.1554, 0.4223]), **near)
    for targets, expected in ((torch.eye(3), [-0.5777, 0.1554, 0.4223]), (q, [-0.0777, 0.1554, -0.0777])):
        found = mean_cross_entropy_backward(one, log_p, targets)
        torch.testing.assert_close(found[0], torch.tensor(expected), **near)
