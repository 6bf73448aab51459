"""LayerNorm against finite differences, autograd, torch.nn, its extremes and a worked example."""

import numpy as np
import pytest
import torch
from ds_core import LayerNorm, ShapeError, primitives_only, record
from ds_core.layers.layer_norm import layer_norm, layer_norm_backward
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph


def shaken_norm(*args: object, **kwargs: object) -> LayerNorm:
    """A LayerNorm whose parameters are not the ones and zeros that hide mistakes."""
    layer = LayerNorm(*args, **kwargs)  # type: ignore[arg-type]
    for tensor in layer.parameters():
        tensor.data.add_(torch.randn(tensor.shape))
    return layer


@pytest.mark.parametrize("shape", [6, (6,), [5, 6], (4, 5, 6)])
@pytest.mark.parametrize("affine", [(True, True), (True, False), (False, False)])
def test_layer_norm_is_right(shape: int | list[int], affine: tuple[bool, bool]) -> None:
    layer = shaken_norm(shape, elementwise_affine=affine[0], bias=affine[1])
    batch = 0 if isinstance(shape, int) or len(shape) < 3 else None
    check_layer(layer, 2 * torch.randn(4, 5, 6) + 1, batch_dim=batch)


def test_layer_norm_is_the_twin() -> None:
    grid = {
        "normalized_shape": [4, (4,), [3, 4], (2, 3, 4)],
        "eps": [1e-5, 0.1],
        "elementwise_affine": [True, False],
        "bias": [True, False],
    }
    assert check_twin_grid(LayerNorm, torch.nn.LayerNorm, grid, [torch.randn(2, 3, 4)]) == 32


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (4,)])
def test_layer_norm_of_few_rows(shape: tuple[int, ...]) -> None:
    check_twin(LayerNorm(4), torch.nn.LayerNorm(4), torch.randn(shape))


def test_layer_norm_of_one_number_is_its_bias() -> None:
    check_twin(LayerNorm(1), torch.nn.LayerNorm(1), torch.randn(3, 1))


def test_layer_norm_takes_any_integer() -> None:
    ours, twin = LayerNorm(np.int64(5)), torch.nn.LayerNorm(np.int64(5))
    assert ours.normalized_shape == twin.normalized_shape
    check_twin(ours, twin, torch.randn(3, 5))
    assert repr(ours) == repr(LayerNorm(5))


def test_layer_norm_refuses_other_shapes() -> None:
    with pytest.raises(ShapeError, match=r"LayerNorm\(\(3, 4\).*given input of shape \(2, 4\), expected \(..., 3, 4\)"):
        LayerNorm((3, 4))(torch.randn(2, 4))
    with pytest.raises(ShapeError, match=r"given input of shape \(4,\), expected"):
        LayerNorm((3, 4))(torch.randn(4))
    with pytest.raises(ValueError, match="at least one dimension"):
        LayerNorm([])


def test_worked_example() -> None:
    x = torch.tensor([[1.0, 3.0], [2.0, -2.0]])
    weight, bias = torch.tensor([2.0, 1.0]), torch.tensor([0.5, -0.5])
    dy = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    y, mean, rstd = layer_norm(x, weight, bias, eps=3.0)
    dx, dweight, dbias = layer_norm_backward(dy, x, mean, rstd, weight)
    near = {"rtol": 0, "atol": 5e-5}
    torch.testing.assert_close(mean, torch.tensor([[2.0], [0.0]]))
    torch.testing.assert_close(rstd, torch.tensor([[0.5], [0.3780]]), **near)
    torch.testing.assert_close((x - mean) * rstd, torch.tensor([[-0.5, 0.5], [0.7559, -0.7559]]), **near)
    torch.testing.assert_close(y, torch.tensor([[-0.5, 0.0], [2.0119, -1.2559]]), **near)
    means = [(6 - 1) / 2, (6 + 1) * 0.7559 / 2]
    assert means == pytest.approx([2.5, 2.6458], abs=2e-4)
    torch.testing.assert_close(dx, torch.tensor([[0.0, 0.0], [0.5669, -0.5669]]), **near)
    torch.testing.assert_close(dweight, torch.tensor([1.7678, 1.7559]), **near)
    torch.testing.assert_close(dbias, torch.tensor([4.0, 1.0]), **near)

    y, mean, rstd = layer_norm(x, weight, bias, eps=0.0)
    torch.testing.assert_close((y - bias) / weight, torch.tensor([[-1.0, 1.0], [1.0, -1.0]]))
    dx, _, _ = layer_norm_backward(dy, x, mean, rstd, weight)
    torch.testing.assert_close(dx, torch.zeros(2, 2))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4, 1e15])
