"""CrossEntropyLoss with targets that are probabilities: against PyTorch, autograd, finite differences and by hand."""

import pytest
import torch
from ds_core import CrossEntropyLoss, ShapeError, record
from ds_core.losses.probability_targets import (
    probability_cross_entropy,
    probability_cross_entropy_backward,
    probability_target_backward,
)
from ds_core.testing import check_loss, one_graph


def probability_batch(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return 2 * torch.randn(shape), torch.softmax(torch.randn(shape), 0 if len(shape) == 1 else 1)


@pytest.mark.parametrize("shape", [(6, 5), (5,), (3, 5, 4), (2, 5, 3, 2)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_probability_targets_are_right(
    shape: tuple[int, ...], reduction: str, label_smoothing: float, weighted: bool
) -> None:
    arguments = {
        "weight": torch.rand(5) + 0.1 if weighted else None,
        "reduction": reduction,
        "label_smoothing": label_smoothing,
    }
    batch = probability_batch(*shape)
    ours, twin = CrossEntropyLoss(**arguments), torch.nn.CrossEntropyLoss(**arguments)
    batch_dim = 0 if len(shape) > 1 else None
    check_loss(ours, *batch, twin=twin, target_gradient=True, samples=6, batch_dim=batch_dim)


def test_the_target_gradient_is_left_out_unless_asked_for() -> None:
    x, target = probability_batch(4, 5)
    check_loss(CrossEntropyLoss(), x, target, twin=torch.nn.CrossEntropyLoss())


def test_worked_example() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0986, 0.0]])  # softmax: (1/2, 1/2), (3/4, 1/4)
    target = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    losses, exps, sums = probability_cross_entropy(x, target, None, 0.0)
    torch.testing.assert_close(losses, torch.tensor([0.6931, 0.2877]), rtol=0, atol=5e-5)
    torch.testing.assert_close(losses.mean(), torch.tensor(0.4904), rtol=0, atol=5e-5)
    half = torch.tensor(0.5)
    dtarget = probability_target_backward(half, x, sums, None, 0.0)
    torch.testing.assert_close(dtarget, torch.tensor([[0.3466, 0.3466], [0.1438, 0.6931]]), rtol=0, atol=6e-5)
    dx = probability_cross_entropy_backward(half, exps, sums, target, None, 0.0)
    torch.testing.assert_close(dx, torch.tensor([[0.125, -0.125], [-0.125, 0.125]]), rtol=0, atol=5e-5)


def test_probabilities_of_no_rows_give_nan_as_in_the_twin() -> None:
    loss = CrossEntropyLoss()
    x, target = probability_batch(0, 5)
    with record():
        assert loss(x, target).isnan()
        assert torch.nn.functional.cross_entropy(x, target).isnan()
        assert loss.backward().shape == (0, 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_probability_targets_at_extremes(dtype: torch.dtype) -> None:
    x = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, 1e4], [0.0, 0.0, 0.0]], dtype=dtype)
    target = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]], dtype=dtype)
    ours = CrossEntropyLoss()
    twin_x, twin_target = x.clone().requires_grad_(), target.clone().requires_grad_()
    leaf_x, leaf_target = x.clone().requires_grad_(), target.clone().requires_grad_()
    expected = torch.nn.functional.cross_entropy(twin_x, twin_target)
    expected.backward()
    ours(leaf_x, leaf_target).backward()
    with record():
        loss = ours(x, target)
        dx, dtarget = ours.backward(target_gradient=True)
    torch.testing.assert_close(loss, expected.detach())
    for found in (dx, leaf_x.grad):
        torch.testing.assert_close(found, twin_x.grad)
    for found in (dtarget, leaf_target.grad):
        torch.testing.assert_close(found, twin_target.grad)


def test_nothing_of_probabilities_is_ignored() -> None:
    with pytest.raises(ShapeError, match="ignore_index=1, but probabilities are not ignored"):
        CrossEntropyLoss(ignore_index=1)(*probability_batch(4, 5))


def test_probability_targets_compile_in_one_graph() -> None:
    criterion = CrossEntropyLoss(label_smoothing=0.1)

    def step(x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        with record():
            loss = criterion(x, target)
            return loss, criterion.backward(torch.full_like(loss, 0.5), target_gradient=True)

    compiled = one_graph(step, dynamic=True)
    for shape in ((3, 5, 4), (6, 7, 2)):
        batch = probability_batch(*shape)
        torch.testing.assert_close(compiled(*batch), step(*batch))
