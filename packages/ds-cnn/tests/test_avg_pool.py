import pytest
import torch
from ds_cnn import AvgPool1d, AvgPool2d, avg_pool, avg_pool_backward, plain_avg_pool, plain_avg_pool_backward
from ds_core import ShapeError, TraceError, record
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph
from hypothesis import given, settings
from hypothesis import strategies as st

BOTH = pytest.mark.parametrize("implementation", ["vectorized", "loops"])

# Every pair of an awkward geometry: windows apart, overlapping, in padding, sticking out, not square.
GEOMETRIES = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 0)},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
    {"kernel_size": 2, "divisor_override": 3},
    {"kernel_size": (4, 5)},
]


@BOTH
@pytest.mark.parametrize("arguments", GEOMETRIES)
def test_layer(arguments, implementation):
    check_layer(AvgPool2d(**arguments, implementation=implementation), torch.randn(2, 2, 5, 6))


@BOTH
@pytest.mark.parametrize("arguments", GEOMETRIES)
def test_image_without_batch(arguments, implementation):
    ours, theirs = AvgPool2d(**arguments, implementation=implementation), torch.nn.AvgPool2d(**arguments)
    check_twin(ours, theirs, torch.randn(2, 5, 6))


def test_twin_over_all_arguments():
    compared = check_twin_grid(
        AvgPool2d,
        torch.nn.AvgPool2d,
        {
            "kernel_size": [2, (3,), (3, 2)],
            "stride": [None, 1, 2, (3, 1)],
            "padding": [0, 1, (1, 0)],
            "ceil_mode": [False, True],
            "count_include_pad": [True, False],
            "divisor_override": [None, 3],
        },
        [torch.randn(2, 2, 7, 6)],
        modes=["train"],
    )
    assert compared == 3 * 4 * 3 * 2 * 2 * 2


@BOTH
def test_sequence(implementation):
    check_layer(AvgPool1d(3, 2, 1, True, False, implementation=implementation), torch.randn(2, 3, 8))
    check_twin(AvgPool1d(3, 2, implementation=implementation), torch.nn.AvgPool1d(3, 2), torch.randn(2, 7))