def test_layer_norm_at_extremes_is_as_close_as_the_twin(scale: float) -> None:
    """float32 of large and small numbers, and of a mean far larger than the deviation."""
    x = scale * torch.randn(5, 64)
    x[0] += 100 * scale
    dy = torch.randn(5, 64)
    ours, twin = shaken_norm(64), torch.nn.LayerNorm(64)
    twin.load_state_dict(ours.state_dict())
    exact = torch.nn.LayerNorm(64).double()
    exact.load_state_dict(ours.state_dict())
    leaf, exact_leaf = x.clone().requires_grad_(), x.double().requires_grad_()
    expected = exact(exact_leaf)
    expected.backward(dy.double())
    twin(leaf).backward(dy)
    with record():
        y = ours(x)
        dx = ours.backward(dy)
    slope = float(exact_leaf.grad.abs().amax())
    for found, right, near in ((y, expected.detach(), 1e-4), (dx, exact_leaf.grad, 1e-4 * slope)):
        assert float((found.double() - right).abs().max()) <= near


def test_layer_norm_of_equal_numbers_is_the_twin() -> None:
    """The variance is 0 and 1 / sqrt(eps) bounds the gradient."""
    x = torch.tensor([[0.0] * 4, [7.0] * 4, [-1e4] * 4])
    check_twin(LayerNorm(4), torch.nn.LayerNorm(4), x, atol=1e-9)


@pytest.mark.parametrize("parameters", [torch.bfloat16, torch.float32])
def test_layer_norm_in_bfloat16_averages_in_float32(parameters: torch.dtype) -> None:
    x = (torch.randn(8, 2000) + 3).bfloat16()
    dy = torch.randn(8, 2000).bfloat16()
    ours = shaken_norm(2000).to(parameters)
    twin = torch.nn.LayerNorm(2000).to(parameters)
    twin.load_state_dict(ours.state_dict())
    leaf = x.clone().requires_grad_()
    expected = twin(leaf)
    expected.backward(dy)
    with record():
        y = ours(x)
        dx = ours.backward(dy)
    assert (y.dtype, dx.dtype) == (torch.bfloat16, torch.bfloat16)
    torch.testing.assert_close(y, expected.detach(), rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(dx, leaf.grad, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(ours.weight.grad, twin.weight.grad, rtol=2e-2, atol=5e-2)
    assert ours.weight.grad.dtype == parameters


def test_layer_norm_keeps_the_input_itself_and_two_numbers_a_row() -> None:
    layer, x = LayerNorm(100), torch.randn(10, 100)
    with record() as trace:
        layer(x)
        (line,) = trace.kept()
        assert trace.entries[0].saved[0] is x
        assert line.bytes == x.untyped_storage().nbytes() + 2 * 10 * 4
        layer.backward(None)


def test_layer_norm_without_needs_does_no_work() -> None:
    x, dy, weight = torch.randn(3, 4), torch.randn(3, 4), torch.randn(4)
    _, mean, rstd = layer_norm(x, weight, None, 1e-5)
    for needs in [(True, False, False), (False, True, False), (False, False, True), (False, False, False)]:
        found = layer_norm_backward(dy, x, mean, rstd, weight, needs)
        assert tuple(gradient is not None for gradient in found) == needs
    frozen = LayerNorm(4)
    frozen.weight.requires_grad_(False)
    with record(), primitives_only() as operations:
        assert frozen.backward(frozen(x)) is not None
    assert operations["mv"] == 2  # the two sums of dx; the third would be that of dweight
    assert frozen.weight.grad is None
    assert frozen.bias.grad is not None


def test_layer_norm_compiles_in_one_graph() -> None:
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
