"""What all elementwise losses share: broadcasting, dtypes, chunks, the target's gradient, and their gradients."""

import warnings
from typing import Any

import pytest
import torch
from ds_core import (
    BCELoss,
    BCEWithLogitsLoss,
    HingeEmbeddingLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    ShapeError,
    SmoothL1Loss,
    SoftMarginLoss,
    record,
)
from ds_core.interop import as_torch
from ds_core.losses.pointwise import PointwiseLoss, common_shape, summed_to
from ds_core.speed.elementwise import CHUNK
from ds_core.testing import check_loss
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_engines import assert_is_the_twin, by_autograd, handwritten

ERRORS = [MSELoss, L1Loss, SmoothL1Loss, HuberLoss]
LABELS = [HingeEmbeddingLoss, SoftMarginLoss]
ALL: list[Any] = [*ERRORS, BCELoss, BCEWithLogitsLoss, KLDivLoss, *LABELS]
REDUCTIONS = ["mean", "sum", "none"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using a target size:UserWarning"),
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning"),
]


def twin_of(cls: type, **arguments: Any) -> Any:
    return getattr(torch.nn, cls.__name__)(**arguments)


def target_of(cls: type, shape: Any, dtype: torch.dtype) -> torch.Tensor:
    return 2 * torch.randint(0, 2, shape).to(dtype) - 1 if cls in LABELS else torch.rand(shape, dtype=dtype)


@settings(max_examples=30, deadline=None)
@given(
    cls=st.sampled_from(ALL),
    shape=st.lists(st.integers(0, 3), max_size=3),
    cut=st.tuples(st.integers(0, 3), st.lists(st.booleans(), min_size=3, max_size=3)),
    other=st.tuples(st.integers(0, 3), st.lists(st.booleans(), min_size=3, max_size=3)),
    reduction=st.sampled_from(REDUCTIONS),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 100),
)
@pytest.mark.filterwarnings("ignore:.*broadcast:UserWarning")
def test_any_shapes_give_what_the_twin_gives(
    cls: type, shape: list[int], cut: Any, other: Any, reduction: str, dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    whole = [*shape]
    shapes = [
        [1 if one else n for n, one in zip(whole, ones, strict=False)][min(skipped, len(whole)) :]
        for skipped, ones in (cut, other)
    ]
    if cls in (BCELoss, BCEWithLogitsLoss, SoftMarginLoss):  # these broadcast no input
        shapes = [whole, shapes[1] if cls is SoftMarginLoss else whole]
    x, target = torch.rand(shapes[0], dtype=dtype), target_of(cls, shapes[1], dtype)
    ours, twin = cls(reduction=reduction), twin_of(cls, reduction=reduction)
    pair = {} if cls in LABELS else {"differentiable": 2, "target_gradient": True}
    near = {"rtol": 1e-4, "atol": 1e-5} if dtype is torch.float32 else {"rtol": 1e-9, "atol": 1e-9}
    assert_is_the_twin(ours, twin, x, target, **pair, **near)


@pytest.mark.parametrize("cls", ERRORS)
@pytest.mark.parametrize("shapes", [((3, 4), (4,)), ((4,), (3, 4)), ((3, 1), (1, 4)), ((), (2,))])
def test_broadcasting_warns_as_the_twin_does(cls: type, shapes: tuple[tuple[int, ...], ...]) -> None:
    x, target = torch.randn(shapes[0]), torch.randn(shapes[1])
    with pytest.warns(UserWarning, match=rf"{cls.__name__}\(.*given input .* and target .*, which are broadcast to"):
        cls()(x, target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cls()(x, x)


@pytest.mark.parametrize("cls", [*ERRORS, KLDivLoss, HingeEmbeddingLoss])
def test_broadcast_losses_are_right(cls: type) -> None:
    for first, second in (((3, 4), (4,)), ((4,), (3, 4)), ((3, 1), (1, 4))):
        x, target = torch.rand(first) + 1, target_of(cls, second, torch.float32)
        both = cls not in LABELS
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_loss(cls(), x, target, twin=twin_of(cls), target_gradient=both, batch_dim=None)


@pytest.mark.parametrize("cls", ALL)
def test_shapes_that_do_not_fit_are_both_named(cls: type) -> None:
    with pytest.raises(ShapeError, match=rf"{cls.__name__}\(.*\): given input \(3, 4\) and target \(3,\)"):
        cls()(torch.rand(3, 4), torch.ones(3))


def test_worked_example() -> None:
    x, target = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0], [2.0, -2.0]])
    loss = MSELoss("sum")
    with record():
        with pytest.warns(UserWarning, match="broadcast to"):
            value = loss(x, target)
        dx, dtarget = loss.backward(torch.tensor(0.5), target_gradient=True)
    assert value == 22
    assert dx.tolist() == [[0.0, 6.0]]
    assert dtarget.tolist() == [[-1.0, -2.0], [1.0, -4.0]]


