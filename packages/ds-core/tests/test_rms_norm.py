"""RMSNorm against finite differences, autograd, torch.nn, its extremes and a worked example."""

import numpy as np
import pytest
import torch
from ds_core import RMSNorm, ShapeError, primitives_only, record
from ds_core.layers.rms_norm import rms_norm, rms_norm_backward
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph
from hypothesis import given, settings
from hypothesis import strategies as st


def shaken_norm(*args: object, **kwargs: object) -> RMSNorm:
    """An RMSNorm whose weights are not the ones that hide mistakes."""
    layer = RMSNorm(*args, **kwargs)  # type: ignore[arg-type]
    for tensor in layer.parameters():
        tensor.data.add_(torch.randn(tensor.shape))
    return layer


@pytest.mark.parametrize("shape", [6, (6,), [5, 6], (4, 5, 6)])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("eps", [None, 0.1])
def test_rms_norm_is_right(shape: int | list[int], affine: bool, eps: float | None) -> None:
    layer = shaken_norm(shape, eps, elementwise_affine=affine)
    batch = 0 if isinstance(shape, int) or len(shape) < 3 else None
    check_layer(layer, 2 * torch.randn(4, 5, 6) + 1, batch_dim=batch)


def test_rms_norm_is_the_twin() -> None:
    grid = {
        "normalized_shape": [4, (4,), [3, 4], (2, 3, 4)],
        "eps": [None, 0.0, 1e-5, 0.1],
        "elementwise_affine": [True, False],
    }
    assert check_twin_grid(RMSNorm, torch.nn.RMSNorm, grid, [torch.randn(2, 3, 4)]) == 32
    assert repr(RMSNorm((3, 4))) == repr(torch.nn.RMSNorm((3, 4)))


@settings(max_examples=30, deadline=None)
@given(
    leading=st.lists(st.integers(0, 3), max_size=3),
    normalised=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    affine=st.booleans(),
    seed=st.integers(0, 99),
)
def test_rms_norm_of_any_shape_is_the_twins(
    leading: list[int], normalised: list[int], dtype: torch.dtype, affine: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, dy = torch.randn(2, *leading, *normalised, generator=generator).to(dtype)
    ours, twin = (cls(normalised, 0.5, affine, dtype=dtype) for cls in (RMSNorm, torch.nn.RMSNorm))
    leaf = x.clone().requires_grad_()
    expected = twin(leaf)
    expected.backward(dy)
    with record():
        y = ours(x)
        dx = ours.backward(dy)
    near = {"rtol": 2e-2, "atol": 3e-2} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(y, expected.detach(), **near)
    torch.testing.assert_close(dx, leaf.grad, **near)
    if affine:
        torch.testing.assert_close(ours.weight.grad, twin.weight.grad, **near)


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (4,)])
def test_rms_norm_of_few_rows(shape: tuple[int, ...]) -> None:
    check_twin(RMSNorm(4), torch.nn.RMSNorm(4), torch.randn(shape))


def test_rms_norm_of_one_number_is_its_sign() -> None:
    check_twin(RMSNorm(1), torch.nn.RMSNorm(1), torch.randn(3, 1))
    torch.testing.assert_close(RMSNorm(1, eps=0.0)(torch.tensor([[3.0], [-0.1]])), torch.tensor([[1.0], [-1.0]]))


def test_rms_norm_takes_any_integer() -> None:
    assert RMSNorm(np.int64(5)).normalized_shape == torch.nn.RMSNorm(np.int64(5)).normalized_shape
    assert repr(RMSNorm(np.int64(5))) == repr(RMSNorm(5))


def test_rms_norm_refuses_other_shapes() -> None:
    with pytest.raises(ShapeError, match=r"RMSNorm\(\(3, 4\).*given input of shape \(2, 4\), expected \(..., 3, 4\)"):
        RMSNorm((3, 4))(torch.randn(2, 4))
    with pytest.raises(ShapeError, match=r"given input of shape \(4,\), expected"):
        RMSNorm((3, 4))(torch.randn(4))
    with pytest.raises(ValueError, match="at least one dimension"):
        RMSNorm([])


def test_worked_example() -> None:
    x = torch.tensor([[1.0, 3.0], [2.0, -2.0]])
    weight = torch.tensor([2.0, 1.0])
    dy = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    near = {"rtol": 0, "atol": 5e-5}
    y, rrms = rms_norm(x, weight, eps=3.0)
    dx, dweight = rms_norm_backward(dy, x, rrms, weight)
    torch.testing.assert_close(rrms, torch.tensor([[0.3536], [0.3780]]), **near)
    torch.testing.assert_close(y, torch.tensor([[0.7071, 1.0607], [1.5119, -0.7559]]), **near)
    torch.testing.assert_close(dweight, torch.tensor([2.6213, 2.8772]), **near)
    assert ((dy * weight * x).sum(1) / 2).tolist() == [4.0, 7.0]
    torch.testing.assert_close(dx, torch.tensor([[0.5303, 0.1768], [1.5119, 0.3780]]), **near)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4, 1e10])
