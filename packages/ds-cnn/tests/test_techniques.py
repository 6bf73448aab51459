import pytest
import torch
from ds_cnn import (
    TECHNIQUES,
    choose_technique,
    convolution,
    convolution_input_gradient,
    convolution_weight_gradient,
    plain_convolution,
    plain_input_gradient,
    plain_weight_gradient,
)
from ds_core.testing import one_graph

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PASSES = ("forward", "input_gradient", "weight_gradient")
ONES, NONE = (1, 1), (0, 0)

# x, weight, window: each fits several techniques
CASES = [
    ((2, 3, 6, 5), (4, 3, 3, 3), (ONES, ONES, ONES, 1)),
    ((2, 3, 4, 4), (2, 3, 1, 1), ((2, 1), NONE, ONES, 1)),
    ((2, 2, 5, 4), (4, 1, 2, 3), (ONES, (1, 0), (2, 1), 2)),
    ((2, 1, 5, 4), (3, 1, 3, 3), (ONES, (2, 0), ONES, 1)),
]


@pytest.mark.parametrize(("shape", "weight_shape", "window"), CASES)
def test_techniques_that_fit_agree_with_the_loops_and_each_other(shape, weight_shape, window):
    x, weight = torch.randn(shape, dtype=torch.float64), torch.randn(weight_shape, dtype=torch.float64)
    bias = torch.randn(len(weight), dtype=torch.float64)
    y = plain_convolution(x, weight, bias, *window)
    dy = torch.randn_like(y)
    dx = plain_input_gradient(dy, weight, shape[2:], *window)
    dweight = plain_weight_gradient(dy, x, weight_shape[2:], *window)
    fitted = 0
    for technique in TECHNIQUES.values():
        with torch.no_grad():
            try:
                found = technique.forward(x, weight, bias, *window)
            except ValueError:
                continue
            fitted += 1
            torch.testing.assert_close(found, y, rtol=1e-12, atol=1e-12)
            found = technique.input_gradient(dy, weight, shape[2:], *window)
            torch.testing.assert_close(found, dx, rtol=1e-12, atol=1e-12)
            found = technique.weight_gradient(dy, x, weight_shape[2:], *window)
            torch.testing.assert_close(found, dweight, rtol=1e-12, atol=1e-12)
    assert fitted >= 2


@pytest.mark.parametrize("name", TECHNIQUES)
def test_technique_compiles_to_one_graph(name):
    groups = {"depthwise": 4, "merged_groups": 2}.get(name, 1)
    kernel_size = (1, 1) if name == "pointwise" else (3, 3)
    padding = NONE if name == "pointwise" else ONES
    technique, window = TECHNIQUES[name], (ONES, padding, ONES, groups)
    x, weight, bias = torch.randn(2, 4, 6, 5), torch.randn(4, 4 // groups, *kernel_size), torch.randn(4)
    dy = torch.randn(2, 4, 6, 5)

    def step(x, weight, bias, dy):
        return (
            technique.forward(x, weight, bias, *window),
            technique.input_gradient(dy, weight, (6, 5), *window),
            technique.weight_gradient(dy, x, kernel_size, *window),
        )

    with torch.no_grad():
        found, expected = one_graph(step)(x, weight, bias, dy), step(x, weight, bias, dy)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def chosen(shape, weight_shape, window, dtype=torch.float32, device=CPU):
    return [choose_technique(shape, weight_shape, *window, dtype, device, of=step) for step in PASSES]


def test_kernels_of_one_position_are_products():
    assert set(chosen((8, 64, 14, 14), (32, 64, 1, 1), ((2, 2), NONE, ONES, 1))) == {"pointwise"}
    assert "pointwise" not in chosen((8, 64, 14, 14), (32, 64, 1, 1), (ONES, ONES, ONES, 1))


def test_channels_by_themselves_are_depthwise():
    assert set(chosen((8, 64, 14, 14), (64, 1, 3, 3), (ONES, ONES, ONES, 64))) == {"depthwise"}
    assert "depthwise" not in chosen((8, 64, 14, 14), (64, 2, 3, 3), (ONES, ONES, ONES, 32))


def test_groups_of_few_channels_are_merged_on_a_cpu():
    shapes = (8, 64, 14, 14), (64, 8, 3, 3), (ONES, ONES, ONES, 8)
    assert set(chosen(*shapes)) == {"merged_groups"}
    assert set(chosen(*shapes, torch.bfloat16)) == {"merged_groups"}
    assert set(chosen(*shapes, device=CUDA)) == {"im2col"}
    assert set(chosen((8, 64, 14, 14), (64, 32, 3, 3), (ONES, ONES, ONES, 2))) == {"im2col"}


def test_winograd_is_for_float32_on_a_cpu():
    shapes = (16, 64, 32, 32), (64, 64, 3, 3), (ONES, ONES, ONES, 1)
    assert set(chosen(*shapes)) == {"winograd_4x4"}
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        assert not any("winograd" in name for name in chosen(*shapes, dtype))
    assert not any("winograd" in name for name in chosen(*shapes, device=CUDA))
    with torch.autocast("cpu"):  # products, and so the transforms under autograd, would be in half precision
        assert not any("winograd" in name for name in chosen(*shapes))


@pytest.mark.parametrize(
    "window", [((2, 2), ONES, ONES, 1), (ONES, (3, 3), ONES, 1), (ONES, ONES, (2, 2), 1), (ONES, ONES, ONES, 2)]
)
def test_winograd_is_chosen_only_where_it_fits(window):
    weight_shape = (64, 64 // window[3], 3, 3)
    assert not any("winograd" in name for name in chosen((16, 64, 32, 32), weight_shape, window))


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("channels", [4, 64])
@pytest.mark.parametrize("padding", [0, 1, 3])
def test_what_is_chosen_fits(axes, kernel, groups, channels, padding):
    window = ((1,) * axes, (padding,) * axes, (1,) * axes, groups)
    x, weight = torch.randn(1, channels, *[4] * axes), torch.randn(channels, channels // groups, *[kernel] * axes)
    with torch.no_grad():
        y = convolution(x, weight, None, *window)
        convolution_input_gradient(y, weight, (4,) * axes, *window)
        convolution_weight_gradient(y, x, (kernel,) * axes, *window)
    convolutions = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}
    expected = convolutions[axes](x, weight, None, *window)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-3)
