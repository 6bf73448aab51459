"""Bilinear against finite differences, autograd, torch.nn, its errors and a worked example."""

import pytest
import torch
from ds_core import Bilinear, ShapeError, primitives_only, record
from ds_core.layers.bilinear import bilinear, bilinear_backward
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("leading", [(5,), (2, 4), (1,), (), (0,), (2, 0)])
def test_bilinear_is_right(leading: tuple[int, ...], bias: bool) -> None:
    inputs = torch.randn(*leading, 3), torch.randn(*leading, 4)
    batch = 0 if len(leading) > 0 and leading[0] > 0 else None
    check_layer(Bilinear(3, 4, 2, bias=bias), *inputs, batch_dim=batch)
    check_twin(Bilinear(3, 4, 2, bias=bias), torch.nn.Bilinear(3, 4, 2, bias=bias), *inputs)


def test_bilinear_is_the_twin() -> None:
    grid = {"in1_features": [3, 1, 0], "in2_features": [4, 1], "out_features": [2, 1, 0], "bias": [True, False]}
    found = check_twin_grid(
        Bilinear,
        torch.nn.Bilinear,
        {**grid, "out_features": [2, 1]},
        lambda chosen: [torch.randn(5, chosen["in1_features"]), torch.randn(5, chosen["in2_features"])],
    )
    assert found == 16
    assert repr(Bilinear(3, 4, 2, False)) == repr(torch.nn.Bilinear(3, 4, 2, False))


@settings(max_examples=30, deadline=None)
@given(
    leading=st.lists(st.integers(0, 3), max_size=3),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_bilinear_of_any_shape_is_the_twins(
    leading: list[int], sizes: tuple[int, int, int], dtype: torch.dtype, bias: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    ours = Bilinear(*sizes, bias, dtype=dtype)
    torch.manual_seed(seed)
    twin = torch.nn.Bilinear(*sizes, bias, dtype=dtype)
    assert torch.equal(ours.weight, twin.weight)
    x1, x2, dy = (torch.randn(*leading, size, generator=generator).to(dtype) for size in sizes)
    leaves = x1.clone().requires_grad_(), x2.clone().requires_grad_()
    expected = twin(*leaves)
    expected.backward(dy)
    with record():
        y = ours(x1, x2)
        dx1, dx2 = ours.backward(dy)
    near = {"rtol": 3e-2, "atol": 6e-2} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    pairs = [(y, expected.detach()), (dx1, leaves[0].grad), (dx2, leaves[1].grad)]
    pairs += [(ours.weight.grad, twin.weight.grad)] + ([(ours.bias.grad, twin.bias.grad)] if bias else [])
    for found, right in pairs:
        torch.testing.assert_close(found, right, **near)


def test_worked_example() -> None:
    x1, x2 = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]])
    weight = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[0.0, 1.0], [-1.0, 0.0]]])
    y = bilinear(x1, x2, weight, torch.tensor([0.5, -0.5]))
    assert y.tolist() == [[-0.5, -7.5]]
    dx1, dx2, dweight, dbias = bilinear_backward(torch.tensor([[1.0, 2.0]]), x1, x2, weight)
    assert (dx1.tolist(), dx2.tolist(), dbias.tolist()) == ([[1.0, -8.0]], [[-3.0, 6.0]], [1.0, 2.0])
    assert dweight.tolist() == [[[3.0, -1.0], [6.0, -2.0]], [[6.0, -2.0], [12.0, -4.0]]]


@pytest.mark.parametrize("sizes", [(3, 0, 2), (3, 4, 0), (1, 1, 1)])
def test_bilinear_of_extreme_sizes(sizes: tuple[int, int, int]) -> None:
    layer = Bilinear(*sizes)
    inputs = torch.randn(2, sizes[0]), torch.randn(2, sizes[1])
    with record():
        y = layer(*inputs)
        dx1, dx2 = layer.backward(torch.ones_like(y))
    assert (y.shape, dx1.shape, dx2.shape) == ((2, sizes[2]), inputs[0].shape, inputs[1].shape)
    assert layer.weight.grad.shape == layer.weight.shape


def test_bilinear_of_large_numbers_in_float32() -> None:
    layer = Bilinear(3, 4, 2)
    inputs = 1e4 * torch.randn(5, 3), -1e4 * torch.randn(5, 4)
    torch.testing.assert_close(
        layer(*inputs).double(), layer.double()(*(x.double() for x in inputs)), rtol=1e-5, atol=1e3
    )


@pytest.mark.parametrize(
    "shapes", [((2, 3), (3, 4)), ((2, 4), (2, 4)), ((), (4,)), ((2, 1, 3), (2, 4)), ((2, 3), (2, 3))]
)
def test_bilinear_names_inputs_that_do_not_fit(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    inputs = [torch.randn(shape) for shape in shapes]
    with pytest.raises(RuntimeError):
        torch.nn.Bilinear(3, 4, 2)(*inputs)
    name = r"Bilinear\(in1_features=3, in2_features=4, out_features=2, bias=True\): given inputs of shapes "
    with pytest.raises(ShapeError, match=name) as refusal:
        Bilinear(3, 4, 2)(*inputs)
    assert f"{shapes[0]} and {shapes[1]}, expected (..., 3) and (..., 4)" in str(refusal.value)


def test_bilinear_refuses_no_first_features() -> None:
    with pytest.raises(ValueError, match="given in1_features=0, expected at least 1"):
        Bilinear(0, 4, 2)


def test_a_generator_leaves_the_default_one_alone() -> None:
    before = torch.get_rng_state()
    first, second = (Bilinear(3, 4, 2, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)


def test_only_needed_gradients_are_computed() -> None:
    dy, x1, x2, weight = (torch.randn(shape) for shape in [(5, 2), (5, 3), (5, 4), (2, 3, 4)])
    whole = bilinear_backward(dy, x1, x2, weight)
    for number in range(16):
        needs = (number & 1 > 0, number & 2 > 0, number & 4 > 0, number & 8 > 0)
        with primitives_only() as ran:
            found = bilinear_backward(dy, x1, x2, weight, needs)
        assert tuple(gradient is not None for gradient in found) == needs
        assert (ran["mm"], ran["bmm"], ran["sum"]) == (sum(needs[:3]), needs[0], needs[3])
        assert ran["mul"] == (needs[1] or needs[2])
        for part, same in zip(found, whole, strict=True):
            assert part is None or torch.equal(part, same)


def test_bilinear_keeps_its_inputs_and_no_copies() -> None:
    layer, inputs = Bilinear(3, 4, 2), (torch.randn(5, 3), torch.randn(5, 4))
    with record() as trace:
        layer(*inputs)
        assert [kept is given for kept, given in zip(trace.entries[0].saved, inputs, strict=True)] == [True, True]
        layer.backward(None)


def test_bilinear_compiles_in_one_graph() -> None:
    layer = Bilinear(3, 4, 2)

    def step(x1: torch.Tensor, x2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with record():
            return layer.backward(layer(x1, x2) * 2)

    compiled = one_graph(step, dynamic=True)
    for size in (5, 7):
        inputs = torch.randn(size, 3), torch.randn(size, 4)
        layer.zero_grad()
        expected = step(*inputs)
        gradient = layer.weight.grad.clone()
        layer.zero_grad()
        torch.testing.assert_close(compiled(*inputs), expected)
        torch.testing.assert_close(layer.weight.grad, gradient)
