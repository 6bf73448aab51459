import pytest
import torch
from ds_cnn import interpolate, interpolate_backward
from ds_core import ShapeError
from ds_core.testing import one_graph
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

MODES = {
    1: ["nearest", "nearest-exact", "linear", "area"],
    2: ["nearest", "nearest-exact", "bilinear", "bicubic", "area"],
    3: ["nearest", "nearest-exact", "trilinear", "area"],
}
ALIGNABLE = ("linear", "bilinear", "trilinear", "bicubic")


def compare(x, tolerance=1e-12, **arguments):
    """Output and gradient against PyTorch's, from a gradient that is not uniform."""
    leaf = x.clone().requires_grad_()
    expected = functional.interpolate(leaf, **arguments)
    y = interpolate(x, **arguments)
    torch.testing.assert_close(y, expected.detach(), rtol=tolerance, atol=tolerance)
    dy = torch.randn_like(y)
    expected.backward(dy)
    dx = interpolate_backward(dy, x.shape[2:], **arguments)
    torch.testing.assert_close(dx, leaf.grad, rtol=tolerance, atol=tolerance)
    return y, dx


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "strided"])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("align_corners", [None, False, True])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_images_over_all_arguments(mode, align_corners, antialias, layout):
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    if layout == "channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    for size in [3, (4, 6), (7, 9), (14, 3), (1, 5), (20, 2)]:
        compare(x, size=size, mode=mode, align_corners=align_corners, antialias=antialias)
    for factor in [2, 0.5, (0.4, 1.7), 2.3]:
        for recompute in (None, True):
            options = {"mode": mode, "align_corners": align_corners, "antialias": antialias}
            if layout == "strided":
                given = x.transpose(2, 3)[:, :, :, 1:]
                y = interpolate(given, scale_factor=factor, recompute_scale_factor=recompute, **options)
                again = interpolate(
                    given.contiguous(), scale_factor=factor, recompute_scale_factor=recompute, **options
                )
                torch.testing.assert_close(y, again)
            compare(x, scale_factor=factor, recompute_scale_factor=recompute, **options)


@pytest.mark.parametrize("size", [(3, 2), (9, 2), (5, 12), (2, 3)])
def test_lanczos(size):
    x = torch.randn(2, 2, 8, 5, dtype=torch.float64)
    try:
        functional.interpolate(x, size, mode="lanczos", antialias=True)
    except NotImplementedError:  # a torch older than the mode
        y = interpolate(torch.ones_like(x), size, mode="lanczos", antialias=True)
        torch.testing.assert_close(y, torch.ones_like(y))
    else:
        compare(x, size=size, mode="lanczos", antialias=True)


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_any_sizes(data):
    axes = data.draw(st.integers(1, 3))
    mode = data.draw(st.sampled_from(MODES[axes]))
    sizes = [data.draw(st.integers(1, 9)) for _ in range(axes)]
    arguments = {"mode": mode, "size": [data.draw(st.integers(1, 12)) for _ in range(axes)]}
    if mode in ALIGNABLE:
        arguments["align_corners"] = data.draw(st.booleans())
    if axes == 2 and mode in ALIGNABLE and arguments["size"][1] > 1:  # one column wide PyTorch's is wrong
        arguments["antialias"] = data.draw(st.booleans())
    if mode.startswith("nearest"):  # in float64 PyTorch's kernels round ties in two ways, in float32 in one
        compare(torch.randn(2, 2, *sizes), tolerance=1e-5, **arguments)
    else:
        compare(torch.randn(2, 2, *sizes, dtype=torch.float64), **arguments)


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_any_factors(data):
    mode = data.draw(st.sampled_from(MODES[2]))
    sizes = [data.draw(st.integers(1, 9)) for _ in range(2)]
    factors = [data.draw(st.floats(0.2, 3.5)) for _ in range(2)]
    counts = [int(size * factor) for size, factor in zip(sizes, factors, strict=True)]
    assume(min(counts) > 0)
    assume(all(count != size for count, size in zip(counts, sizes, strict=True)))  # PyTorch's backward ignores those
    arguments = {"mode": mode, "scale_factor": factors, "recompute_scale_factor": data.draw(st.booleans())}
    compare(torch.randn(1, 2, *sizes), tolerance=1e-4, **arguments)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic", "area"])
@pytest.mark.parametrize("sizes", [((100, 70), (150, 210)), ((130, 90), (70, 30)), ((96, 96), (192, 192))])
def test_long_axes(mode, sizes):
    """More than one block an axis."""
    compare(torch.randn(1, 2, *sizes[0]), tolerance=1e-4, size=sizes[1], mode=mode)
    if mode in ("bilinear", "bicubic"):
        x = torch.randn(1, 2, *sizes[0], dtype=torch.float64)
        compare(x, size=sizes[1], mode=mode, antialias=True)
        compare(x, size=sizes[1], mode=mode, align_corners=True)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_one_antialiased_column(mode):
    """PyTorch's own result for one column is wrong; turned by a quarter it has one row, and is right."""
    x = torch.randn(1, 1, 6, 5, dtype=torch.float64)
    expected = functional.interpolate(x.mT.contiguous(), (1, 3), mode=mode, antialias=True).mT
    torch.testing.assert_close(interpolate(x, (3, 1), mode=mode, antialias=True), expected)


