"""Conv1d, Conv2d and Conv3d beside torch.nn's: every argument, both engines, the loops, what is refused."""

import numpy as np
import pytest
import torch
from ds_cnn import Conv1d, Conv2d, Conv3d
from ds_core import ShapeError, record
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph, pairwise
from hypothesis import given, settings
from hypothesis import strategies as st

LAYERS = {1: (Conv1d, torch.nn.Conv1d), 2: (Conv2d, torch.nn.Conv2d), 3: (Conv3d, torch.nn.Conv3d)}
SIZES = {1: (9,), 2: (7, 6), 3: (4, 5, 4)}

# every pair of an awkward geometry: not square, overlapping, with gaps, in parts, extended by other than zeros
GEOMETRIES = [
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False},
    {"kernel_size": (3, 2), "stride": (1, 2), "padding": (0, 1), "dilation": (2, 1)},
    {"kernel_size": (2, 3), "padding": "same"},
    {"kernel_size": 3, "padding": 1, "groups": 2},
    {"kernel_size": 3, "padding": (1, 2), "groups": 4, "stride": 2},
    {"kernel_size": 2, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": (2, 1), "padding": "same", "padding_mode": "circular", "dilation": 3},
]


@pytest.mark.parametrize("arguments", GEOMETRIES, ids=str)
def test_layer(arguments):
    check_layer(Conv2d(4, 4, **arguments), torch.randn(2, 4, 5, 6))


@pytest.mark.parametrize("arguments", GEOMETRIES[2:6], ids=str)
def test_loops(arguments):
    check_layer(Conv2d(2, 2, **arguments, implementation="loops"), torch.randn(2, 2, 5, 3), samples=4)


@pytest.mark.parametrize("axes", [1, 3])
def test_other_axes(axes):
    ours, _ = LAYERS[axes]
    check_layer(ours(4, 6, 2, stride=2, padding=1, groups=2), torch.randn(2, 4, *SIZES[axes]))


@pytest.mark.parametrize("axes", LAYERS)
def test_twin_over_all_arguments(axes):
    ours, theirs = LAYERS[axes]
    compared = check_twin_grid(
        ours,
        theirs,
        {
            "in_channels": [4],
            "out_channels": [4, 6],
            "kernel_size": [2, (3, 1, 2)[:axes]],
            "stride": [1, (2, 1, 3)[:axes]],
            "padding": [1, "same", "valid"],
            "dilation": [1, (1, 2, 1)[:axes]],
            "groups": [1, 4],
            "bias": [True, False],
            "padding_mode": ["zeros", "circular"],
        },
        lambda chosen: [torch.randn(2, 4, *SIZES[axes])],
        thinned=True,
        modes=["train"],
    )
    assert compared >= 8


