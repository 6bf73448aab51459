"""PReLU against finite differences, autograd, torch.nn, its kink and extremes and a worked example."""

import pytest
import torch
from ds_core import PReLU, ShapeError, primitives_only, record
from ds_core.activations.prelu import prelu, prelu_backward
from ds_core.testing import check_layer, check_twin, check_twin_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_engines import check_both_engines, check_compiled_step, differentiated, handwritten


def spread(num_parameters: int = 1) -> PReLU:
    """A PReLU whose slopes differ, some negative."""
    layer = PReLU(num_parameters)
    layer.weight.data.copy_(torch.linspace(-0.4, 1.2, num_parameters))
    return layer


@pytest.mark.parametrize(
    ("parameters", "shape"), [(1, ()), (1, (5,)), (1, (4, 3)), (3, (4, 3)), (3, (2, 3, 5)), (3, (4, 3, 2, 2))]
)
def test_prelu_is_right(parameters: int, shape: tuple[int, ...]) -> None:
    check_layer(spread(parameters), torch.randn(shape), batch_dim=0 if len(shape) > 1 else None)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (2, 3, 2, 2)])
def test_prelu_is_the_twin(shape: tuple[int, ...]) -> None:
    grid = {"num_parameters": [1, 3], "init": [0.25, -0.5, 1.5]}
    assert check_twin_grid(PReLU, torch.nn.PReLU, grid, [torch.randn(shape)]) == 6
    assert repr(PReLU(3)) == repr(torch.nn.PReLU(3))


@pytest.mark.parametrize("shape", [(), (5,), (1,), (0,), (3, 0), (0, 3), (2, 3, 0)])
def test_prelu_of_few_dimensions_and_of_nothing(shape: tuple[int, ...]) -> None:
    check_twin(PReLU(), torch.nn.PReLU(), torch.randn(shape))
    if shape in [(0, 3), (2, 3, 0)]:
        check_twin(PReLU(3), torch.nn.PReLU(3), torch.randn(shape))


@pytest.mark.parametrize("parameters", [2, 3])
@pytest.mark.parametrize("shape", [(), (2,), (3,), (3, 4), (3, 4, 2)])
def test_prelu_refuses_other_channels_as_the_twin_does(parameters: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError):
        torch.nn.PReLU(parameters)(torch.randn(shape))
    text = rf"PReLU\(num_parameters={parameters}\): given input of shape \(.*expected \(N, {parameters}, \.\.\.\)"
    with pytest.raises(ShapeError, match=text):
        PReLU(parameters)(torch.randn(shape))


def test_worked_example() -> None:
    x = torch.tensor([[1.0, -2.0], [-3.0, -0.5]])
    weight = torch.tensor([0.25, 0.1])
    dy = torch.tensor([[5.0, 6.0], [4.0, -8.0]])
    torch.testing.assert_close(prelu(x, weight), torch.tensor([[1.0, -0.2], [-0.75, -0.05]]))
    dx, dweight = prelu_backward(dy, x, weight)
    torch.testing.assert_close(dx, torch.tensor([[5.0, 0.6], [1.0, -0.8]]))
    torch.testing.assert_close(dweight, torch.tensor([-12.0, -8.0]))
    assert [4 * -3, 6 * -2 - 8 * -0.5] == [-12, -8]
    _, dweight = prelu_backward(dy, x, torch.tensor([0.25]))
    assert dweight.tolist() == [-20]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_prelu_at_kink_and_extremes_in_both_engines(dtype: torch.dtype) -> None:
    inf = float("inf")
    x = torch.tensor([[0.0, -0.0, 1e4], [-1e4, 1e-38, -1e-38], [inf, -inf, 1e-10]], dtype=dtype)
    for parameters in (1, 3):
        layer, twin = PReLU(parameters, -0.3).to(dtype), torch.nn.PReLU(parameters, -0.3).to(dtype)
        check_both_engines(layer, twin, x, rtol=1e-6 if dtype != torch.bfloat16 else 1e-2, atol=0)
        for engine in (handwritten, differentiated):
            layer.zero_grad()
            twin.zero_grad()
            engine(layer, x, torch.ones_like(x))
            differentiated(twin, x, torch.ones_like(x))
            torch.testing.assert_close(layer.weight.grad, twin.weight.grad)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=5),
    channelwise=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_prelu_of_any_shape_is_the_twin(shape: list[int], channelwise: bool, dtype: torch.dtype) -> None:
    parameters = shape[1] if channelwise and len(shape) > 1 and shape[1] > 0 else 1
    twin = torch.nn.PReLU(parameters).to(dtype)
    check_both_engines(PReLU(parameters).to(dtype), twin, torch.randn(shape).to(dtype), rtol=1e-6, atol=0)
    check_twin(PReLU(parameters), torch.nn.PReLU(parameters), torch.randn(shape))


