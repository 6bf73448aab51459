"""Every padding layer against its twin."""

import pytest
import torch
from ds_cnn.padding import pads
from ds_core import Module, ShapeError, record
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph
from hypothesis import given, settings
from hypothesis import strategies as st

KINDS = ["ConstantPad", "ZeroPad", "ReflectionPad", "ReplicationPad", "CircularPad"]
NAMES = [f"{kind}{axes}d" for kind in KINDS for axes in (1, 2, 3)]
PADDINGS = {
    1: [1, 2, (1, 2), (0, 3), (2, -1), (-1, -1), 0, (3, 0)],
    2: [1, (1, 2, 0, 2), (2, 0, -1, 1), (-1, -1, 0, -2), 0, (0, 0, 1, 2)],
    3: [1, (1, 0, 0, 2, 1, 1), (0, 0, 0, 0, 1, -1)],
}
SIZES = {1: (4,), 2: (4, 5), 3: (3, 4, 3)}


def pair(name):
    return getattr(pads, name), getattr(torch.nn, name)


def axes_of(name):
    return int(name[-2])


def made(kind, name, padding, **options):
    return kind(padding, 2.5, **options) if name.startswith("Constant") else kind(padding, **options)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("implementation", ["vectorized", "loops"])
def test_layer(name, implementation):
    axes = axes_of(name)
    layer = made(pair(name)[0], name, (1, 1) * axes, implementation=implementation)
    check_layer(layer, torch.randn(2, 1, *[2] * axes), samples=3)


@pytest.mark.parametrize("name", NAMES)
def test_twin_over_all_arguments(name):
    (ours, twin), axes = pair(name), axes_of(name)
    values = {"value": [0.0, -1.5, 3]} if name.startswith("Constant") else {}
    compared = 0
    for x in (torch.randn(2, 2, *SIZES[axes]), torch.randn(2, *SIZES[axes])):
        for image in (x, x.movedim(1, -1).contiguous().movedim(-1, 1)):
            compared += check_twin_grid(ours, twin, {"padding": PADDINGS[axes], **values}, [image], modes=["train"])
    assert compared >= 4 * len(PADDINGS[axes])


@settings(deadline=None, max_examples=30)
@given(
    name=st.sampled_from([name for name in NAMES if name.endswith("2d")]),
    size=st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(2, 4), st.integers(2, 4)),
    padding=st.tuples(*[st.integers(-1, 1)] * 4),
    implementation=st.sampled_from(["vectorized", "loops"]),
)
def test_every_shape_is_the_twins(name, size, padding, implementation):
    ours, twin = pair(name)
    height, width = size[2] + sum(padding[2:]), size[3] + sum(padding[:2])
    if min(height, width) < 1:
        return
    layer = made(ours, name, padding, implementation=implementation)
    check_twin(layer, made(twin, name, padding), torch.randn(size), modes=["train"])


@pytest.mark.parametrize("name", NAMES)
def test_state_repr_and_signature_are_the_twins(name):
    ours, twin = (made(kind, name, 2) for kind in pair(name))
    assert repr(ours) == repr(twin)
    assert list(ours.state_dict()) == []
    assert isinstance(ours, Module)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_shape_is_kept(name):
    layer = made(pair(name)[0], name, 1)
    with record() as trace:
        y = layer(torch.randn(2, 2, *SIZES[axes_of(name)]))
        assert sum(line.bytes for line in trace.kept()) == 0
        layer.backward(y)


@pytest.mark.parametrize("name", [name for name in NAMES if name[-2] == "2"])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 2, 5, 5), (5, 5), (1, 1, 1, 5), (1, 1, 5, 3), (2, 0, 5, 5)], ids=str)
def test_inputs_are_refused_as_by_the_twin(name, shape):
    ours, twin = (made(kind, name, (1, 2, 1, 1)) for kind in pair(name))
    x = torch.randn(shape)
    try:
        expected = twin(x)
    except (ValueError, RuntimeError, NotImplementedError):
        with pytest.raises(ShapeError, match=name):
            ours(x)
    else:
        assert torch.equal(ours(x), expected)


def test_worked_example():
    x, dy = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    right = {
        "ZeroPad1d": ([0, 0, 1, 2, 3, 0], [3, 4, 5]),
        "ReflectionPad1d": ([3, 2, 1, 2, 3, 2], [3, 12, 6]),
        "ReplicationPad1d": ([1, 1, 1, 2, 3, 3], [6, 4, 11]),
        "CircularPad1d": ([2, 3, 1, 2, 3, 1], [9, 5, 7]),
    }
    for name, (y, dx) in right.items():
        layer = pair(name)[0]((2, 1))
        with record():
            assert layer(x).flatten().tolist() == y
            assert layer.backward(dy).flatten().tolist() == dx


def test_what_is_refused_when_a_layer_is_made():
    with pytest.raises(ValueError, match=r"ZeroPad2d: padding: given \(1, 2\), expected one int, or 4 of them"):
        pads.ZeroPad2d((1, 2))
    with pytest.raises(ValueError, match=r"CircularPad1d: given implementation='fast'"):
        pads.CircularPad1d(1, implementation="fast")


def test_integer_images_are_padded_as_they_are():
    x = torch.arange(6, dtype=torch.uint8).view(1, 1, 2, 3)
    for name in ("ZeroPad2d", "ReflectionPad2d", "CircularPad2d"):
        y = pair(name)[0](1)(x)
        assert y.dtype == torch.uint8
        assert torch.equal(y.long(), pair(name)[1](1)(x.long()))


@pytest.mark.parametrize("name", ["ConstantPad2d", "ReflectionPad2d", "ReplicationPad2d", "CircularPad2d"])
def test_compiles_whole(name):
    layer, x = made(pair(name)[0], name, (1, 2, -1, 1)), torch.randn(2, 2, 4, 5)

    def step(x):
        with record():
            y = layer(x)
            return y, layer.backward(y * 2)

    torch.testing.assert_close(one_graph(step)(x), step(x))
