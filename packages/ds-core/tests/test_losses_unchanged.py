"""What a loss reads of its own in backward is what its forward read: a weight changed or replaced in between is not."""

import pytest
import torch
from ds_core import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    MSELoss,
    MultiMarginLoss,
    NLLLoss,
    TraceError,
    WeightedSum,
    record,
)

LOGITS = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(4, 3)
SHARES = torch.sigmoid(LOGITS.flip(0))
PROBABILITIES = torch.softmax(LOGITS.flip(1), 1)
CLASSES = torch.tensor([2, 0, 1, 1])
EACH = torch.linspace(0.5, 2.0, 3, dtype=torch.float64)

# Each loss with a tensor of its own: how it is built of that tensor, its name, and the arguments of forward.
KEEPING = {
    "bce": (lambda w: BCELoss(w), "weight", (SHARES, PROBABILITIES)),
    "bce, every element": (lambda w: BCELoss(w.expand(4, 3).clone(), "none"), "weight", (SHARES, PROBABILITIES)),
    "bce with logits": (lambda w: BCEWithLogitsLoss(w), "weight", (LOGITS, SHARES)),
    "bce with logits, yes": (lambda w: BCEWithLogitsLoss(pos_weight=w), "pos_weight", (LOGITS, SHARES)),
    "bce with logits, both": (lambda w: BCEWithLogitsLoss(w + 1, pos_weight=w), "pos_weight", (LOGITS, SHARES)),
    "multi margin": (lambda w: MultiMarginLoss(weight=w, margin=9.0), "weight", (LOGITS, CLASSES)),
    "multi margin, squared": (lambda w: MultiMarginLoss(2, 9.0, w, "sum"), "weight", (LOGITS, CLASSES)),
    "probabilities": (lambda w: CrossEntropyLoss(w), "weight", (LOGITS, PROBABILITIES)),
    "probabilities, smoothed": (lambda w: CrossEntropyLoss(w, label_smoothing=0.2), "weight", (LOGITS, PROBABILITIES)),
}
# These take all they need of the tensor in forward, so that nothing can come in between.
DONE_IN_FORWARD = {
    "classes": (lambda w: CrossEntropyLoss(w), "weight", (LOGITS, CLASSES)),
    "classes, smoothed": (lambda w: CrossEntropyLoss(w, label_smoothing=0.2), "weight", (LOGITS, CLASSES)),
    "nll": (lambda w: NLLLoss(w), "weight", (torch.log(PROBABILITIES), CLASSES)),
    "nll, each": (lambda w: NLLLoss(w, reduction="none"), "weight", (torch.log(PROBABILITIES), CLASSES)),
}


def gradients(case, between=lambda loss, name: None):
    """All gradients of the loss, with `between` done between its forward and its backward."""
    build, name, given = case
    loss, of_target = build(EACH.clone()), given[1].is_floating_point()
    with record() as trace:
        value = loss(*given)
        between(loss, name)
        try:
            found = loss.backward(torch.ones_like(value), target_gradient=of_target)
        finally:
            trace.take()
    return found if of_target else (found,)


def multiplied(loss, name):
    getattr(loss, name).mul_(5)


def replaced(loss, name):
    setattr(loss, name, getattr(loss, name) * 5)


@pytest.mark.parametrize("case", KEEPING.values(), ids=KEEPING)
def test_a_weight_changed_in_place_raises(case):
    with pytest.raises(TraceError, match=rf"backward of {type(case[0](EACH)).__name__}\(.*changed in place"):
        gradients(case, multiplied)


@pytest.mark.parametrize("case", (KEEPING | DONE_IN_FORWARD).values(), ids=KEEPING | DONE_IN_FORWARD)
def test_a_weight_replaced_is_that_of_the_forward(case):
    for found, expected in zip(gradients(case, replaced), gradients(case), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("case", DONE_IN_FORWARD.values(), ids=DONE_IN_FORWARD)
def test_a_weight_that_backward_does_not_read_may_be_changed(case):
    for found, expected in zip(gradients(case, multiplied), gradients(case), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("case", KEEPING.values(), ids=KEEPING)
def test_the_weight_counts(case):
    """Otherwise the tests above would say nothing."""
    build, *rest = case
    pairs = zip(gradients((lambda w: build(w * w), *rest)), gradients(case), strict=True)
    assert not any(torch.equal(found, expected) for found, expected in pairs)


def test_a_weight_of_a_sum():
    loss = WeightedSum({"first": (1.0, CrossEntropyLoss()), "second": (2.0, MSELoss())})
    loss.weights["second"] = torch.tensor(2.0, dtype=torch.float64)
    with record() as trace:
        loss((LOGITS, SHARES), (CLASSES, PROBABILITIES))
        loss.weights["second"].mul_(5)
        with pytest.raises(TraceError, match=r"backward of WeightedSum\(.*changed in place"):
            loss.backward()
        trace.take()