@pytest.mark.parametrize("axes", LAYERS)
def test_twin_over_random_arguments(axes):
    """60 draws from all arguments, and from sizes, batched or not."""
    ours, theirs = LAYERS[axes]
    generator = torch.Generator().manual_seed(axes)

    def draw(*values):
        return values[int(torch.randint(len(values), (), generator=generator))]

    compared = 0
    while compared < 60:
        groups = draw(1, 1, 2, 3)
        arguments = {
            "in_channels": groups * draw(1, 2),
            "out_channels": groups * draw(1, 2, 3),
            "kernel_size": tuple(draw(1, 2, 3, 4) for _ in range(axes)),
            "stride": tuple(draw(1, 1, 2, 3) for _ in range(axes)),
            "padding": draw("valid", tuple(draw(0, 1, 2) for _ in range(axes))),
            "dilation": tuple(draw(1, 1, 2) for _ in range(axes)),
            "groups": groups,
            "bias": draw(True, False),
            "padding_mode": draw("zeros", "zeros", "reflect", "replicate", "circular"),
        }
        if draw(False, False, True):
            arguments |= {"padding": "same", "stride": 1}
        x = torch.randn(
            *draw((), (1,), (3,)), arguments["in_channels"], *(draw(3, 4, 5, 6, 7) for _ in range(axes)),
            generator=generator, dtype=torch.float64,
        )  # fmt: skip
        twin = theirs(**arguments).double()  # in float32 it takes some sizes that it refuses otherwise
        try:
            twin(x)
        except RuntimeError:
            with pytest.raises(ValueError, match="given"):
                ours(**arguments).double()(x)
            continue
        check_twin(ours(**arguments), twin, x, modes=["train"])
        compared += 1


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_loops_and_vectorized_agree(data):
    axes = data.draw(st.integers(1, 2))
    groups = data.draw(st.integers(1, 2))
    small = st.integers(1, 3)
    arguments = {
        name: tuple(data.draw(values) for _ in range(axes))
        for name, values in {
            "kernel_size": small,
            "stride": small,
            "padding": st.integers(0, 2),
            "dilation": st.integers(1, 2),
        }.items()
    }
    axes_of = zip(arguments["kernel_size"], arguments["dilation"], arguments["padding"], strict=True)
    spans = [d * (k - 1) + 1 - 2 * p for k, d, p in axes_of]
    size = [max(1, span) + data.draw(st.integers(0, 2)) for span in spans]
    batch, channels, filters = (data.draw(st.integers(1, 2)) for _ in range(3))
    x = torch.randn(batch, groups * channels, *size, dtype=torch.float64)
    vectorized, loops = (
        LAYERS[axes][0](groups * channels, groups * filters, groups=groups, implementation=name, **arguments).double()
        for name in ("vectorized", "loops")
    )
    loops.load_state_dict(vectorized.state_dict())
    found = []
    for layer in (vectorized, loops):
        with record():
            y = layer(x)
            found.append([y, layer.backward(torch.cos(y)), *(parameter.grad for parameter in layer.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_loops_agree_with_other_arguments():
    """What the property above leaves out: other borders, no bias."""
    options = pairwise(
        {"padding_mode": ["zeros", "reflect", "circular"], "padding": [1, "same"], "bias": [True, False]}
    )
    for chosen in options:
        layers = [Conv2d(2, 2, 2, implementation=name, **chosen) for name in ("vectorized", "loops")]
        layers[1].load_state_dict(layers[0].state_dict())
        x = torch.randn(1, 2, 3, 3)
        torch.testing.assert_close(layers[0](x), layers[1](x))


def test_worked_example():
    x, dy = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), torch.tensor([[[1.0, 1.0, 1.0, 2.0]]])
    expected = {
        "zeros": ([-1.5, -2.0, -2.5, 2.0], [0.5, -0.5, -0.5, 0.0]),
        "circular": ([-1.5, -2.0, -2.5, 1.0], [-1.5, -0.5, -0.5, 0.0]),
    }
    for mode, (outputs, gradients) in expected.items():
        layer = Conv1d(1, 1, 2, padding="same", padding_mode=mode, bias=False)
        layer.load_state_dict({"weight": torch.tensor([[[0.5, -1.0]]])})
        with record():
            y = layer(x)
            dx = layer.backward(dy)
        assert (y.tolist(), dx.tolist()) == ([[outputs]], [[gradients]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 0}, "given groups=0"),
        ({"groups": True}, "given groups=True"),
        ({"out_channels": 0}, "given out_channels=0"),
        ({"in_channels": -4}, "given in_channels=-4"),
        ({"in_channels": 4.0}, r"given in_channels=4\.0"),
        ({"kernel_size": True}, "kernel_size: given True"),
        ({"groups": 3}, "in_channels=4 and groups=3"),
        ({"out_channels": 7, "groups": 2}, "out_channels=7 and groups=2"),
        ({"kernel_size": (1, 2, 3)}, "kernel_size: given"),
        ({"kernel_size": 0}, "kernel_size="),
        ({"kernel_size": 2.5}, "kernel_size"),
        ({"stride": 0}, "stride="),
        ({"dilation": 0}, "dilation="),
        ({"padding": -1}, "padding="),
        ({"padding": "sane"}, "did you mean same"),
        ({"padding": "same", "stride": 2}, "stride of 1 only"),
        ({"padding_mode": "zero"}, "did you mean zeros"),
        ({"implementation": "fast"}, "implementation='fast'"),
    ],
    ids=str,
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"Conv2d.*{message}"):
        Conv2d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **arguments})


