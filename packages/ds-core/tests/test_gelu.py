"""GELU in both forms against finite differences, autograd, torch.nn, closed forms and worked examples."""

import math

import pytest
import torch
from ds_core import GELU, record
from ds_core.activations.gelu import gelu, gelu_with_slope
from ds_core.activations.smooth import slope_backward
from ds_core.speed.elementwise import CHUNK
from ds_core.testing import check_layer, check_twin_grid, one_graph

FORMS = ["none", "tanh"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5)])
def test_gelu_is_right(form: str, shape: tuple[int, ...]) -> None:
    check_layer(GELU(form), 2 * torch.randn(shape), batch_dim=0 if len(shape) > 1 else None)


def test_gelu_is_the_twin() -> None:
    assert check_twin_grid(GELU, torch.nn.GELU, {"approximate": FORMS}, [3 * torch.randn(4, 5)]) == 2


def test_gelu_refuses_an_unknown_form() -> None:
    with pytest.raises(ValueError, match="approximate='sigmoid'"):
        GELU("sigmoid")


@pytest.mark.parametrize(
    ("form", "y", "dx"),
    [
        ("none", [[0.8413, 0.0], [-0.0455, 0.3457]], [[1.0833, 1.0], [0.2557, 0.4337]]),
        ("tanh", [[0.8412, 0.0], [-0.0454, 0.3457]], [[1.0830, 1.0], [0.2583, 0.4337]]),
    ],
)
def test_worked_example(form: str, y: list[list[float]], dx: list[list[float]]) -> None:
    x = torch.tensor([[1.0, 0.0], [-2.0, 0.5]])
    dy = torch.tensor([[1.0, 2.0], [-3.0, 0.5]])
    found, slope = gelu_with_slope(x, form)
    torch.testing.assert_close(found, torch.tensor(y), rtol=0, atol=5e-5)
    torch.testing.assert_close(slope_backward(dy, slope), torch.tensor(dx), rtol=0, atol=5e-5)
    # what the page takes on the way: Phi(1), phi(1); z, sigmoid(z), dz/dx of the tanh form
    by_hand = [0.5 * (1 + math.erf(math.sqrt(0.5))), math.exp(-0.5) / math.sqrt(2 * math.pi)]
    assert by_hand == pytest.approx([0.8413, 0.2420], abs=5e-5)
    a = 2 * math.sqrt(2 / math.pi)
    b = 0.044715 * a
    assert [a, b, a + b] == pytest.approx([1.5958, 0.0714, 1.6671], abs=5e-5)
    s = 1 / (1 + math.exp(-(a + b)))
    assert [s, a + 3 * b, s + s * (1 - s) * (a + 3 * b)] == pytest.approx([0.8412, 1.8098, 1.0830], abs=6e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gelu_at_extremes_in_both_engines(form: str, dtype: torch.dtype) -> None:
    """y is x, 0 or x / 2 and dy/dx 1, 0 or 1/2, where |x| is large or 0; and never NaN."""
    x = torch.tensor([0.0, 1e4, -1e4, 1e13, -1e13, 30.0, -30.0, 1e-10], dtype=dtype)
    y_expected = torch.tensor([0.0, 1e4, 0.0, 1e13, 0.0, 30.0, 0.0, 5e-11], dtype=dtype)
    slope_expected = torch.tensor([0.5, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.5], dtype=dtype)
    layer = GELU(form)
    with record():
        y = layer(x)
        dx = layer.backward(torch.ones_like(x))
    leaf = x.clone().requires_grad_()
    gelu(leaf, form).sum().backward()
    for found in (y, gelu(leaf, form).detach()):
        torch.testing.assert_close(found, y_expected, rtol=1e-6, atol=1e-20)
    for gradient in (dx, leaf.grad):
        torch.testing.assert_close(gradient, slope_expected, rtol=1e-6, atol=1e-20)


@pytest.mark.parametrize("form", FORMS)
def test_gelu_in_float32_is_as_close_as_the_twin(form: str) -> None:
    x = torch.linspace(-12, 12, 4001)
    exact_in = x.double().requires_grad_()
    exact = torch.nn.functional.gelu(exact_in, approximate=form)
    exact.sum().backward()
    with torch.no_grad():
        y, slope = gelu_with_slope(x, form)
    torch.testing.assert_close(y.double(), exact.detach(), rtol=2e-6, atol=5e-7)
    torch.testing.assert_close(slope.double(), exact_in.grad, rtol=2e-6, atol=5e-7)


@pytest.mark.parametrize("form", FORMS)
def test_gelu_in_bfloat16_rounds_once(form: str) -> None:
    x = torch.randn(1000).bfloat16()
    layer = GELU(form)
    twin = x.clone().requires_grad_()
    expected = torch.nn.functional.gelu(twin, approximate=form)
    expected.backward(torch.ones_like(x))
    with record():
        y = layer(x)
        dx = layer.backward(torch.ones_like(x))
    assert (y.dtype, dx.dtype) == (torch.bfloat16, torch.bfloat16)
    torch.testing.assert_close(y, expected.detach(), rtol=1e-2, atol=1e-6)
    torch.testing.assert_close(dx, twin.grad, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gelu_in_chunks_equals_the_whole(form: str, dtype: torch.dtype) -> None:
    x = (3 * torch.randn(CHUNK + 77)).to(dtype)
    with torch.no_grad():
        y, (found, slope) = gelu(x, form), gelu_with_slope(x, form)
        slices = [(gelu(part, form), *gelu_with_slope(part, form)) for part in x.split(1000)]
    for whole, parts in zip((y, found, slope), zip(*slices, strict=True), strict=True):
        torch.testing.assert_close(whole, torch.cat(parts))


@pytest.mark.parametrize("form", FORMS)
def test_gelu_keeps_one_tensor_of_the_size_of_x(form: str) -> None:
    layer = GELU(form)
    x = torch.randn(100, 10)
    with record() as trace:
        layer(x)
        assert [line.bytes for line in trace.kept()] == [4000]
        layer.backward(None)


@pytest.mark.parametrize("form", FORMS)
def test_gelu_compiles_in_one_graph(form: str) -> None:
    layer = GELU(form)

    def step(x: torch.Tensor) -> torch.Tensor:
        with record():
            return layer.backward(layer(x))

    compiled = one_graph(step, dynamic=True)
    for x in (torch.randn(3, 4), torch.randn(5, 6)):
        torch.testing.assert_close(compiled(x), step(x))