def test_rms_norm_at_extremes_is_as_close_as_float32_can_be(scale: float) -> None:
    """Large and small numbers, and a mean far larger than the deviation, in both engines."""
    x = scale * torch.randn(5, 64)
    x[0] += 100 * scale
    x[1] = 0
    dy = torch.randn(5, 64)
    ours, exact = shaken_norm(64, 1e-5), torch.nn.RMSNorm(64, 1e-5).double()
    exact.load_state_dict(ours.state_dict())
    leaf, exact_leaf = x.clone().requires_grad_(), x.double().requires_grad_()
    expected = exact(exact_leaf)
    expected.backward(dy.double())
    ours(leaf).backward(dy)
    with record():
        y = ours(x)
        dx = ours.backward(dy)
    assert float((y.double() - expected.detach()).abs().max()) <= 1e-5
    for found in (dx, leaf.grad):
        for row, right in zip(found.double(), exact_leaf.grad, strict=True):
            assert float((row - right).abs().max()) <= 1e-5 * float(right.abs().max())


@pytest.mark.parametrize(("dtype", "eps"), [(torch.float64, 2.0**-52), (torch.float32, 2.0**-23)])
def test_the_default_eps_is_that_of_the_dtype_calculated_in(dtype: torch.dtype, eps: float) -> None:
    x = torch.full((2, 3), 1e-7, dtype=dtype)
    torch.testing.assert_close(RMSNorm(3, dtype=dtype)(x), x / (x * x + eps).sqrt())


@pytest.mark.parametrize("parameters", [torch.bfloat16, torch.float32])
def test_rms_norm_in_bfloat16_averages_in_float32(parameters: torch.dtype) -> None:
    """Numbers so small that the eps of bfloat16, 2^-7, would drown them."""
    x = ((torch.randn(8, 2000) + 3) / 100).bfloat16()
    dy = torch.randn(8, 2000).bfloat16()
    ours = shaken_norm(2000).to(parameters)
    exact = torch.nn.RMSNorm(2000, eps=2.0**-23).double()
    exact.load_state_dict(ours.state_dict())
    leaf = x.double().requires_grad_()
    expected = exact(leaf)
    expected.backward(dy.double())
    with record():
        y = ours(x)
        dx = ours.backward(dy)
    assert (y.dtype, dx.dtype, ours.weight.grad.dtype) == (torch.bfloat16, torch.bfloat16, parameters)
    torch.testing.assert_close(y.double(), expected.detach(), rtol=5e-3, atol=1e-3)
    torch.testing.assert_close(dx.double(), leaf.grad, rtol=5e-3, atol=1e-2)
    torch.testing.assert_close(ours.weight.grad.double(), exact.weight.grad, rtol=5e-3, atol=1e-5)


def test_rms_norm_under_autocast_keeps_its_precision() -> None:
    x, dy = torch.randn(8, 200), torch.randn(8, 200)
    layer, other = shaken_norm(200), RMSNorm(200)
    other.load_state_dict(layer.state_dict())
    gradients = []
    for model, enabled in ((layer, True), (other, False)):
        with record(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            model(x)
            gradients += [model.backward(dy), model.weight.grad]
    for found, right in zip(gradients[:2], gradients[2:], strict=True):
        torch.testing.assert_close(found, right)


def test_rms_norm_keeps_the_input_itself_and_a_number_a_row() -> None:
    layer, x = RMSNorm(100), torch.randn(10, 100)
    with record() as trace:
        layer(x)
        (line,) = trace.kept()
        assert trace.entries[0].saved[0] is x
        assert line.bytes == x.untyped_storage().nbytes() + 10 * 4
        layer.backward(None)


def test_rms_norm_without_needs_does_no_work() -> None:
    x, dy, weight = torch.randn(3, 4), torch.randn(3, 4), torch.randn(4)
    _, rrms = rms_norm(x, weight, 1e-5)
    whole = rms_norm_backward(dy, x, rrms, weight)
    for needs in [(True, False), (False, True), (False, False)]:
        with primitives_only() as ran:
            found = rms_norm_backward(dy, x, rrms, weight, needs)
        assert tuple(gradient is not None for gradient in found) == needs
        assert ran["mv"] == sum(needs)
        for part, same in zip(found, whole, strict=True):
            assert part is None or torch.equal(part, same)


def test_rms_norm_compiles_in_one_graph() -> None:
    layer = shaken_norm(4)

    def step(x: torch.Tensor) -> torch.Tensor:
        with record():
            return layer.backward(layer(x) * 2)

    compiled = one_graph(step, dynamic=True)
    for x in (torch.randn(3, 4), torch.randn(5, 4)):
        layer.zero_grad()
        expected = step(x)
        gradient = layer.weight.grad.clone()
        layer.zero_grad()
        torch.testing.assert_close(compiled(x), expected)
        torch.testing.assert_close(layer.weight.grad, gradient)