@pytest.mark.parametrize("factor", [1.05, 2.2])
@pytest.mark.parametrize(("axes", "mode"), [(1, "nearest"), (2, "nearest"), (3, "nearest"), (2, "bicubic")])
def test_backward_belongs_to_forward(axes, mode, factor):
    """Where PyTorch's does not: <W^T dy, x> = <dy, W x> for factors that lead to the same size, or twice it."""
    x = torch.randn(1, 2, *(3, 4, 2)[:axes], dtype=torch.float64)
    y = interpolate(x, scale_factor=factor, mode=mode)
    torch.testing.assert_close(y, functional.interpolate(x, scale_factor=factor, mode=mode))
    dy = torch.randn_like(y)
    dx = interpolate_backward(dy, x.shape[2:], scale_factor=factor, mode=mode)
    torch.testing.assert_close((dx * x).sum(), (dy * y).sum())


def test_worked_example():
    x = torch.tensor([[[1.0, 2.0, 4.0]]], dtype=torch.float64)
    assert [0.6 * o for o in range(5)] == pytest.approx([0, 0.6, 1.2, 1.8, 2.4])
    assert interpolate(x, 5).flatten().tolist() == [1, 1, 2, 2, 4]
    assert [(o + 0.5) / 1.8 - 0.5 for o in range(5)] == pytest.approx([-0.2222, 0.3333, 0.8889, 1.4444, 2], abs=1e-4)
    y = interpolate(x, scale_factor=1.8, mode="linear")
    assert y.flatten().tolist() == pytest.approx([1, 1.3333, 1.8889, 2.8889, 4], abs=1e-4)
    assert [(o + 0.5) * 0.6 - 0.5 for o in range(5)] == pytest.approx([-0.2, 0.4, 1, 1.6, 2.2])
    for how in ({"size": 5}, {"scale_factor": 1.8, "recompute_scale_factor": True}):
        y = interpolate(x, mode="linear", **how)
        assert y.flatten().tolist() == pytest.approx([1, 1.4, 2, 3.2, 4])
        dx = interpolate_backward(torch.ones_like(y), (3,), mode="linear", **how)
        assert dx.flatten().tolist() == pytest.approx([1.6, 1.8, 1.6])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic", "area"])
def test_dtypes(mode, dtype):
    x = torch.randn(2, 3, 6, 6).to(dtype)
    y, dx = compare(x, tolerance=4 * torch.finfo(dtype).eps * 10, size=(9, 4), mode=mode)
    assert (y.dtype, dx.dtype) == (dtype, dtype)
    if mode == "nearest":
        assert torch.equal(interpolate((x > 0).byte(), 4), functional.interpolate((x > 0).byte(), 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype):
    x = (1 + 0.01 * torch.rand(1, 1, 64, 64)).to(dtype)
    for arguments in ({"size": 1, "mode": "area"}, {"scale_factor": 1 / 64, "mode": "bilinear", "antialias": True}):
        y = interpolate(x, **arguments)
        assert torch.equal(y, interpolate(x.double(), **arguments).to(dtype))
    dx = interpolate_backward(torch.full((1, 1, 300, 300), 1.0, dtype=dtype), (1, 1), size=300)
    assert dx.item() == torch.tensor(90000.0).to(dtype).item()


def test_channels_that_are_last_stay_last():
    x = torch.randn(2, 3, 5, 5).contiguous(memory_format=torch.channels_last)
    for mode in ("nearest", "bilinear"):
        y = interpolate(x, 10, mode=mode)
        assert y.is_contiguous(memory_format=torch.channels_last)
        assert interpolate_backward(y, (5, 5), 10, mode=mode).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic", "area"])
def test_the_result_is_a_new_tensor(mode):
    for size in (1, 4):
        x = torch.randn(1, 1, size, size)
        for count in (size, 2 * size, 3 * size):
            y = interpolate(x, count, mode=mode)
            before = x.clone()
            y.add_(1)  # fails if positions of y share memory, too
            assert torch.equal(x, before)


def test_autocast_changes_nothing():
    x = torch.randn(1, 2, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(interpolate(x, 8, mode="bicubic"), interpolate(x, 8, mode="bicubic").float())
        y = interpolate(x, 8, mode="bicubic")
    assert torch.equal(y, interpolate(x, 8, mode="bicubic"))


def test_nearest_keeps_infinity_where_it_is():
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 0, 0] = torch.inf
    for size in (8, 7, 3):
        y = interpolate(x, size)
        assert y.isnan().sum() == 0
        assert torch.equal(y, functional.interpolate(x, size))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.uint8])
def test_dtypes_that_are_refused(dtype):
    with pytest.raises(ShapeError, match=r"interpolate: given input in torch.*expected a floating dtype"):
        interpolate(torch.zeros(1, 1, 4, 4, dtype=dtype), 2, mode="bilinear")
    if dtype != torch.uint8:
        with pytest.raises(ShapeError, match="floating dtype or uint8"):
            interpolate(torch.zeros(1, 1, 4, 4, dtype=dtype), 2)


@pytest.mark.parametrize(
    "arguments",
    [{"mode": "nearest"}, {"mode": "area"}, {"mode": "linear"}, {"mode": "lanczos", "align_corners": True}],
)
def test_antialias_is_for_some_modes(arguments):
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match=r"interpolate: given a"):
        interpolate(x, 2, antialias=True, **arguments)
    with pytest.raises((ValueError, RuntimeError)):
        functional.interpolate(x, 2, antialias=True, **arguments)


def test_gradient_of_another_shape():
    with pytest.raises(ShapeError, match=r"interpolate_backward: given a gradient of shape \(1, 1, 3, 4\)"):
        interpolate_backward(torch.zeros(1, 1, 3, 4), (2, 2), size=4)


def test_compiles_whole():
    x, dy = torch.randn(1, 2, 70, 6), torch.randn(1, 2, 30, 9)

    def both(x, dy):
        arguments = {"size": (30, 9), "mode": "bicubic", "antialias": True}
        return interpolate(x, **arguments), interpolate_backward(dy, x.shape[2:], **arguments)

    torch.testing.assert_close(one_graph(both)(x, dy), both(x, dy))
