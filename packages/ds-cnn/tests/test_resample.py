import itertools

import pytest
import torch
from ds_cnn import plain_resample, plain_resample_backward, resample, resample_backward
from ds_cnn.resampling.resample import RADIUS, TAPS
from ds_cnn.resampling.sampling_axis import make_axis
from ds_cnn.resampling.weight_blocks import weight_blocks
from hypothesis import example, given, settings
from hypothesis import strategies as st

FORMS = [(resample, resample_backward), (plain_resample, plain_resample_backward)]
WIDE = torch.empty(0, dtype=torch.float64)


@st.composite
def axes(draw, longest=20):
    size, count = draw(st.integers(1, longest)), draw(st.integers(1, longest))
    factor = draw(st.one_of(st.none(), st.floats(max(count / size, 0.2), (count + 0.9) / size + 0.2)))
    return make_axis(size, count, factor, draw(st.booleans()))


def test_worked_example():
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])[None, None]
    dy = torch.tensor([[1.0, 0.0, 2.0, 0.0], [0.0, -1.0, 0.0, 4.0]])[None, None]
    same, wide = make_axis(2, 2), make_axis(2, 4)
    taps = TAPS["linear"](wide, WIDE)
    assert weight_blocks(wide, taps, 1.5)[0].weights.tolist() == [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    for forward, backward in FORMS:
        assert forward(x, (same, wide), "linear")[0, 0].tolist() == [[1, 1.25, 1.75, 2], [3, 3.5, 4.5, 5]]
        assert backward(dy, (same, wide), "linear")[0, 0].tolist() == [[1.5, 1.5], [-0.75, 3.75]]
        corner = forward(x, (wide, wide), "linear")[0, 0, 1, 1].item()
        assert corner == 0.5625 + 0.1875 * 2 + 0.1875 * 3 + 0.0625 * 5 == 1.8125


@settings(deadline=None, max_examples=30)
@given(axes(), st.sampled_from(sorted(TAPS)))
def test_weights_sum_to_one_inside_the_image(axis, kernel):
    taps = TAPS[kernel](axis, WIDE)
    torch.testing.assert_close(taps.weights.sum(1), torch.ones(axis.count, dtype=torch.float64))
    assert 0 <= taps.indices.min() <= taps.indices.max() < axis.size


@settings(deadline=None, max_examples=30)
@given(axes(longest=200), st.sampled_from(sorted(TAPS)))
@example(make_axis(65, 65, 1.125), "linear")
def test_blocks_hold_every_weight(axis, kernel):
    if kernel == "area":  # means of equal parts: neither a factor nor corners
        axis = make_axis(axis.size, axis.count)
    if kernel == "linear" and axis.size == axis.count:  # a copy whatever the factor, which is never made by blocks
        axis = make_axis(axis.size, axis.count, None, axis.align_corners)
    taps = TAPS[kernel](axis, WIDE)
    whole = torch.zeros(axis.count, axis.size, dtype=torch.float64).scatter_add_(1, taps.indices, taps.weights)
    found = torch.zeros_like(whole)
    for block in weight_blocks(axis, taps, RADIUS.get(kernel, 1.0)):
        found[block.outputs, block.inputs] = block.weights
    torch.testing.assert_close(found, whole)


@settings(deadline=None, max_examples=30)
@given(axes(longest=90), axes(longest=90), st.sampled_from(sorted(TAPS)), st.booleans())
def test_backward_is_the_transpose(first, second, kernel, last):
    """<W^T dy, x> = <dy, W x>, whatever the layout."""
    x = torch.randn(2, 2, first.size, second.size, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    y = resample(x, (first, second), kernel)
    dy = torch.randn_like(y)
    dx = resample_backward(dy, (first, second), kernel)
    torch.testing.assert_close((dx * x).sum(), (dy * y).sum())


def test_nearest_repeats_whole_factors_without_an_index(monkeypatch):
    x = torch.randn(2, 3, 4, 5)
    expected = x.repeat_interleave(4, 2).repeat_interleave(2, 3)
    monkeypatch.setitem(TAPS, "nearest", None)
    found = resample(x, (make_axis(4, 16), make_axis(5, 10)), "nearest")
    assert torch.equal(found, expected)
    dx = resample_backward(torch.ones_like(found), (make_axis(4, 16), make_axis(5, 10)), "nearest")
    assert torch.equal(dx, torch.full_like(x, 8.0))


def test_rounding_of_the_step_is_pytorchs():
    """1/41 in float32, times 41, is below 1: output 41 copies pixel 0 too, so the runs are not of 41."""
    for size, factor, mode in itertools.product([2, 3], [3, 8, 41, 47, 49], ["nearest", "nearest-exact"]):
        x = torch.arange(float(size)).reshape(1, 1, size)
        y = resample(x, (make_axis(size, size * factor),), mode)
        assert torch.equal(y, torch.nn.functional.interpolate(x, size * factor, mode=mode))


def test_cubic_kernel_meets_its_conditions():
    from ds_cnn.resampling.cubic_taps import cubic_kernel

    for slope in (-0.75, -0.5):
        d = torch.tensor([0.0, 1.0, 1.0 + 1e-12, 2.0 - 1e-12, 2.0, 3.0], dtype=torch.float64)
        torch.testing.assert_close(cubic_kernel(d, slope), (d == 0).double())
        for point, expected in ((1e-6, 0.0), (1 - 1e-6, slope), (1 + 1e-6, slope), (2 - 1e-6, 0.0)):
            sides = cubic_kernel(torch.tensor([point - 1e-7, point + 1e-7], dtype=torch.float64), slope)
            assert ((sides[1] - sides[0]) / 2e-7).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("kernel", "exact"), [("linear", 1), ("cubic", 0), ("antialiased cubic", 2)])
def test_polynomials_that_are_kept(kernel, exact):
    """Away from the borders: constants always, straight lines and parabolas by Keys' a = -1/2 alone."""
    axis = make_axis(20, 37)
    centres = (torch.arange(37, dtype=torch.float64) + 0.5) * axis.step - 0.5
    pixels = torch.arange(20, dtype=torch.float64)
    for power in range(exact + 1):
        y = resample(pixels.pow(power)[None, None], (axis,), kernel)[0, 0]
        torch.testing.assert_close(y[5:-5], centres.pow(power)[5:-5])


@pytest.mark.parametrize("kernel", ["linear", "cubic", "lanczos"])
def test_antialiasing_is_pillows(kernel):
    image = pytest.importorskip("PIL.Image")
    numpy = pytest.importorskip("numpy")
    x = torch.rand(1, 1, 23, 31)
    method = {"linear": image.BILINEAR, "cubic": image.BICUBIC, "lanczos": image.LANCZOS}[kernel]
    expected = numpy.array(image.fromarray(x[0, 0].numpy()).resize((9, 12), method))
    found = resample(x, (make_axis(23, 12), make_axis(31, 9)), f"antialiased {kernel}")
    torch.testing.assert_close(found[0, 0], torch.from_numpy(expected), rtol=1e-5, atol=1e-5)
