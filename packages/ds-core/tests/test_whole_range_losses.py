"""Every loss over the whole range of every dtype: both engines, as they run and as their pages write them.

As far as the differences that the formulas begin with are finite: of predictions and targets, of scores.
"""

import itertools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import pytest
import torch
from ds_core import (
    BCELoss,
    BCEWithLogitsLoss,
    ClassifierLoss,
    CosineEmbeddingLoss,
    CrossEntropyLoss,
    HingeEmbeddingLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MarginRankingLoss,
    MSELoss,
    MultiMarginLoss,
    NLLLoss,
    PerceptronLoss,
    SmoothL1Loss,
    SoftMarginLoss,
    TokenCrossEntropy,
    WeightedSum,
    plain,
    record,
)
from ds_core.losses.pointwise import ErrorLoss, PointwiseLoss
from loss_engines import loss_classes
from torch import Tensor, nn
from whole_range import DTYPES, assert_right, numbers

Inputs = Callable[[torch.dtype], list[Tensor]]


class Case(NamedTuple):
    loss: type[Any]
    twin: type[Any]
    inputs: Inputs
    options: Sequence[dict[str, Any]] = ({},)
    differentiable: int = 1  # of the inputs
    target_gradient: bool = False  # whether that counts the target
    rtol: float = 0.0  # of what the twin rounds


class TorchPerceptronLoss(nn.Module):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return torch.where(target * input <= 0, -target * input, 0.0)  # at 0 it is no winner


def _columns(first: Sequence[float], *others: Sequence[float]) -> Inputs:
    return lambda dtype: [*torch.tensor(list(itertools.product(first, *others)), dtype=torch.float64).to(dtype).T]


def _reach(dtype: torch.dtype) -> float:
    """Up to which part of the largest number differences are finite: all of float16, which is computed in float32."""
    return 1.0 if dtype == torch.float16 else 1 / 8


def _some(dtype: torch.dtype) -> list[float]:
    """A tenth of the numbers, the extremes among them."""
    values = numbers(dtype, _reach(dtype))
    return values[:4] + values[4:-4:9] + values[-4:]


def pairs(dtype: torch.dtype) -> list[Tensor]:
    return _columns(_some(dtype), _some(dtype))(dtype)


def labelled(dtype: torch.dtype) -> list[Tensor]:
    return _columns(numbers(dtype), [1.0, -1.0])(dtype)


def ranked(dtype: torch.dtype) -> list[Tensor]:
    return _columns(_some(dtype), _some(dtype), [1.0, -1.0])(dtype)


def probabilities(dtype: torch.dtype) -> list[float]:
    finfo = torch.finfo(dtype)
    return [0.0, finfo.tiny * finfo.eps, finfo.tiny, finfo.eps, 0.25, 0.5, 1 - finfo.eps, 1.0]


def of_probabilities(dtype: torch.dtype) -> list[Tensor]:
    return _columns(probabilities(dtype), probabilities(dtype))(dtype)


def logits(dtype: torch.dtype) -> list[Tensor]:
    # The twin adds (1 - t) x to |x|: a t that 1 swallows is lost there.
    return _columns(numbers(dtype, _reach(dtype) / 4), [0.0, 0.25, 0.5, 0.984375, 1.0])(dtype)


def log_probabilities(dtype: torch.dtype) -> list[Tensor]:
    return _columns(_some(dtype), [value for value in _some(dtype) if value <= 0])(dtype)


def densities(dtype: torch.dtype) -> list[Tensor]:
    # Autograd multiplies by t and divides by it again: half of a subnormal may be 0.
    return _columns(numbers(dtype), [t for t in probabilities(dtype) if t == 0 or t >= torch.finfo(dtype).tiny])(dtype)


