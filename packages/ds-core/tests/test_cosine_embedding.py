"""CosineEmbeddingLoss against finite differences, autograd, torch.nn and a worked example."""

import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from ds_core import CosineEmbeddingLoss, ShapeError, plain, record
from ds_core.losses.cosine_embedding import cosine, cosine_backward, cosine_embedding, cosine_embedding_backward
from ds_core.testing import check_loss, check_twin_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_engines import assert_compiles, assert_is_the_twin, by_autograd, handwritten

REDUCTIONS = ["mean", "sum", "none"]
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def batch(*shape: int) -> Batch:
    return torch.randn(*shape, 5), torch.randn(*shape, 5), 2.0 * torch.randint(0, 2, shape) - 1


@pytest.mark.parametrize("shape", [(6,), ()])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("margin", [0.0, 0.4, -0.4])
def test_cosine_embedding_is_right(shape: tuple[int, ...], reduction: str, margin: float) -> None:
    x1, x2, target = batch(*shape)
    twin = torch.nn.CosineEmbeddingLoss(margin, reduction=reduction)
    for labels in (target, target.long()):
        check_loss(CosineEmbeddingLoss(margin, reduction), x1, x2, labels, twin=twin, batch_dim=0 if shape else None)


def test_cosine_embedding_is_the_twin() -> None:
    grid = {"margin": [0.0, 0.5, -0.5, 1], "reduction": REDUCTIONS}
    twin = torch.nn.CosineEmbeddingLoss
    assert check_twin_grid(CosineEmbeddingLoss, twin, grid, batch(6), constants=["target"]) == 12


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(0, 4),
    size=st.integers(0, 4),
    alone=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    reduction=st.sampled_from(REDUCTIONS),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 100),
)
def test_cosine_embedding_is_the_twin_for_any_shape(
    rows: int, size: int, alone: tuple[bool, bool, bool], reduction: str, dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    counts = [1 if one else rows for one in alone]
    x1, x2 = (torch.randn(n, size, dtype=dtype) for n in counts[:2])
    # A gradient is a difference of unit vectors, which may cancel, over the length of its own: none shorter than 1/2.
    x1, x2 = x1 + x1.sign() / 2, x2 + x2.sign() / 2
    target = torch.randint(-1, 2, counts[2:])  # a label of 0 counts for nothing
    twin = torch.nn.CosineEmbeddingLoss(0.1, reduction=reduction)
    near = {"rtol": 1e-4, "atol": 1e-5} if dtype is torch.float32 else {"rtol": 1e-9, "atol": 1e-10}
    assert_is_the_twin(CosineEmbeddingLoss(0.1, reduction), twin, x1, x2, target, differentiable=2, **near)


def test_worked_example() -> None:
    x1, x2 = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [0.6, 0.8]])
    target = torch.tensor([1, -1])
    near = {"rtol": 0, "atol": 5e-5}
    cosines, scale1, scale2 = cosine(x1, x2)
    torch.testing.assert_close(scale1, torch.tensor([0.2, 1.0]))
    torch.testing.assert_close(scale2, torch.tensor([0.2, 1.0]))
    torch.testing.assert_close(cosines, torch.tensor([0.96, 0.6]))
    losses = cosine_embedding(cosines, target, 0.5)
    torch.testing.assert_close(losses, torch.tensor([0.04, 0.1]))
    torch.testing.assert_close(losses.mean(), torch.tensor(0.07))
    with torch.no_grad():
        dcosine = cosine_embedding_backward(torch.tensor(0.5), cosines, target, 0.5)
        assert dcosine.tolist() == [-0.5, 0.5]
        dx1, dx2 = cosine_backward(dcosine, x1, x2, cosines, scale1, scale2)
    assert pytest.approx(-0.0224) == -0.5 * 0.2 * (0.2 * 4 - 0.96 * 0.2 * 3)
    torch.testing.assert_close(dx1, torch.tensor([[-0.0224, 0.0168], [0.0, 0.4]]), **near)
    torch.testing.assert_close(dx2, torch.tensor([[0.0168, -0.0224], [0.32, -0.24]]), **near)


def test_cosine_embedding_at_ties_zeros_and_infinities_in_both_engines() -> None:
    inf = float("inf")
    x1 = torch.tensor([[0.0, 0], [0, 0], [1e-10, 0], [1, 0], [inf, 0], [1e4, 1e4], [1, 0], [-1e4, 1]]).double()
    x2 = torch.tensor([[0.0, 0], [1, 0], [1e-10, 0], [0, 1], [1, 0], [-1e4, 1e4], [1, 1], [1e4, 1]]).double()
    for label in (1, -1, 0):
        target = torch.full((len(x1),), label)
        for reduction in REDUCTIONS:
            ours, twin = CosineEmbeddingLoss(0.0, reduction), torch.nn.CosineEmbeddingLoss(0.0, reduction=reduction)
            for i in range(len(x1)):
                pair = (x1[i], x2[i], target[i])
                assert_is_the_twin(ours, twin, *pair, differentiable=2, rtol=1e-9, atol=1e-9)