def test_twin_over_all_arguments_in_one_dimension():
    compared = check_twin_grid(
        AvgPool1d,
        torch.nn.AvgPool1d,
        {
            "kernel_size": [2, (3,), 5],
            "stride": [None, 1, 2, (4,)],
            "padding": [0, 1],
            "ceil_mode": [False, True],
            "count_include_pad": [True, False],
        },
        [torch.randn(2, 2, 9)],
        modes=["train"],
    )
    assert compared == 3 * 4 * 2 * 2 * 2


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_both_implementations_agree(data):
    axes = data.draw(st.integers(1, 3))
    draw = [tuple(data.draw(st.integers(1, 3)) for _ in range(axes)) for _ in range(3)]
    kernel_size, stride, output_size = draw
    padding = tuple(data.draw(st.integers(0, kernel // 2)) for kernel in kernel_size)
    size = tuple(
        max(1, (o - 1) * s + k - 2 * p) for o, s, k, p in zip(output_size, stride, kernel_size, padding, strict=True)
    )
    x, divisor = torch.randn(2, *size, dtype=torch.float64), torch.rand(output_size, dtype=torch.float64) + 0.5
    dy = torch.randn(2, *output_size, dtype=torch.float64)
    geometry = kernel_size, stride, padding
    y, plain_y = avg_pool(x, divisor, *geometry), plain_avg_pool(x, divisor, *geometry)
    torch.testing.assert_close(y, plain_y, rtol=1e-12, atol=1e-12)
    dx, plain_dx = (back(dy, size, divisor, *geometry) for back in (avg_pool_backward, plain_avg_pool_backward))
    torch.testing.assert_close(dx, plain_dx, rtol=1e-12, atol=1e-12)


def test_channels_last_stays_so():
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    layer = AvgPool2d(3, 2, 1)
    with record():
        y = layer(x)
        dx = layer.backward(y)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert dx.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, layer(x.contiguous()))


def test_twin_at_every_size_in_ceil_mode():
    """The last window is kept or dropped by a rule of its own: try every remainder."""
    for size in range(3, 10):
        arguments = {"kernel_size": 3, "stride": 3, "padding": 1, "ceil_mode": True, "count_include_pad": False}
        check_twin(
            AvgPool2d(**arguments), torch.nn.AvgPool2d(**arguments), torch.randn(1, 1, size, size + 1), modes=["eval"]
        )


def test_worked_example():
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    divisor = torch.full((2, 2), 4.0)
    geometry = ((2, 2), (1, 1), (0, 0))
    dy = torch.tensor([[0.4, 0.8], [-0.4, 1.2]])
    for forward, backward in [(avg_pool, avg_pool_backward), (plain_avg_pool, plain_avg_pool_backward)]:
        assert torch.equal(forward(x, divisor, *geometry), torch.tensor([[3.0, 4.0], [6.0, 7.0]]))
        dx = backward(dy, (3, 3), divisor, *geometry)
        torch.testing.assert_close(dx, torch.tensor([[0.1, 0.3, 0.2], [0.0, 0.5, 0.5], [-0.1, 0.2, 0.3]]))
        assert dx.sum().item() == pytest.approx(2.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_is_kept(dtype):
    x = torch.randn(2, 3, 8, 8, dtype=dtype)
    layer = AvgPool2d(3, 2, 1)
    with record():
        y = layer(x)
        dx = layer.backward(torch.ones_like(y))
    assert (y.dtype, dx.dtype) == (dtype, dtype)
    tolerance = 0.02 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(y, torch.nn.AvgPool2d(3, 2, 1)(x), atol=tolerance, rtol=0)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_windows_of_half_precision_are_rounded_once(dtype, implementation):
    x = (0.9 + 0.01 * torch.rand(1, 1, 57, 57)).to(dtype)  # so equal that roundings on the way add up
    ours, theirs = AvgPool2d(56, 1, implementation=implementation), torch.nn.AvgPool2d(56, 1)
    dy = torch.rand(1, 1, 2, 2).to(dtype)
    leaf = x.clone().requires_grad_()
    expected = theirs(leaf)
    expected.backward(dy)
    with record():
        y = ours(x)
        dx = ours.backward(dy)
    tolerance = {"rtol": torch.finfo(dtype).eps, "atol": 0}
    torch.testing.assert_close(y, expected.detach(), **tolerance)
    exact = x.double().requires_grad_()
    theirs(exact).backward(dy.double())
    # a subnormal of float16 keeps fewer digits
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    torch.testing.assert_close(dx.double(), exact.grad, rtol=torch.finfo(dtype).eps, atol=smallest)


def test_only_the_sizes_are_kept():
    with record() as trace:
        layer = AvgPool2d(2)
        y = layer(torch.randn(16, 3, 32, 32))
        kept = sum(line.bytes for line in trace.kept())
        layer.backward(y)
    assert kept == 16 * 16 * 4  # the divisors, whatever the batch


def test_infinity_stays_in_its_window():
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 0, 0] = torch.inf
    y = AvgPool2d(2)(x)
    assert y[0, 0, 0, 0] == torch.inf
    assert y.flatten()[1:].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 0},
        {"kernel_size": (1, 2, 3)},
        {"kernel_size": 2, "stride": 0},
        {"kernel_size": 2, "stride": -1},
        {"kernel_size": 2, "padding": -1},
        {"kernel_size": 3, "padding": 2},
        {"kernel_size": 2, "divisor_override": 0},
        {"kernel_size": 2, "implementation": "fast"},
    ],
)
def test_impossible_arguments(arguments):
    with pytest.raises(ValueError, match="AvgPool2d"):
        AvgPool2d(**arguments)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_images_of_integers(dtype):
    with pytest.raises(ShapeError, match=r"AvgPool2d\(.*given input in torch\.\w+, expected a floating dtype"):
        AvgPool2d(2)(torch.zeros(1, 1, 4, 4, dtype=dtype))


@pytest.mark.parametrize("shape", [(5, 5), (2, 1, 1, 5, 5), (1, 0, 5, 5), (1, 2, 0, 5), (1, 2, 1, 5)])
def test_impossible_input(shape):
    with pytest.raises(ShapeError, match=r"AvgPool2d\(kernel_size=\(2, 2\).*given input of shape"):
        AvgPool2d(2)(torch.zeros(shape))


def test_backward_outside_record():
    with pytest.raises(TraceError, match=r"with record\(\)"):
        AvgPool2d(2).backward(torch.zeros(1, 1, 2, 2))


def test_compiles_whole():
    layer, x, dy = AvgPool2d(3, 2, 1), torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)

    def step(x, dy):
        with record():
            return layer(x), layer.backward(dy)

    compiled = one_graph(step)
    torch.testing.assert_close(compiled(x, dy), step(x, dy))