def test_summed_to_is_the_gradient_of_expand() -> None:
    for shape, whole in (((3, 1), (2, 3, 4)), ((1,), (3, 4)), ((), (2, 3)), ((2, 3), (2, 3)), ((1, 3), (0, 3))):
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        dy = torch.randn(whole, dtype=torch.float64)
        x.expand(whole).backward(dy)
        torch.testing.assert_close(summed_to(dy, x.shape), x.grad)


def test_common_shape_names_what_does_not_fit() -> None:
    tensors = {"a": torch.zeros(2, 1), "b": torch.zeros(3), "c": torch.zeros(4)}
    assert common_shape("loss", a=tensors["a"], b=tensors["b"]) == (2, 3)
    with pytest.raises(ShapeError, match=r"'loss': given a \(2, 1\) and b \(3,\) and c \(4,\), expected"):
        common_shape("loss", **tensors)


@pytest.mark.parametrize("cls", ALL)
def test_large_inputs_are_those_of_the_numbers(cls: type) -> None:
    x, target = torch.rand(CHUNK + 77), target_of(cls, (CHUNK + 77,), torch.float32)
    pair = {} if cls in LABELS else {"differentiable": 2, "target_gradient": True}
    for reduction in REDUCTIONS:
        assert_is_the_twin(cls(reduction=reduction), twin_of(cls, reduction=reduction), x, target, **pair)


@pytest.mark.parametrize("cls", ALL)
def test_a_target_of_another_dtype(cls: type) -> None:
    """The gradient has the input's dtype, the loss that of both together, labels apart."""
    x = torch.rand(7)
    for dtype in (torch.float64, torch.bfloat16, torch.int64):
        target = torch.ones(7, dtype=dtype)
        value, (dx,) = handwritten(cls(), x, target)
        assert value.dtype == (torch.float64 if dtype is torch.float64 and cls not in LABELS else torch.float32)
        expected, (right,) = by_autograd(cls(), (x, torch.ones(7)))
        torch.testing.assert_close(value.float(), expected)
        torch.testing.assert_close(dx, right)


@pytest.mark.filterwarnings("ignore:.*broadcast:UserWarning")
def test_broadcast_half_precision_is_summed_before_it_is_rounded() -> None:
    x, target = torch.zeros(1).bfloat16(), torch.full((1000,), 0.1).bfloat16()
    value, (dx, dtarget) = handwritten(MSELoss("sum"), x, target, target_gradient=True)
    exact = target.double()
    assert value == exact.square().sum().bfloat16()
    assert dx == (-2 * exact).sum().bfloat16()
    assert [tensor.dtype for tensor in (value, dx, dtarget)] == [torch.bfloat16] * 3


@pytest.mark.parametrize("cls", ALL)
def test_targets_without_a_gradient(cls: type) -> None:
    target = torch.ones(3) if cls in LABELS else torch.ones(3, dtype=torch.int64)
    loss = cls()
    reason = "labels have" if cls in LABELS else r"a target of torch\.int64 has"
    with record():
        loss(torch.rand(3), target)
        with pytest.raises(ValueError, match=f"target_gradient=True, but {reason} no gradient"):
            loss.backward(target_gradient=True)


@pytest.mark.parametrize("cls", ALL)
def test_weights_are_buffers_and_the_names_are_the_twins(cls: type) -> None:
    loss, twin = cls(), twin_of(cls)
    assert list(loss.parameters()) == []
    assert list(loss.state_dict()) == list(twin.state_dict()) == []
    assert repr(loss).startswith(f"{cls.__name__}(")
    assert "reduction='mean'" in repr(loss)


def test_backward_twice_through_the_bridge_gives_the_same() -> None:
    loss = as_torch(MSELoss())
    x = torch.randn(4, 5, requires_grad=True)
    value = 3 * loss(x, torch.randn(4, 5))
    first = torch.autograd.grad(value, x, retain_graph=True)[0].clone()
    assert torch.equal(torch.autograd.grad(value, x)[0], first)


def test_a_loss_without_formulas_says_so() -> None:
    with pytest.raises(NotImplementedError, match="PointwiseLoss has no losses"):
        PointwiseLoss()(torch.zeros(1), torch.zeros(1))
    with pytest.raises(NotImplementedError, match="PointwiseLoss has no gradients"):
        PointwiseLoss().gradients()