def _rows(dtype: torch.dtype, largest: float, columns: int) -> Tensor:
    values = torch.tensor(numbers(dtype, largest), dtype=torch.float64)
    order = torch.stack([torch.randperm(len(values), generator=torch.Generator().manual_seed(i)) for i in range(9)])
    mixed = values[order].reshape(-1)
    return mixed[: len(mixed) // columns * columns].view(-1, columns).to(dtype)


def scores(dtype: torch.dtype) -> list[Tensor]:
    x = _rows(dtype, _reach(dtype), 3)
    return [x, torch.arange(len(x)) % 3]


def distributions(dtype: torch.dtype) -> list[Tensor]:
    x = _rows(dtype, _reach(dtype), 3)
    return [x, torch.softmax(x.double().clamp(-5, 5).flip(0), 1).to(dtype)]


def vectors(dtype: torch.dtype) -> list[Tensor]:
    # In float64 as far as the twin's product of four numbers is finite; beyond: test_cosine_embedding.py.
    x = _rows(dtype, 1.0 if dtype != torch.float64 else 1e-235, 2)
    return [x, x.roll(1, 0), (torch.arange(len(x)) % 2 * 2 - 1).to(dtype)]


WEIGHT = torch.tensor([0.5, 2.0, 1e-3], dtype=torch.float64)
TABLE = [
    Case(MSELoss, nn.MSELoss, pairs, [{}], 2, True),
    Case(L1Loss, nn.L1Loss, pairs, [{}], 2, True),
    Case(HuberLoss, nn.HuberLoss, pairs, [{}, {"delta": 0.01}, {"delta": 1e3}], 2, True),
    Case(SmoothL1Loss, nn.SmoothL1Loss, pairs, [{}, {"beta": 0.0}, {"beta": 0.01}, {"beta": 1e3}], 2, True),
    # of 1e-12 the twin takes the nearest float32
    Case(BCELoss, nn.BCELoss, of_probabilities, rtol=1e-8),
    Case(BCEWithLogitsLoss, nn.BCEWithLogitsLoss, logits, [{}, {"pos_weight": torch.tensor(3.0)}], 2, True),
    Case(KLDivLoss, nn.KLDivLoss, densities, [{}], 2, True),
    Case(KLDivLoss, nn.KLDivLoss, log_probabilities, [{"log_target": True}], 2, True),
    Case(SoftMarginLoss, nn.SoftMarginLoss, labelled),
    Case(HingeEmbeddingLoss, nn.HingeEmbeddingLoss, labelled, [{}, {"margin": 1e4}]),
    Case(PerceptronLoss, TorchPerceptronLoss, labelled),
    Case(MarginRankingLoss, nn.MarginRankingLoss, ranked, [{}, {"margin": 0.3}], differentiable=2),
    Case(MultiMarginLoss, nn.MultiMarginLoss, scores, [{}, {"p": 2}, {"p": 2, "weight": WEIGHT}]),
    Case(NLLLoss, nn.NLLLoss, scores, [{}, {"weight": WEIGHT}]),
    Case(CrossEntropyLoss, nn.CrossEntropyLoss, scores, [{}, {"weight": WEIGHT}, {"label_smoothing": 0.1}]),
    Case(
        CrossEntropyLoss,
        nn.CrossEntropyLoss,
        distributions,
        [{}, {"weight": WEIGHT}, {"label_smoothing": 0.1}],
        differentiable=2,
        target_gradient=True,
    ),
    Case(CosineEmbeddingLoss, nn.CosineEmbeddingLoss, vectors, [{"margin": 0.3}], differentiable=2),
]


def test_the_table_holds_each_loss() -> None:
    # bases, a sum of losses, a choice among them, and cross-entropy with another name for the shape of its inputs
    assert {case.loss for case in TABLE} == loss_classes() - {
        PointwiseLoss,
        ErrorLoss,
        WeightedSum,
        ClassifierLoss,
        TokenCrossEntropy,
    }


def evaluate(loss: Any, inputs: list[Tensor], case: Case, handwritten: bool) -> list[Tensor]:
    """The loss of each element and the gradients of half of it."""
    if handwritten:
        with record():
            value = loss(*inputs)
            options = {"target_gradient": True} if case.target_gradient else {}
            gradients = loss.backward(torch.full_like(value, 0.5), **options)
        return [value, *([gradients] if isinstance(gradients, Tensor) else gradients)]
    leaves = [x.clone().requires_grad_(i < case.differentiable) for i, x in enumerate(inputs)]
    value = loss(*leaves)
    value.backward(torch.full_like(value, 0.5))
    return [value.detach(), *[leaf.grad for leaf in leaves[: case.differentiable]]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", TABLE, ids=lambda case: f"{case.loss.__name__}-{case.inputs.__name__}")
def test_a_loss_is_right_over_the_whole_range(case: Case, dtype: torch.dtype) -> None:
    inputs = case.inputs(dtype)
    wide = [x.double() if x.is_floating_point() else x for x in inputs]
    for options in case.options:
        given = {name: value.to(dtype) if isinstance(value, Tensor) else value for name, value in options.items()}
        exact = {name: value.double() if isinstance(value, Tensor) else value for name, value in given.items()}
        loss, twin = case.loss(**given), case.twin(**exact)
        if case.loss is not PerceptronLoss:
            twin.reduction = "none"
        loss.reduction = "none"
        right = evaluate(twin, wide, case, handwritten=False)
        for form, handwritten in itertools.product((nullcontext, plain), (True, False)):
            with form():
                found = evaluate(loss, inputs, case, handwritten)
            for i, (ours, theirs) in enumerate(zip(found, right, strict=True)):
                # the gradient of a cosine is one of unit vectors, divided by the length of its own
                is_cosine = case.loss is CosineEmbeddingLoss and i > 0
                near = 16 / wide[i - 1].square().sum(1, keepdim=True).add(1e-12).sqrt() if is_cosine else 16
                title = f"{loss}, {dtype}, {form.__name__}, handwritten {handwritten}, result {i}"
                assert_right(ours, theirs, near, title, case.rtol)
