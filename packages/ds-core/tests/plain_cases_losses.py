"""Arguments for the plain pairs of losses: name of the fast function -> a list of argument tuples."""

from typing import Any

import torch
from torch import Tensor


def draws(*shape: int) -> Tensor:
    """Normal numbers, the same ones each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def chances(*shape: int) -> Tensor:
    """Numbers between 0 and 1, the same ones each time."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(7 + len(shape)), dtype=torch.float64)


def float64(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


# What a loss is asked at its kinks and far out: errors of 0, exactly at the bounds below (0.5, 1), huge and infinite.
ERRORS = float64(0, 0.5, -0.5, 1, -1, 0.25, 3, -3, 1e-12, 1e4, -1e4, 1e150, float("inf"), float("-inf"))
ONE = float64(0.25).squeeze()  # the one number that "mean" and "sum" hand to all elements
EMPTY = draws(0, 3)

# x, target: ordinary numbers, ties and extremes, nothing
PREDICTIONS = [(draws(3, 4), draws(4, 3).t()), (ERRORS, torch.zeros_like(ERRORS)), (EMPTY, EMPTY)]


def of_errors(*options: float) -> list[Any]:
    return [(*pair, *options) for pair in PREDICTIONS]


def with_gradients(pairs: list[Any]) -> list[Any]:
    """The same before it, one number for all and one for each; with and without the target's gradient."""
    cases: list[Any] = []
    for x, *rest in pairs:
        each = draws(*x.shape)
        cases += [((ONE, x, *rest), {"needs": (True, False)}), ((ONE, x, *rest), {}), ((each, x, *rest), {})]
    return cases


# Probabilities of yes, to the ends; at 1e-12 the denominator of the slope meets its bound.
ENDS = float64(0, 1, 0, 1, 0, 1, 0.5, 1e-12, 1 - 1e-12, 1e-13, 1e-300, 0.25)
ANSWERS = float64(0, 1, 1, 0, 0.5, 0.5, 0.5, 1, 0, 0, 1, 0.25)
BCE = [
    (chances(3, 4), chances(4, 3).t()),
    (chances(3, 4), chances(4, 3).t(), 2 * chances(3, 4)),
    (ENDS, ANSWERS),
    (ENDS, ANSWERS, torch.full_like(ENDS, 0.5)),
    (EMPTY, EMPTY),
]

LOGITS = float64(0, 0, 0, 1e-9, 30, -30, 40, -40, 1e4, -1e4, 1e4, -1e4)
YES = float64(0, 1, 0.5, 1, 0, 1, 1, 0, 1, 1, 0, 0)
BCE_WITH_LOGITS = [
    (3 * draws(3, 4), chances(3, 4)),
    (3 * draws(3, 4), chances(3, 4), chances(3, 4), 3 * chances(3, 4)),
    (LOGITS, YES),
    (LOGITS, YES, None, torch.full_like(LOGITS, 3.0)),
    (LOGITS, YES, torch.full_like(LOGITS, 0.5), None),
    (EMPTY, EMPTY),
]

INFINITE = float("-inf")
LOG_MODEL = torch.log(float64(0.5, 0.25, 0.25, 1, 0, 0.5))  # the fifth is minus infinity
TRUTH = float64(0.25, 0.75, 0, 1, 0, 1e-300)
KL_DIV = [
    (draws(3, 4), chances(3, 4)),
    (draws(3, 4), draws(4, 3).t(), True),
    (LOG_MODEL, TRUTH),
    (LOG_MODEL, torch.log(TRUTH), True),
    (EMPTY, EMPTY),
]

# Labels of 1 and -1 with scores: on the right side, the wrong one and the boundary; the last label is neither.
SCORES = float64(0, 0, 1, 1, -1, -1, 0.5, 0.5, 2, 2, 1e4, -1e4, 800, -800, 1)
LABELS = float64(1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, 1, -1, -1, 0)
LABELLED = [(draws(3, 4), draws(3, 4).sign()), (SCORES, LABELS), (SCORES, -LABELS), (EMPTY, EMPTY)]


def of_labels(*options: float) -> list[Any]:
    return [(*pair, *options) for pair in LABELLED]


def with_gradient(cases: list[Any]) -> list[Any]:
    return [(dlosses, x, *rest) for x, *rest in cases for dlosses in (ONE, draws(*x.shape))]


RANKED = [
    (draws(3, 4), draws(4, 3).t(), draws(3, 4).sign(), 0.5),
    (SCORES, torch.zeros_like(SCORES), LABELS, 1.0),
    (SCORES, torch.zeros_like(SCORES), -LABELS, 0.0),
    (ERRORS, torch.ones_like(ERRORS), torch.ones_like(ERRORS), 0.5),
    (EMPTY, EMPTY, EMPTY, 0.5),
]

# Vectors that are the same, opposite, at right angles, zero, long and short; the last pair is ordinary.
VECTORS = float64(3, 4, 3, 4, 3, 4, 0, 0, 1e9, 1e9, 1e-9, 0, 1, 2).view(7, 2)
OTHERS = float64(3, 4, -3, -4, -4, 3, 1, 2, 1e9, -2e9, 1e-9, 1e-9, 2, 1).view(7, 2)
COSINES = float64(1, -1, 0, 0.5, 0.5, 0.3, 0.8, 0.8)  # 0.5 is the margin below
TOGETHER = float64(1, 1, -1, -1, 1, -1, -1, 0)


def scales(x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r1, r2 = (1 / (x * x).sum(-1).add(1e-12).sqrt() for x in (x1, x2))
    return (x1 * x2).sum(-1) * r1 * r2, r1, r2


PAIRS = [(draws(5, 3), draws(3, 5).t()), (VECTORS, OTHERS), (draws(0, 3), draws(0, 3))]

# Classes: all weights and reductions ask the same of these, some targets ignored, all of them, none.
CLASSES = torch.tensor([[0, 3, 1], [2, 2, 0]])
SOME = torch.tensor([[False, True, False], [True, False, False]])
WEIGHT = float64(1, 0.5, 2, 0)


def of_classes() -> list[Any]:
    """x, classes, ignored, weight; the class of what is ignored is 0."""
    x, nobody = draws(2, 4, 3), torch.zeros_like(SOME)
    large = 1e4 * draws(2, 4, 3)
    masked = draws(2, 4, 3).masked_fill(torch.arange(4).view(4, 1) == 1, INFINITE)  # no target is this class
    equal = torch.zeros(2, 4, 3, dtype=torch.float64)
    tokens = torch.where(CLASSES == 1, 0, CLASSES)
    return [
        (x, CLASSES, nobody, None),
        (x, CLASSES, nobody, WEIGHT),
        (x, CLASSES.masked_fill(SOME, 0), SOME, None),
        (x, CLASSES.masked_fill(SOME, 0), SOME, WEIGHT),
        (x, torch.zeros_like(CLASSES), ~nobody, WEIGHT),
        (large, CLASSES, nobody, None),
        (masked, tokens, nobody, None),
        (equal, CLASSES, nobody, WEIGHT),
        (draws(5), torch.tensor(3), torch.tensor(False), None),
        (draws(5), torch.tensor(0), torch.tensor(True), chances(5)),
        (draws(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool), None),
    ]


def gradients_of(count: Tensor, shape: torch.Size) -> list[Tensor]:
    """dlosses of "mean" (1 / 0 where nothing counts), of "sum", and of "none"."""
    return [1 / count, torch.ones((), dtype=torch.float64), draws(*shape)]


def nll_backward_cases() -> list[Any]:
    cases: list[Any] = []
    for x, classes, ignored, weight in of_classes():
        of_targets = torch.where(ignored, 0.0, (torch.ones(9) if weight is None else weight)[classes].double())
        for dlosses in gradients_of(of_targets.sum(), classes.shape):
            cases.append((dlosses, of_targets, classes, ignored, x))
    return cases


def softmax_parts(x: Tensor) -> tuple[Tensor, Tensor]:
    dim = 0 if x.dim() == 1 else 1
    exps = torch.exp(x - x.amax(dim, keepdim=True))
    return exps, exps.sum(dim, keepdim=True)


def cross_entropy_backward_cases() -> list[Any]:
    inputs = [case for case in of_classes() for _ in range(3)]
    return [
        (dlosses, *softmax_parts(x), target_weight, classes, ignored, weight, smoothing)
        for (x, _, _, weight), (dlosses, target_weight, classes, ignored, _) in zip(
            inputs, nll_backward_cases(), strict=True
        )
        for smoothing in (0.0, 0.2, 1.0)
    ]


SMOOTHED = draws(2, 4, 3).softmax(1)
OF_PROBABILITIES = [
    (draws(2, 4, 3), SMOOTHED, None, 0.0),
    (draws(2, 4, 3), SMOOTHED, WEIGHT, 0.1),
    (1e4 * draws(2, 4, 3), SMOOTHED, None, 1.0),
    (draws(2, 4), 3 * chances(2, 4), WEIGHT, 0.0),  # nothing requires that they sum to 1
    (draws(4), chances(4), WEIGHT, 0.2),
    (draws(0, 4), draws(0, 4), None, 0.0),
]

# x_t leads by exactly the margin of 1, by more, by less; the two classes of the last row are tied.
RIVALS = float64(2, 1, 0, 0, 3, 0.5, 1, 1, 1, 0, -1e4, 1e4).view(4, 3)
MULTI_MARGIN = [
    (x, classes, p, 1.0, weight)
    for x, classes in [
        (draws(4, 3), torch.tensor([0, 2, 1, 1])),
        (RIVALS, torch.tensor([0, 1, 2, 0])),
        (draws(0, 3), torch.zeros(0, dtype=torch.int64)),
    ]
    for p in (1, 2)
    for weight in (None, float64(1, 0, 2.5))
]


def squares(x: Tensor, target: Tensor, out: Tensor | None = None) -> Tensor:
    """The losses of `reduce_elementwise`, written to `out` as its callers do."""
    return torch.mul(x - target, x - target, out=out)


def large(rows: int) -> list[Tensor]:
    return [draws(rows, 1000), chances(rows, 1000)]


CASES: dict[str, list[Any]] = {
    "squared_error": of_errors(),
    "squared_error_backward": with_gradients(of_errors()),
    "absolute_error": of_errors(),
    "absolute_error_backward": with_gradients(of_errors()),
    "smooth_l1": of_errors(0.5) + of_errors(1.0) + of_errors(0.0),
    "smooth_l1_backward": with_gradients(of_errors(0.5) + of_errors(0.0)),
    "huber": of_errors(0.5) + of_errors(1.0),
    "huber_backward": with_gradients(of_errors(0.5) + of_errors(1.0)),
    "bce": BCE,
    "bce_backward": with_gradients(BCE),
    "bce_with_logits": BCE_WITH_LOGITS,
    "bce_with_logits_backward": with_gradients(BCE_WITH_LOGITS),
    "kl_div": KL_DIV,
    "kl_div_backward": with_gradients(KL_DIV),
    "soft_margin": of_labels(),
    "soft_margin_backward": with_gradient(of_labels()),
    "hinge_embedding": of_labels(1.0) + of_labels(0.5),
    "hinge_embedding_backward": with_gradient(of_labels(1.0) + of_labels(0.5)),
    "perceptron_loss": of_labels(),
    "perceptron_loss_backward": with_gradient(of_labels()),
    "margin_ranking": RANKED,
    "margin_ranking_backward": [
        (case, {"needs": (True, True, target)}) for case in with_gradient(RANKED) for target in (True, False)
    ],
    "cosine": PAIRS,
    "cosine_backward": [(draws(len(x1)), x1, x2, *scales(x1, x2)) for x1, x2 in PAIRS],
    "cosine_embedding": [(COSINES, TOGETHER, 0.5), (draws(0), draws(0), 0.5)],
    "cosine_embedding_backward": [(ONE, COSINES, TOGETHER, 0.5), (draws(8), COSINES, TOGETHER, 0.5)],
    "nll": of_classes(),
    "nll_backward": nll_backward_cases(),
    "cross_entropy": [(*case, smoothing) for case in of_classes() for smoothing in (0.0, 0.2, 1.0)],
    "cross_entropy_backward": cross_entropy_backward_cases(),
    "probability_cross_entropy": OF_PROBABILITIES,
    "probability_cross_entropy_backward": [
        (ONE, *softmax_parts(x), target, weight, smoothing) for x, target, weight, smoothing in OF_PROBABILITIES
    ],
    "probability_target_backward": [
        (ONE, x, softmax_parts(x)[1], weight, smoothing) for x, _, weight, smoothing in OF_PROBABILITIES
    ],
    "multi_margin": MULTI_MARGIN,
    "multi_margin_backward": [
        (dlosses, x, classes, *rest) for x, classes, *rest in MULTI_MARGIN for dlosses in (ONE, draws(len(classes)))
    ],
    "reduce_backward": [
        (grad, reduction, count, EMPTY)
        for grad in (None, ONE, draws(3, 4))
        for reduction in ("mean", "sum", "none")
        for count in (7, 0 * ONE)
    ],
    "reduce_elementwise": [
        (squares, large(rows), reduction, count)
        for rows in (3, 300)  # the second is more than one chunk
        for reduction in ("mean", "sum", "none")
        for count in (None, 7)
    ],
}
