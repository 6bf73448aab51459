import pytest
import torch
import torch.nn.functional as F
from ds_cnn import NonSaturatingLoss, WassersteinLoss
from ds_cnn.gan.adversarial_loss import CriticLoss
from ds_core import ShapeError, record
from ds_core.losses.denominator import backward_part, denominator_of, forward_part, total
from ds_core.testing import check_loss


def drawn(rows=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    f_real, f_fake = torch.randn(2, rows, 1, generator=generator, dtype=torch.float64)
    penalties = torch.rand(rows, generator=generator, dtype=torch.float64)
    return f_real, f_fake, penalties, torch.ones_like(f_real), torch.zeros_like(f_fake)


@pytest.mark.parametrize("loss", [NonSaturatingLoss(), WassersteinLoss(7.0)])
def test_both_players(loss):
    f_real, f_fake, _, ones, zeros = drawn()
    check_loss(loss, (f_real, f_fake), (ones, zeros))
    check_loss(loss, f_fake, ones)
    check_loss(loss, (f_real, f_fake), (0.9 * ones, zeros))


def test_with_penalties():
    f_real, f_fake, penalties, ones, zeros = drawn()
    check_loss(WassersteinLoss(7.0), (f_real, f_fake, penalties), (ones, zeros))
    check_loss(CriticLoss(), f_real, ones, target_gradient=True)


def test_formulas():
    f_real, f_fake, penalties, ones, zeros = drawn()
    discriminator = F.softplus(-f_real).mean() + F.softplus(f_fake).mean()
    torch.testing.assert_close(NonSaturatingLoss()((f_real, f_fake), (ones, zeros)), discriminator)
    torch.testing.assert_close(NonSaturatingLoss()(f_fake, ones), F.softplus(-f_fake).mean())
    critic = f_fake.mean() - f_real.mean()
    loss = WassersteinLoss(7.0)
    torch.testing.assert_close(loss((f_real, f_fake), (ones, zeros)), critic)
    torch.testing.assert_close(loss((f_real, f_fake, penalties), (ones, zeros)), critic + 7 * penalties.mean())
    torch.testing.assert_close(loss(f_fake, ones), -f_fake.mean())


def test_worked_example():
    f_real, f_fake = torch.tensor([[2.0], [-1.0]]).double(), torch.tensor([[0.0], [1.0]]).double()
    penalties = torch.tensor([0.04, 0.16]).double()
    ones, zeros = torch.ones_like(f_real), torch.zeros_like(f_fake)
    loss = NonSaturatingLoss()
    assert torch.sigmoid(f_real).flatten().tolist() == pytest.approx([0.880797, 0.268941], abs=1e-6)
    assert torch.sigmoid(f_fake).flatten().tolist() == pytest.approx([0.5, 0.731059], abs=1e-6)
    assert F.softplus(-f_real).flatten().tolist() == pytest.approx([0.126928, 1.313262], abs=1e-6)
    assert F.softplus(f_fake).flatten().tolist() == pytest.approx([0.693147, 1.313262], abs=1e-6)
    assert F.softplus(-f_fake)[1].item() == pytest.approx(0.313262, abs=1e-6)
    assert loss(f_real, ones).item() == pytest.approx(0.720095, abs=1e-6)
    assert loss(f_fake, zeros).item() == pytest.approx(1.003204, abs=1e-6)
    with record():
        assert loss((f_real, f_fake), (ones, zeros)).item() == pytest.approx(1.723300, abs=1e-6)
        dreal, dfake = loss.backward()
    assert dreal.flatten().tolist() == pytest.approx([-0.059601, -0.365529], abs=1e-6)
    assert dfake.flatten().tolist() == pytest.approx([0.25, 0.365529], abs=1e-6)
    with record():
        assert loss(f_fake, ones).item() == pytest.approx(0.503204, abs=1e-6)
        assert loss.backward().flatten().tolist() == pytest.approx([-0.25, -0.134471], abs=1e-6)
    critic = WassersteinLoss()
    with record():
        assert critic((f_real, f_fake, penalties), (ones, zeros)).item() == pytest.approx(1.0)
        dreal, dfake, dpenalties = critic.backward()
    assert dreal.flatten().tolist() == [-0.5, -0.5]
    assert dfake.flatten().tolist() == [0.5, 0.5]
    assert dpenalties.tolist() == pytest.approx([5.0, 5.0])


@pytest.mark.parametrize("sizes", [(3, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize("turn", ["discriminator", "generator"])
@pytest.mark.parametrize("loss", [NonSaturatingLoss(), WassersteinLoss(7.0)])
def test_parts_of_a_batch_add_up(loss, turn, sizes):
    """Micro-batches count by their rows: the loss of both, and their gradients, are those of the whole."""
    f_real, f_fake, penalties, ones, zeros = drawn()

    def of(rows):
        if turn == "generator":
            return f_fake[rows], ones[rows]
        third = (penalties[rows],) if isinstance(loss, WassersteinLoss) else ()
        return (f_real[rows], f_fake[rows], *third), (ones[rows], zeros[rows])

    whole, parts = of(slice(None)), [of(slice(0, sizes[0])), of(slice(sizes[0], 4))]
    with record():
        expected = loss(*whole)
        gradients = loss.backward()
    denominator = total([denominator_of(loss, part[0], part[1]) for part in parts])
    losses, found = [], []
    for predictions, target in parts:
        with record():
            losses.append(forward_part(loss, (predictions,), predictions, target, denominator))
            found.append(backward_part(loss, None, predictions, target, denominator, losses[-1]))
    torch.testing.assert_close(sum(losses), expected)
    if turn == "generator":
        torch.testing.assert_close(torch.cat(found), gradients)
    else:
        for index, gradient in enumerate(gradients):
            torch.testing.assert_close(torch.cat([part[index] for part in found]), gradient)


def test_the_generators_loss_has_a_slope_where_the_discriminator_is_sure():
    f_fake = torch.tensor([[-60.0]])
    with record():
        loss = NonSaturatingLoss()
        loss(f_fake, torch.ones_like(f_fake))
        assert loss.backward().item() == pytest.approx(-1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_is_kept(dtype):
    given = [tensor.to(dtype) for tensor in drawn()]
    loss = WassersteinLoss()
    with record():
        assert loss(tuple(given[:3]), tuple(given[3:])).dtype == dtype
        assert [gradient.dtype for gradient in loss.backward()] == [dtype] * 3


def test_bad_input():
    f_real, f_fake, _, ones, zeros = drawn()
    with pytest.raises(ShapeError, match=r"NonSaturatingLoss.*given a tuple of 2 predicted and one tensor of labels"):
        NonSaturatingLoss()((f_real, f_fake), ones)
    with pytest.raises(ShapeError, match=r"given a tuple of 3 predicted and a tuple of 2 of labels"):
        NonSaturatingLoss()((f_real, f_fake, f_fake), (ones, zeros))
    with pytest.raises(ShapeError, match=r"given input \(4, 1\) and target \(4,\)"):
        NonSaturatingLoss()(f_fake, torch.ones(4))
    with pytest.raises(ValueError, match="WassersteinLoss: given penalty_weight=-1"):
        WassersteinLoss(-1)