@pytest.mark.parametrize("shape", [(4,), (4, 5), (1, 1, 4, 5, 5), (2, 3, 5, 5), (2, 4, 2, 5), (2, 4, 0, 5), (4, 5, 0)])
def test_impossible_input(shape):
    with pytest.raises(ShapeError, match=r"Conv2d\(4, 6, kernel_size=\(3, 3\).*given input of shape"):
        Conv2d(4, 6, 3)(torch.zeros(shape))


def test_integer_images_are_refused():
    with pytest.raises(ShapeError, match=r"given input in torch\.uint8, expected a floating dtype"):
        Conv2d(1, 1, 3)(torch.zeros(1, 1, 5, 5, dtype=torch.uint8))


def test_empty_batch():
    check_twin(Conv2d(2, 3, 3), torch.nn.Conv2d(2, 3, 3), torch.randn(0, 2, 5, 5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_is_kept(dtype):
    layer = Conv2d(2, 3, 3).to(dtype)
    twin = torch.nn.Conv2d(2, 3, 3)
    twin.load_state_dict({name: tensor.float() for name, tensor in layer.state_dict().items()})
    x = torch.randn(2, 2, 6, 6).to(dtype)
    with record():
        y = layer(x)
        dx = layer.backward(torch.ones_like(y))
    assert {y.dtype, dx.dtype, layer.weight.grad.dtype} == {dtype}
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(y.float(), twin(x.float()).detach(), atol=tolerance, rtol=tolerance)


def test_only_the_input_is_kept():
    layer, x = Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), torch.randn(2, 3, 8, 8)
    with record() as trace:
        y = layer(x)
        kept = sum(line.bytes for line in trace.kept())
        layer.backward(y)
    assert kept == x.numel() * 4


def test_input_gradient_may_be_left_out():
    layer, x = Conv2d(3, 2, 3), torch.randn(2, 3, 5, 5)
    with record():
        assert layer.backward(torch.ones_like(layer(x)), input_gradient=False) is None
    assert layer.weight.grad is not None


def test_generator_decides_the_weights():
    one, other = (Conv2d(2, 2, 3, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one.weight, other.weight)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3, "padding": "same", "groups": 2},
        {"kernel_size": 3, "padding": 1},  # float32 on a CPU: Winograd is weighed
        {"kernel_size": 5, "stride": 2},
    ],
    ids=str,
)
def test_compiles_whole(arguments):
    """One graph for each shape of the batch."""
    layer = Conv2d(2, 4, **arguments)

    def step(x):
        with record():
            y = layer(x)
            return y, layer.backward(torch.cos(y))

    compiled = one_graph(step, graphs=2)
    for batch in (2, 3):
        x = torch.randn(batch, 2, 6, 6)
        torch.testing.assert_close(compiled(x), step(x))


def test_numpy_numbers_are_numbers():
    layer = Conv2d(2, 4, np.int64(3), stride=(np.int32(1), 2))
    assert (layer.kernel_size, layer.stride) == ((3, 3), (1, 2))


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_autocast_decides_the_dtype(kernel_size):
    """In either engine, as in torch.nn."""
    layer, x = Conv2d(2, 4, kernel_size), torch.randn(2, 2, 6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.nn.Conv2d(2, 4, kernel_size)(x).dtype == layer(x).dtype == torch.bfloat16
        with record():
            y = layer(x)
            layer.backward(torch.ones_like(y))
    assert (y.dtype, layer.weight.grad.dtype) == (torch.bfloat16, torch.float32)
