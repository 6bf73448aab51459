"""WeightedSum: the sum, its gradients in the structure of the predictions, and what it says."""

from collections import namedtuple
from typing import Any

import pytest
import torch
from ds_core import (
    CosineEmbeddingLoss,
    CrossEntropyLoss,
    L1Loss,
    Linear,
    MarginRankingLoss,
    MSELoss,
    SmoothL1Loss,
    WeightedSum,
    record,
)
from ds_core.testing import check_loss
from loss_engines import assert_compiles, handwritten


def shared() -> WeightedSum:
    return WeightedSum({"squares": (2.0, MSELoss()), "edges": (0.5, L1Loss()), "sum": (-1.0, SmoothL1Loss("sum"))})


def detection() -> tuple[WeightedSum, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    parts = {"class": (1.0, CrossEntropyLoss()), "l1": (5.0, L1Loss()), "squares": (2.0, MSELoss())}
    criterion = WeightedSum(parts, reads={"class": "logits", "l1": "boxes", "squares": "boxes"})
    predictions = {"logits": torch.randn(6, 3), "boxes": torch.randn(6, 4), "other": torch.randn(2)}
    targets = {"boxes": torch.randn(6, 4), "logits": torch.randint(0, 3, (6,))}
    return criterion, predictions, targets


def test_one_prediction_for_all_parts() -> None:
    check_loss(shared(), torch.randn(4, 3), torch.randn(4, 3))
    check_loss(shared(), torch.randn(4, 3), torch.randn(4, 3), target_gradient=True)


def test_predictions_and_targets_by_name() -> None:
    criterion, predictions, targets = detection()
    del predictions["other"]
    check_loss(criterion, predictions, targets, batch_dim=0)
    check_loss(criterion, predictions, targets, target_gradient=True)


def test_predictions_and_targets_by_place() -> None:
    criterion = WeightedSum({"main": (1.0, MSELoss()), "auxiliary": (0.3, L1Loss())})
    x = (torch.randn(3, 2), torch.randn(3, 4))
    check_loss(criterion, x, (torch.randn(3, 2), torch.randn(3, 4)), target_gradient=True)


def test_one_target_for_several_predictions() -> None:
    criterion = WeightedSum({"main": (1.0, MSELoss()), "auxiliary": (0.3, L1Loss())})
    target = torch.randn(3, 2)
    check_loss(criterion, (torch.randn(3, 2), torch.randn(3, 2)), target, target_gradient=True)


def test_a_part_with_two_predictions() -> None:
    criterion = WeightedSum(
        {
            "pair": (2.0, CosineEmbeddingLoss(0.1)),
            "rank": (0.5, MarginRankingLoss(0.2)),
            "again": (1.0, MarginRankingLoss()),
        },
        reads={"again": "rank"},
    )
    predictions = {
        "pair": (torch.randn(4, 3), torch.randn(4, 3)),
        "rank": (torch.randn(4), torch.randn(4)),
    }
    targets = {"pair": torch.tensor([1, -1, 1, -1]), "rank": 2.0 * torch.randint(0, 2, (4,)) - 1}
    check_loss(criterion, predictions, targets)
    targets["pair"] = torch.tensor([1, 1, 1, -1])
    check_loss(criterion, predictions, targets, target_gradient=True)


def test_a_prediction_in_a_tuple_of_one_has_its_gradient_in_one() -> None:
    criterion = WeightedSum({"only": (2.0, MSELoss())})
    x, target = torch.randn(3), torch.randn(3)
    _, (gradient,) = handwritten(criterion, ((x,),), (target,))
    assert len(gradient) == 1
    torch.testing.assert_close(gradient[0], 4 / 3 * (x - target))
    with record():
        criterion(((x,),), (target,))
        ((found,),), (dtarget,) = criterion.backward(target_gradient=True)
    assert torch.equal(found, gradient[0])
    assert torch.equal(dtarget, -found)


def test_worked_example() -> None:
    criterion = WeightedSum({"squares": (0.5, MSELoss()), "edges": (2.0, L1Loss())})
    x, target = torch.tensor([[1.0, 2.0], [0.5, -1.0]]), torch.tensor([[0.0, 2.5], [0.5, 1.0]])
    with record():
        assert criterion(x, target) == 2.40625
        assert {name: float(value) for name, value in criterion.parts.items()} == {"squares": 1.3125, "edges": 0.875}
        assert 0.5 * 0.5 + 2 * 0.25 == 0.75
        assert criterion.backward().tolist() == [[0.75, -0.625], [0.0, -1.0]]


@pytest.mark.parametrize("grad", [None, 0.3])
def test_the_gradient_is_that_of_the_parts_apart(grad: float | None) -> None:
    criterion, predictions, targets = detection()
    given = None if grad is None else torch.tensor(grad)
    with record():
        loss = criterion(predictions, targets)
        gradients = criterion.backward(given)
    factor = 1.0 if grad is None else grad
    logits, boxes = (predictions[name].clone().requires_grad_() for name in ("logits", "boxes"))
    pieces = [
        torch.nn.functional.cross_entropy(logits, targets["logits"]),
        torch.nn.functional.l1_loss(boxes, targets["boxes"]),
        torch.nn.functional.mse_loss(boxes, targets["boxes"]),
    ]
    expected = pieces[0] + 5 * pieces[1] + 2 * pieces[2]
    (factor * expected).backward()
    torch.testing.assert_close(loss, expected.detach())
    assert list(gradients) == ["logits", "boxes", "other"]
    assert gradients["other"] is None
    torch.testing.assert_close(gradients["logits"], logits.grad)
    torch.testing.assert_close(gradients["boxes"], boxes.grad)
    assert list(criterion.parts) == ["class", "l1", "squares"]
    for value, piece in zip(criterion.parts.values(), pieces, strict=True):
        torch.testing.assert_close(value, piece.detach())


def test_parts_have_no_gradient_in_either_engine() -> None:
    criterion, x = shared(), torch.randn(3, requires_grad=True)
    criterion(x, torch.zeros(3)).backward()
    assert not any(value.requires_grad for value in criterion.parts.values())


def test_targets_that_are_not_floating_have_no_gradient() -> None:
    criterion, predictions, targets = detection()
    with record():
        criterion(predictions, targets)
        dpredictions, dtargets = criterion.backward(target_gradient=True)
    assert dtargets["logits"] is None
    torch.testing.assert_close(dtargets["boxes"], -dpredictions["boxes"])


def test_a_named_tuple_gives_a_named_tuple() -> None:
    outputs = namedtuple("outputs", ["logits", "boxes"])
    criterion = WeightedSum({"l1": (1.0, L1Loss("sum")), "class": (1.0, MSELoss("sum"))}, reads={"l1": -1, "class": 0})
    with record():
        criterion(outputs(torch.tensor([2.0]), torch.tensor([3.0])), outputs(torch.zeros(1), torch.zeros(1)))
        gradients = criterion.backward()
    assert isinstance(gradients, outputs)
    assert (float(gradients.logits), float(gradients.boxes)) == (4, 1)


def test_weights_change_between_steps_and_may_be_tensors() -> None:
    criterion = WeightedSum({"squares": (1.0, MSELoss("sum")), "edges": (torch.tensor(3.0), L1Loss("sum"))})
    x, target = torch.tensor([2.0]), torch.zeros(1)
    value, (dx,) = handwritten(criterion, x, target)
    assert (float(value), float(dx)) == (10, 7)
    criterion.weights["squares"] = 0.5
    with record():
        assert criterion(x, target) == 8
        criterion.weights["squares"] = 100.0
        assert criterion.backward() == 5  # with the weights of its forward


def test_losses_of_two_dtypes() -> None:
    criterion = WeightedSum({"half": (1.0, MSELoss("sum")), "double": (2.0, MSELoss("sum"))})
    predictions = (torch.ones(2).bfloat16(), torch.ones(2).double())
    value, gradients = handwritten(criterion, predictions, (torch.zeros(2).bfloat16(), torch.zeros(2).double()))
    assert (value, value.dtype) == (6, torch.float64)
    assert [gradient.dtype for gradient in gradients] == [torch.bfloat16, torch.float64]


def test_unreduced_parts_add_up_place_by_place() -> None:
    criterion = WeightedSum({"squares": (2.0, MSELoss("none")), "edges": (0.5, L1Loss("none"))})
    check_loss(criterion, torch.randn(4, 3), torch.randn(4, 3))
    x, target = torch.randn(3), torch.randn(3)
    value, (dx,) = handwritten(criterion, x, target)
    assert value.shape == (3,)
    torch.testing.assert_close(dx, 4 * (x - target) + 0.5 * (x - target).sign())


def test_the_losses_are_its_children() -> None:
    class Learned(MSELoss):
        def __init__(self) -> None:
            super().__init__()
            self.layer = Linear(2, 2)

    criterion = WeightedSum({"plain": (1.0, L1Loss()), "learned": (0.5, Learned())})
    assert [name for name, _ in criterion.named_parameters()] == [
        "losses.learned.layer.weight",
        "losses.learned.layer.bias",
    ]
    assert "plain: 1.0, learned: 0.5" in repr(criterion)
    assert "(losses.plain): L1Loss(" in repr(criterion)


def test_weighted_sum_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="WeightedSum: given no parts"):
        WeightedSum({})
    with pytest.raises(ValueError, match=r"reads is given for \['boxes'\], expected some of the parts \['l1'\]"):
        WeightedSum({"l1": (1.0, L1Loss())}, reads={"boxes": "l1"})
    criterion: Any = WeightedSum({"main": (1.0, L1Loss()), "other": (1.0, L1Loss())})
    with pytest.raises(KeyError, match=r"the part 'main' reads 'main', but given are keys \['boxes'\]"):
        criterion({"boxes": torch.zeros(1)}, torch.zeros(1))
    for targets in ((torch.zeros(1),), ()):
        with pytest.raises(KeyError, match=rf"the part '.*' reads .*, but given are {len(targets)} items"):
            criterion(torch.zeros(1), targets)


def test_weighted_sum_compiles_in_one_graph() -> None:
    assert_compiles(shared(), [(torch.randn(3, 4), torch.randn(3, 4)), (torch.randn(5, 6), torch.randn(5, 6))])