def test_long_vectors_do_not_overflow_in_float32() -> None:
    x1, x2 = torch.full((1, 3), 1e12), torch.tensor([[1e12, 2e12, 3e12]])
    value, (dx1, dx2) = handwritten(CosineEmbeddingLoss(), x1, x2, torch.tensor([1]))
    exact, right = by_autograd(torch.nn.CosineEmbeddingLoss(), (x1.double(), x2.double(), torch.tensor([1])), 2)
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)
    for found, expected in zip((dx1, dx2), right, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-19)


@pytest.mark.parametrize("form", [nullcontext, plain])
@pytest.mark.parametrize(
    "engine", [handwritten, lambda loss, *inputs: by_autograd(loss, inputs, 2)], ids=["our", "auto"]
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_vectors_as_long_as_a_dtype_allows(dtype: torch.dtype, engine: Any, form: Any) -> None:
    """Of vectors k times as long, k a power of 2, the cosine is the same, and a gradient 1 / k of what it was."""
    x1 = torch.tensor([[1.75, 0.5], [0.25, -1.0], [1.5, -1.25]], dtype=dtype)
    x2 = torch.tensor([[-1.0, 1.5], [1.25, 1.25], [1.5, 1.0]], dtype=dtype)
    loss, target = CosineEmbeddingLoss(-0.9, "sum"), torch.tensor([1, -1, 1])
    finfo = torch.finfo(dtype)
    longest = 2.0 ** (round(math.log2(finfo.max)) - 1)
    with form():
        value, gradients = engine(loss, x1, x2, target)
        for k1, k2 in ((longest, longest), (longest, 1.0), (1.0, longest), (math.sqrt(longest) // 2, longest)):
            found, long_gradients = engine(loss, x1 * k1, x2 * k2, target)
            torch.testing.assert_close(found, value)
            for k, gradient, long_gradient in zip((k1, k2), gradients, long_gradients, strict=True):
                # epsilon counts for the short ones alone, and a gradient that is subnormal keeps fewer digits
                rounding = 4 * finfo.eps + 1e-12
                near = {"rtol": rounding, "atol": rounding + finfo.tiny * k}
                torch.testing.assert_close(long_gradient.double() * k, gradient.double(), **near)


def test_cosine_embedding_in_bfloat16_rounds_once() -> None:
    x1, x2, target = batch(100)
    x1, x2 = x1.bfloat16(), x2.bfloat16()
    twin = torch.nn.CosineEmbeddingLoss(reduction="none")
    expected, right = by_autograd(twin, (x1.double(), x2.double(), target), 2)
    value, found = handwritten(CosineEmbeddingLoss(reduction="none"), x1, x2, target)
    assert [tensor.dtype for tensor in (value, *found)] == [torch.bfloat16] * 3
    torch.testing.assert_close(value.double(), expected, rtol=2**-8, atol=1e-6)
    for gradient, exact in zip(found, right, strict=True):
        torch.testing.assert_close(gradient.double(), exact, rtol=2**-8, atol=1e-6)


def test_inputs_of_two_dtypes_have_gradients_of_theirs() -> None:
    x1, x2, target = batch(4)
    twin = torch.nn.CosineEmbeddingLoss()
    assert_is_the_twin(CosineEmbeddingLoss(), twin, x1, x2.double(), target, differentiable=2, rtol=1e-5, atol=1e-6)


def test_cosine_embedding_says_what_is_wrong() -> None:
    loss = CosineEmbeddingLoss()
    shapes = [
        ((5,), (5,), (1,)),
        ((3, 5), (3, 5), ()),
        ((3, 5, 2), (3, 5, 2), (3, 5)),
        ((3, 5), (5,), (3,)),
        ((), (), ()),
    ]
    for first, second, labels in shapes:
        with pytest.raises(ShapeError, match=r"CosineEmbeddingLoss.*given inputs \(.* and target .* expected vectors"):
            loss(torch.zeros(first), torch.zeros(second), torch.zeros(labels))
    with pytest.raises(ShapeError, match=r"given input1 \(3, 5\) and input2 \(3, 4\)"):
        loss(torch.zeros(3, 5), torch.zeros(3, 4), torch.zeros(3))
    with pytest.raises(ShapeError, match=r"and target \(2, 1\)"):
        loss(torch.zeros(3, 5), torch.zeros(3, 5), torch.zeros(2))
    with record():
        loss(*batch(3))
        with pytest.raises(ValueError, match="labels have no gradient"):
            loss.backward(target_gradient=True)
    assert repr(loss) == "CosineEmbeddingLoss(margin=0.0, reduction='mean')"


def test_cosine_embedding_compiles_in_one_graph() -> None:
    assert_compiles(CosineEmbeddingLoss(0.1), [batch(3), batch(6)])
    assert_compiles(CosineEmbeddingLoss(0.1, "none"), [batch(3), batch(6)])
