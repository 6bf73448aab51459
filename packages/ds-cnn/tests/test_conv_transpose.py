"""ConvTranspose1d, ConvTranspose2d and ConvTranspose3d beside torch.nn's: every argument of both, what is refused."""

import pytest
import torch
from ds_cnn import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from ds_core import ShapeError, record
from ds_core.testing import check_layer, check_twin, one_graph
from hypothesis import given, settings
from hypothesis import strategies as st

LAYERS = {
    1: (ConvTranspose1d, torch.nn.ConvTranspose1d),
    2: (ConvTranspose2d, torch.nn.ConvTranspose2d),
    3: (ConvTranspose3d, torch.nn.ConvTranspose3d),
}
GEOMETRIES = [
    {"kernel_size": 1},
    {"kernel_size": 4, "stride": 2, "padding": 1},
    {"kernel_size": 2, "stride": 3, "bias": False},
    {"kernel_size": (3, 2), "stride": (1, 2), "padding": (0, 1), "dilation": (2, 1), "output_padding": (1, 1)},
    {"kernel_size": 3, "stride": 2, "groups": 2, "output_padding": 1},
]


@pytest.mark.parametrize("arguments", GEOMETRIES, ids=str)
def test_layer(arguments):
    check_layer(ConvTranspose2d(2, 4, **arguments), torch.randn(2, 2, 3, 4))


@pytest.mark.parametrize("arguments", GEOMETRIES[2:4], ids=str)
def test_loops(arguments):
    check_layer(ConvTranspose2d(2, 2, **arguments, implementation="loops"), torch.randn(2, 2, 2, 3), samples=4)


@pytest.mark.parametrize("axes", LAYERS)
def test_twin_over_random_arguments(axes):
    """60 draws from all arguments, output_size included, and from sizes, batched or not."""
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
            "padding": tuple(draw(0, 0, 1, 2) for _ in range(axes)),
            "output_padding": tuple(draw(0, 0, 1) for _ in range(axes)),
            "dilation": tuple(draw(1, 1, 2) for _ in range(axes)),
            "groups": groups,
            "bias": draw(True, False),
        }
        x = torch.randn(
            *draw((), (1,), (3,)), arguments["in_channels"], *(draw(1, 2, 3, 4, 5) for _ in range(axes)),
            generator=generator, dtype=torch.float64,
        )  # fmt: skip
        twin = theirs(**arguments).double()  # in float32 it takes some sizes that it refuses otherwise
        try:
            size = twin(x).shape
        except RuntimeError:
            with pytest.raises(ValueError, match="given"):
                ours(**arguments).double()(x)
            continue
        asked = {}
        if draw(True, False):
            least = [length - extra for length, extra in zip(size[-axes:], arguments["output_padding"], strict=True)]
            steps = arguments["stride"]
            asked = {"output_size": [n + draw(*range(step)) for n, step in zip(least, steps, strict=True)]}
            if min(asked["output_size"]) < 1:
                continue
        try:
            twin(x, **asked)
        except RuntimeError:
            with pytest.raises(ValueError, match="given"):
                ours(**arguments).double()(x, **asked)
            continue
        check_twin(ours(**arguments), twin, x, kwargs=asked, modes=["train"])
        compared += 1


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_loops_and_vectorized_agree(data):
    small = st.integers(1, 3)
    groups, stride, dilation = data.draw(st.integers(1, 2)), data.draw(small), data.draw(st.integers(1, 2))
    arguments = {
        "kernel_size": (data.draw(small), data.draw(small)),
        "stride": stride,
        "dilation": dilation,
        "padding": (0, data.draw(st.integers(0, 1))),
        "output_padding": data.draw(st.integers(0, max(stride, dilation) - 1)),
        "groups": groups,
    }
    x = torch.randn(data.draw(st.integers(0, 2)), groups, 2, 3, dtype=torch.float64)
    vectorized, loops = (
        ConvTranspose2d(groups, 2 * groups, implementation=name, **arguments).double()
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


def test_worked_example():
    x, dy = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[1.0, -1.0, 2.0]]])
    for stride, expected in [(2, [2.0, 0.5, 6.0, 1.5]), (1, [2.0, 6.5, 1.5])]:
        layer = ConvTranspose1d(1, 1, 2, stride=stride)
        layer.load_state_dict({"weight": torch.tensor([[[2.0, 0.5]]]), "bias": torch.zeros(1)})
        assert layer(x).tolist() == [[expected]]
    with record():
        layer(x)
        assert layer.backward(dy).tolist() == [[[1.5, -1.0]]]
    assert layer.weight.grad.tolist() == [[[-2.0, 5.0]]]
    assert layer.bias.grad.tolist() == [2.0]


def test_output_size_may_name_all_dimensions():
    layer, twin = ConvTranspose2d(2, 3, 3, stride=2), torch.nn.ConvTranspose2d(2, 3, 3, stride=2)
    for size in ([8, 9], (2, 3, 8, 9), torch.Size([8, 8])):
        check_twin(layer, twin, torch.randn(2, 2, 3, 4)[..., : 4 if size[-1] == 9 else 3], kwargs={"output_size": size})


@pytest.mark.parametrize("size", [[6, 8], [9, 8], [8], [1, 2, 3], [1, 8, 8]])
def test_impossible_output_size(size):
    layer = ConvTranspose2d(2, 3, 3, stride=2)
    with pytest.raises(ValueError, match=r"given output_size=.*expected from \(7, 7\) to \(8, 8\)"):
        layer(torch.zeros(1, 2, 3, 3), output_size=size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 3}, "groups=3"),
        ({"padding": "same"}, "padding='same'"),
        ({"padding_mode": "reflect"}, "padding_mode='reflect'"),
        ({"output_padding": 1}, "given output_padding"),
        ({"output_padding": -1}, "given output_padding"),
        ({"implementation": "winograd"}, "implementation='winograd'"),
        ({"stride": (1, 2, 3)}, "stride: given"),
    ],
    ids=str,
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"ConvTranspose2d.*{message}"):
        ConvTranspose2d(**{"in_channels": 4, "out_channels": 4, "kernel_size": 3, **arguments})


@pytest.mark.parametrize("shape", [(4,), (1, 3, 5, 5), (1, 4, 5, 0), (1, 4, 1, 1), (2, 1, 4, 5, 5)])
def test_impossible_input(shape):
    with pytest.raises(ShapeError, match=r"ConvTranspose2d\(4, 2, kernel_size=\(2, 2\).*given input of shape"):
        ConvTranspose2d(4, 2, 2, padding=1)(torch.zeros(shape))


@pytest.mark.parametrize("padding", [1, 3])
def test_autograd_differentiates_what_is_cut_off(padding):
    """A padding beyond the kernel: the input gradient of a convolution cannot be a convolution then."""
    check_twin(
        ConvTranspose2d(2, 3, 3, padding=padding),
        torch.nn.ConvTranspose2d(2, 3, 3, padding=padding),
        torch.randn(2, 2, 9, 9),
    )
    check_layer(ConvTranspose2d(2, 3, 3, padding=padding), torch.randn(2, 2, 9, 9))


def test_compiles_whole():
    layer, x = ConvTranspose2d(2, 4, 4, stride=2, padding=1), torch.randn(2, 2, 4, 4)

    def step(x):
        with record():
            y = layer(x)
            return y, layer.backward(torch.cos(y))

    torch.testing.assert_close(one_graph(step)(x), step(x))
