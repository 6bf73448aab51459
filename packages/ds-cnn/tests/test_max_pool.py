import itertools

import pytest
import torch
from ds_cnn import MaxPool1d, MaxPool2d, max_pool, max_pool_backward, plain_max_pool, plain_max_pool_backward
from ds_cnn.pooling import running_max
from ds_cnn.pooling.max_pool import max_positions
from ds_core import ShapeError, record
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph
from hypothesis import given, settings
from hypothesis import strategies as st

BOTH = pytest.mark.parametrize("implementation", ["vectorized", "loops"])
PAIRS = [(max_pool, max_pool_backward), (plain_max_pool, plain_max_pool_backward)]

GEOMETRIES = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 2, "stride": 3, "return_indices": True},
    {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 0), "ceil_mode": True},
    {"kernel_size": (2, 3), "stride": 1, "padding": 1, "dilation": (3, 2), "return_indices": True},
    {"kernel_size": (4, 5)},
    {"kernel_size": 1, "stride": 2},
]


def tied(*shape):
    """Numbers of which many are equal."""
    return torch.randint(0, 4, shape).double()


@BOTH
@pytest.mark.parametrize("arguments", GEOMETRIES, ids=str)
def test_layer(arguments, implementation):
    x = torch.randperm(2 * 2 * 5 * 6).view(2, 2, 5, 6) / 7  # no ties, where finite differences see a kink
    check_layer(MaxPool2d(**arguments, implementation=implementation), x)


@BOTH
def test_sequence(implementation):
    layer = MaxPool1d(3, 2, 1, return_indices=True, implementation=implementation)
    check_layer(layer, torch.randperm(42).view(2, 3, 7) / 7)
    check_twin(layer, torch.nn.MaxPool1d(3, 2, 1, return_indices=True), tied(3, 7))


@BOTH
@pytest.mark.parametrize("arguments", GEOMETRIES, ids=str)
def test_image_without_batch(arguments, implementation):
    check_twin(MaxPool2d(**arguments, implementation=implementation), torch.nn.MaxPool2d(**arguments), tied(2, 5, 6))


def test_twin_over_all_arguments():
    compared = check_twin_grid(
        MaxPool2d,
        torch.nn.MaxPool2d,
        {
            "kernel_size": [2, (3, 2)],
            "stride": [None, (3, 1)],
            "padding": [0, (1, 0)],
            "dilation": [1, (1, 3)],
            "return_indices": [False, True],
            "ceil_mode": [False, True],
        },
        [tied(2, 2, 7, 6)],
        modes=["train"],
    )
    assert compared == 2 * 2 * 2 * 2 * 2 * 2


