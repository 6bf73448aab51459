"""HingeEmbeddingLoss against finite differences, autograd, torch.nn and a worked example."""

import pytest
import torch
from ds_core import HingeEmbeddingLoss, record
from ds_core.losses.hinge_embedding import hinge_embedding, hinge_embedding_backward
from ds_core.testing import check_loss, check_twin_grid
from loss_engines import assert_compiles, assert_is_the_twin, handwritten

REDUCTIONS = ["mean", "sum", "none"]


def batch(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return 2 * torch.randn(shape), 2.0 * torch.randint(0, 2, shape) - 1


@pytest.mark.parametrize("shape", [(), (5,), (3, 4, 2)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("margin", [1.0, 0.3])
def test_hinge_embedding_is_right(shape: tuple[int, ...], reduction: str, margin: float) -> None:
    twin = torch.nn.HingeEmbeddingLoss(margin, reduction=reduction)
    x, target = batch(*shape)
    for labels in (target, target.long()):
        check_loss(HingeEmbeddingLoss(margin, reduction), x, labels, twin=twin, batch_dim=0 if shape else None)


def test_hinge_embedding_is_the_twin() -> None:
    grid = {"margin": [1.0, 2, 0.1, 0.0, -0.5], "reduction": REDUCTIONS}
    inputs = batch(3, 4)
    assert check_twin_grid(HingeEmbeddingLoss, torch.nn.HingeEmbeddingLoss, grid, inputs, constants=["target"]) == 15


def test_worked_example() -> None:
    x = torch.tensor([[0.5, 2.0], [0.25, 1.5]])
    target = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    losses = hinge_embedding(x, target, 1.0)
    assert losses.tolist() == [[0.5, 2.0], [0.75, 0.0]]
    assert losses.mean() == 0.8125
    dlosses = torch.tensor(0.25)
    with torch.no_grad():
        dx = hinge_embedding_backward(dlosses, x, target, 1.0)
    assert dx.tolist() == [[0.25, 0.25], [-0.25, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hinge_embedding_at_kinks_extremes_and_other_labels_in_both_engines(dtype: torch.dtype) -> None:
    inf = float("inf")
    x = torch.tensor([0.0, 1.0, 0.5, 2.0, 1e4, -1e4, inf, -inf, float("nan")], dtype=dtype)
    for label in (1.0, -1.0, 0.0, 2.0):
        target = torch.full_like(x, label)
        for reduction in REDUCTIONS:
            ours, twin = HingeEmbeddingLoss(1.0, reduction), torch.nn.HingeEmbeddingLoss(1.0, reduction=reduction)
            assert_is_the_twin(ours, twin, x, target)
            for i in range(len(x)):
                assert_is_the_twin(ours, twin, x[i], target[i])


@pytest.mark.parametrize("shapes", [((3, 4), (4,)), ((4,), (3, 4)), ((3, 1), (3, 4)), ((0, 3), (0, 3))])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_hinge_embedding_broadcasts_as_the_twin(shapes: tuple[tuple[int, ...], ...], reduction: str) -> None:
    x, target = torch.randn(shapes[0]), batch(*shapes[1])[1]
    assert_is_the_twin(
        HingeEmbeddingLoss(1.0, reduction), torch.nn.HingeEmbeddingLoss(1.0, reduction=reduction), x, target
    )


def test_hinge_embedding_in_bfloat16_sums_in_float32() -> None:
    x, target = torch.full((1000,), 0.25).bfloat16(), -torch.ones(1000, dtype=torch.float64)
    value, (dx,) = handwritten(HingeEmbeddingLoss(reduction="sum"), x, target)
    assert (value.dtype, dx.dtype) == (torch.bfloat16, torch.bfloat16)
    assert value == torch.tensor(750.0).bfloat16()
    assert torch.equal(dx, -torch.ones(1000).bfloat16())


def test_labels_have_no_gradient() -> None:
    loss = HingeEmbeddingLoss()
    with record():
        loss(*batch(3))
        with pytest.raises(ValueError, match="target_gradient=True, but labels have no gradient"):
            loss.backward(target_gradient=True)
    assert repr(loss) == "HingeEmbeddingLoss(margin=1.0, reduction='mean')"


def test_hinge_embedding_compiles_in_one_graph() -> None:
    assert_compiles(HingeEmbeddingLoss(), [batch(3, 4), batch(5, 6)])