def test_prelu_in_bfloat16_sums_in_float32() -> None:
    x, dy = -torch.rand(3000, 2).bfloat16(), torch.rand(3000, 2).bfloat16()
    layer = PReLU(2).bfloat16()
    y, dx = handwritten(layer, x, dy)
    assert [tensor.dtype for tensor in (y, dx, layer.weight.grad)] == [torch.bfloat16] * 3
    assert prelu_backward(dy, x, layer.weight)[1].dtype == torch.bfloat16
    exact = (x.double() * dy.double()).sum(0)
    torch.testing.assert_close(layer.weight.grad.double(), exact, rtol=2**-8, atol=0)
    torch.testing.assert_close(y.double(), 0.25 * x.double(), rtol=2**-8, atol=0)


def test_prelu_in_bfloat16_multiplies_in_float32() -> None:
    """(1 + 2^-7)^2 = 1 + 2^-6 + 2^-14, whose last part bfloat16 does not hold, and it is all that the sum leaves."""
    x = -torch.tensor([1 + 2**-7, 1]).bfloat16()
    dy = torch.tensor([1 + 2**-7, -1 - 2**-6]).bfloat16()
    _, dweight = prelu_backward(dy, x, torch.ones(1).bfloat16())
    assert dweight.tolist() == [-(2**-14)]


def test_prelu_without_needs_does_no_work() -> None:
    x, dy, weight = torch.randn(3, 4), torch.randn(3, 4), torch.randn(4)
    for needs in [(True, False), (False, True), (False, False)]:
        found = prelu_backward(dy, x, weight, needs)
        assert tuple(gradient is not None for gradient in found) == needs
    frozen = PReLU()
    frozen.weight.requires_grad_(False)
    with record(), primitives_only() as operations:
        assert frozen.backward(frozen(x)) is not None
    assert operations["sum"] == 0


def test_prelu_keeps_the_input_itself() -> None:
    layer, x = PReLU(), torch.randn(10)
    with record() as trace:
        layer(x)
        assert trace.entries[0].saved[0] is x
        layer.backward(None)


@pytest.mark.parametrize("parameters", [1, 4])
def test_prelu_compiles_in_one_graph(parameters: int) -> None:
    layer = spread(parameters)
    check_compiled_step(layer, [(3, 4), (5, 4)])
    assert layer.weight.grad.shape == (parameters,)


def test_prelu_compiles_where_the_number_of_channels_is_symbolic() -> None:
    layer = spread(3)

    def forward(x: torch.Tensor) -> torch.Tensor:
        with record():
            y = layer(x)
            layer.backward(torch.ones_like(x))
        return y

    x = torch.randn(4, 3)
    compiled = torch.compile(forward, fullgraph=True, backend="aot_eager", dynamic=True)
    torch.testing.assert_close(compiled(x), layer(x).detach())


def test_prelu_starts_as_it_is_told() -> None:
    layer = PReLU(3, init=0.5, device="meta", dtype=torch.float64)
    assert (layer.weight.device.type, layer.weight.dtype) == ("meta", torch.float64)
    assert PReLU(3, init=0.5).weight.tolist() == [0.5] * 3