def test_twin_over_all_arguments_in_one_dimension():
    compared = check_twin_grid(
        MaxPool1d,
        torch.nn.MaxPool1d,
        {
            "kernel_size": [2, (3,)],
            "stride": [None, 1, (4,)],
            "padding": [0, 1],
            "dilation": [1, 2],
            "return_indices": [False, True],
            "ceil_mode": [False, True],
        },
        [tied(2, 2, 9)],
        modes=["train"],
    )
    assert compared == 2 * 3 * 2 * 2 * 2 * 2


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_both_implementations_agree(data):
    """Over one to three axes, with ties, NaN, infinities and padding."""
    axes = data.draw(st.integers(1, 3))
    kernel_size, stride, dilation, output_size = (
        tuple(data.draw(st.integers(1, 3)) for _ in range(axes)) for _ in range(4)
    )
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel_size)
    size = tuple(
        max(d + 1, (o - 1) * s + (k - 1) * d + 1 - 2 * p)
        for o, s, k, d, p in zip(output_size, stride, kernel_size, dilation, padding, strict=True)
    )
    values = torch.tensor([-torch.inf, -1.0, 0.0, 2.0, torch.inf, torch.nan], dtype=torch.float64)
    x = values[torch.randint(data.draw(st.integers(1, 6)), (2, *size))]
    geometry = kernel_size, stride, padding, dilation
    (y, places), (plain_y, plain_places) = (forward(x, output_size, *geometry) for forward, _ in PAIRS)
    torch.testing.assert_close(y, plain_y, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(places.int(), plain_places)
    dy = torch.randn_like(y)
    dx, plain_dx = (backward(dy, places, size, *geometry) for _, backward in PAIRS)
    torch.testing.assert_close(dx, plain_dx, rtol=1e-12, atol=1e-12)
    positions = max_positions(places, size, *geometry)
    read = x.flatten(-axes).gather(-1, positions.flatten(-axes)).view_as(y)
    torch.testing.assert_close(read, y, rtol=0, atol=0, equal_nan=True)


@BOTH
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_ties_and_nan_as_pytorch(order, implementation):
    x = tied(2, 3, 8, 7)
    x[0, 0, 1, 1:3] = x[0, 1, 4, 4] = torch.nan
    x[0, 2] = -torch.inf
    x[1, 0, 3] = torch.inf
    x = x.contiguous(memory_format=order)
    for stride, padding, dilation, ceil_mode in itertools.product((1, 3), (0, 1), (1, 2), (False, True)):
        arguments = (3, stride, padding, dilation, True, ceil_mode)
        y, indices = MaxPool2d(*arguments, implementation=implementation)(x)
        expected, expected_indices = torch.nn.MaxPool2d(*arguments)(x)
        torch.testing.assert_close(y, expected, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(indices, expected_indices)


@BOTH
def test_both_engines_send_the_gradient_of_equal_values_to_the_first(implementation):
    layer, x = MaxPool2d(2, implementation=implementation), torch.zeros(1, 1, 2, 2)
    with record():
        dx = layer.backward(torch.ones_like(layer(x)))
    leaf = x.clone().requires_grad_()
    layer(leaf).backward(torch.ones(1, 1, 1, 1))
    assert dx.flatten().tolist() == leaf.grad.flatten().tolist() == [1, 0, 0, 0]


@BOTH
def test_worked_example(implementation):
    forward, backward = PAIRS[implementation == "loops"]
    x = torch.tensor([[1.0, 5.0, 2.0], [5.0, 3.0, 4.0], [0.0, 6.0, 4.0]])
    geometry = (2, 2), (1, 1), (0, 0), (1, 1)
    y, places = forward(x, (2, 2), *geometry)
    assert y.tolist() == [[5.0, 5.0], [6.0, 6.0]]
    assert places.tolist() == [[1, 0], [3, 2]]
    assert max_positions(places, (3, 3), *geometry).tolist() == [[1, 1], [7, 7]]
    dx = backward(torch.tensor([[0.5, 1.0], [-2.0, 0.25]]), places, (3, 3), *geometry)
    assert dx.tolist() == [[0.0, 1.5, 0.0], [0.0, 0.0, 0.0], [0.0, -1.75, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtype_is_kept(dtype):
    x = torch.randn(2, 3, 9, 9).to(dtype)
    layer, twin = MaxPool2d(3, 2, 1), torch.nn.MaxPool2d(3, 2, 1)
    leaf = x.clone().requires_grad_()
    expected = twin(leaf)
    dy = torch.randn(expected.shape).to(dtype)
    expected.backward(dy)
    with record():
        y = layer(x)
        dx = layer.backward(dy)
    assert torch.equal(y, expected)
    torch.testing.assert_close(dx, leaf.grad, rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)


@BOTH
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.int64])
def test_images_of_integers(dtype, implementation):
    x = torch.randint(0, 100, (2, 3, 6, 5)).to(dtype)
    y, indices = MaxPool2d(3, 2, 1, return_indices=True, implementation=implementation)(x)
    expected, expected_indices = torch.nn.MaxPool2d(3, 2, 1, return_indices=True)(x)
    assert y.dtype == dtype
    assert torch.equal(y, expected)
    assert torch.equal(indices, expected_indices)


def test_a_byte_for_each_output_is_kept():
    layer = MaxPool2d(2)
    with record() as trace:
        y = layer(torch.randn(16, 3, 32, 32))
        kept = sum(line.bytes for line in trace.kept())
        layer.backward(y)
    assert kept == y.numel()


def test_windows_too_large_to_count_in_a_byte():
    x = torch.stack([torch.randperm(400), torch.arange(400)]).view(1, 2, 20, 20).double()
    check_twin(MaxPool2d(17, 1), torch.nn.MaxPool2d(17, 1), x)
    y, places = max_pool(x, (4, 4), (17, 17), (1, 1), (0, 0), (1, 1))
    assert places.dtype == torch.int32
    assert places.max() > 255
    assert torch.equal(y, torch.nn.MaxPool2d(17, 1)(x))


def test_large_images_are_taken_in_parts(monkeypatch):
    monkeypatch.setattr(running_max, "CHUNK", 100)
    x = tied(5, 2, 7, 6)
    x[3, 1, 2, 2] = torch.nan
    y, indices = MaxPool2d(3, 2, 1, return_indices=True)(x)
    expected, expected_indices = torch.nn.MaxPool2d(3, 2, 1, return_indices=True)(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(indices, expected_indices)


def test_one_window_over_the_whole_image():
    """Neighbours are compared in pairs; not so if a part of the window is padding."""
    x = tied(2, 3, 5, 6)
    x[0, 0, 1, 1] = x[0, 0, 4, 4] = torch.nan
    cases = [((5, 6), 1, 0, x), ((5, 3), 1, (0, 1), x), (3, 1, 1, x[..., :1, :1]), ((5, 6), 2, (0, 3), x[..., :1])]
    for *arguments, image in cases:
        makers = MaxPool2d, torch.nn.MaxPool2d
        (y, indices), (expected, expected_indices) = (make(*arguments, return_indices=True)(image) for make in makers)
        torch.testing.assert_close(y, expected, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(indices, expected_indices)


def test_channels_last_stays_so():
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    layer = MaxPool2d(3, 2, 1)
    with record():
        y = layer(x)
        dx = layer.backward(y)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert dx.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("chunk", [2**19, 100])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("arguments", [(2,), (3, 2, 1), (3, 1, 1, 2), (2, 3), (5, 1, 2)], ids=str)
def test_gradient_in_both_memory_orders(arguments, order, chunk, monkeypatch):
    """Windows side by side, overlapping, apart, and with many places; ties, and gradients of both orders."""
    monkeypatch.setattr(running_max, "CHUNK", chunk)
    x = tied(5, 3, 9, 8).contiguous(memory_format=order)
    layer, leaf = MaxPool2d(*arguments), x.clone().requires_grad_()
    expected = torch.nn.MaxPool2d(*arguments)(leaf)
    for dy_order in (torch.contiguous_format, torch.channels_last):
        dy = torch.randn_like(expected).contiguous(memory_format=dy_order)
        (expected_dx,) = torch.autograd.grad(expected, leaf, dy, retain_graph=True)
        with record():
            y = layer(x)
            dx = layer.backward(dy)
        assert torch.equal(y, expected)
        torch.testing.assert_close(dx, expected_dx, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_infinite_gradients_stay_where_they_belong(order):
    layer = MaxPool2d(2)
    x = torch.randn(1, 2, 4, 4).contiguous(memory_format=order)
    with record():
        y = layer(x)
        dx = layer.backward(torch.full_like(y, torch.inf))
    assert dx.isinf().sum() == 8
    assert not dx.isnan().any()


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 0},
        {"kernel_size": (1, 2, 3)},
        {"kernel_size": 2, "stride": 0},
        {"kernel_size": 2, "padding": -1},
        {"kernel_size": 3, "padding": 2},
        {"kernel_size": 2, "dilation": 0},
        {"kernel_size": 3, "dilation": 2, "padding": 3},
        {"kernel_size": 2, "implementation": "fast"},
    ],
    ids=str,
)
def test_impossible_arguments(arguments):
    with pytest.raises(ValueError, match="MaxPool2d"):
        MaxPool2d(**arguments)


@pytest.mark.parametrize("shape", [(5, 5), (2, 1, 1, 5, 5), (1, 0, 5, 5), (1, 2, 0, 5), (1, 2, 1, 5)])
def test_impossible_input(shape):
    with pytest.raises(ShapeError, match=r"MaxPool2d\(kernel_size=\(2, 2\).*given input of shape"):
        MaxPool2d(2)(torch.zeros(shape))
    with pytest.raises(RuntimeError):
        torch.nn.MaxPool2d(2)(torch.zeros(shape))


def test_window_of_nothing_but_padding():
    """PyTorch reads outside the image here."""
    with pytest.raises(ShapeError, match=r"MaxPool1d\(.*nothing but padding"):
        MaxPool1d(3, 1, 2, dilation=2)(torch.zeros(1, 1, 1))
    assert MaxPool1d(3, 1, 2, dilation=2)(torch.arange(2.0).view(1, 1, 2)).tolist() == [[[0.0, 1.0]]]


def test_truth_values():
    with pytest.raises(ShapeError, match=r"MaxPool2d\(.*given input in torch.bool"):
        MaxPool2d(2)(torch.zeros(1, 1, 4, 4, dtype=torch.bool))


def test_compiles_whole():
    layer, x, dy = MaxPool2d(3, 2, 1, return_indices=True), torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)
    x[0, 0, 3, 3] = torch.nan

    def step(x, dy):
        with record():
            return *layer(x), layer.backward(dy)

    for found, expected in zip(one_graph(step)(x, dy), step(x, dy), strict=True):
        torch.testing.assert_close(found, expected, equal_nan=True)
