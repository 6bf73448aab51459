import pytest
import torch
from ds_cnn import Upsample
from ds_cnn.resampling.upsample import IMPLEMENTATIONS
from ds_core import ShapeError, TraceError, plain, record
from ds_core.speed.traced_einops import trace_einops_whole
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph

BOTH = pytest.mark.parametrize("implementation", ["vectorized", "loops"])
CASES = [
    ((2, 2, 3), {"scale_factor": 2.0}),
    ((2, 2, 3), {"size": 5, "mode": "linear", "align_corners": True}),
    ((2, 1, 2, 3), {"size": (3, 2), "mode": "nearest-exact"}),
    ((2, 1, 2, 3), {"size": (3, 2), "mode": "bilinear"}),
    ((2, 1, 2, 3), {"size": 2, "mode": "bicubic"}),
    ((2, 1, 3, 2), {"size": (2, 3), "mode": "area"}),
    ((2, 1, 1, 2, 2), {"size": (2, 1, 3), "mode": "trilinear"}),
]


@BOTH
@pytest.mark.parametrize(("shape", "arguments"), CASES, ids=lambda value: str(value))
def test_layer(shape, arguments, implementation):
    check_layer(Upsample(**arguments, implementation=implementation), torch.randn(shape))


@BOTH
@pytest.mark.parametrize(("shape", "arguments"), CASES, ids=lambda value: str(value))
def test_twin(shape, arguments, implementation):
    check_twin(Upsample(**arguments, implementation=implementation), torch.nn.Upsample(**arguments), torch.randn(shape))


def grid(axes):
    """Every valid combination of the arguments for images of so many axes, as factories with one argument."""
    modes = {1: ["linear"], 2: ["bilinear", "bicubic"], 3: ["trilinear"]}[axes]
    sizes = [{"size": 4}, {"size": (3, 6, 5)[:axes]}, {"size": [7] * axes}]
    factors = [2, 0.5, 1.7, (1.5, 0.75, 2.5)[:axes]]
    sizes += [{"scale_factor": f, "recompute_scale_factor": r} for f in factors for r in (None, False, True)]
    plain_modes = [{"mode": mode} for mode in ("nearest", "nearest-exact", "area")]
    aligned = [{"mode": mode, "align_corners": align} for mode in modes for align in (None, False, True)]
    return [mode | size for mode in plain_modes + aligned for size in sizes]


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_twin_over_all_arguments(axes):
    """1-tuples and lists too; the twin refuses none of these either."""
    combinations = grid(axes)
    x = torch.randn(2, 2, *(5, 6, 4)[:axes], dtype=torch.float64)
    for arguments in combinations:
        check_twin(Upsample(**arguments), torch.nn.Upsample(**arguments), x, modes=["eval"])
    assert len(combinations) >= 60


def test_signature_and_grid():
    compared = check_twin_grid(
        Upsample,
        torch.nn.Upsample,
        {"size": [(3, 8)], "mode": ["bilinear", "bicubic"], "align_corners": [None, False, True]},
        [torch.randn(2, 2, 5, 4)],
        modes=["eval"],
    )
    assert compared == 6


def test_loops_are_the_plain_pair():
    found = []
    for layer in (Upsample(3, mode="bicubic"), Upsample(3, mode="bicubic", implementation="loops")):
        with plain(), record():
            y = layer(torch.linspace(0, 1, 8).reshape(1, 1, 2, 4))
            found.append((y, layer.backward(torch.cos(y))))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert set(IMPLEMENTATIONS) == {"vectorized", "loops"}


def test_worked_example():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    dy = torch.tensor([[0.5, 1, 0, 2], [0, -1, 1, 0], [1, 1, 3, 0], [1, 1, 0, 0.25]])[None, None]
    for implementation in IMPLEMENTATIONS:
        layer = Upsample(scale_factor=2, implementation=implementation)
        with record():
            assert layer(x)[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
            assert layer.backward(dy)[0, 0].tolist() == [[0.5, 3.0], [4.0, 3.25]]


def test_nothing_is_kept():
    with record() as trace:
        layer = Upsample(scale_factor=2, mode="bilinear")
        y = layer(torch.randn(4, 3, 8, 8))
        kept = sum(line.bytes for line in trace.kept())
        layer.backward(y)
    assert kept == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "neither of size and scale_factor"),
        ({"size": 2, "scale_factor": 2.0}, "size=2 and scale_factor=2.0"),
        ({"size": 2, "mode": "cubic"}, "mode='cubic'"),
        ({"size": 0}, "size=0"),
        ({"size": (3, -1)}, r"size=\(3, -1\)"),
        ({"scale_factor": 0}, "scale_factor=0"),
        ({"scale_factor": -2.0}, "scale_factor=-2.0"),
        ({"scale_factor": float("nan")}, "scale_factor=nan"),
        ({"scale_factor": float("inf")}, "scale_factor=inf"),
        ({"size": 2, "align_corners": False}, "align_corners with mode='nearest'"),
        ({"size": 2, "mode": "area", "align_corners": True}, "align_corners with mode='area'"),
        ({"size": 2, "recompute_scale_factor": True}, "recompute_scale_factor with a size"),
        ({"size": 2, "mode": "lanczos"}, "without antialias"),
        ({"size": 2, "implementation": "fast"}, "implementation='fast'"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"Upsample: given .*{message}"):
        Upsample(**arguments)
    if "implementation" not in arguments:
        with pytest.raises((ValueError, RuntimeError, NotImplementedError)):
            torch.nn.Upsample(**arguments)(torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize("arguments", [{"size": 2.0}, {"size": (2.0, 3)}, {"size": True}, {"scale_factor": "2"}])
def test_arguments_of_another_type(arguments):
    expected = "a whole number" if "size" in arguments else "a number"
    with pytest.raises(TypeError, match=f"Upsample: given .*expected {expected}, or one for each axis"):
        Upsample(**arguments)


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"size": 2}, (3, 3)),
        ({"size": 2}, (1, 1, 1, 1, 1, 1)),
        ({"size": 2, "mode": "linear"}, (1, 1, 3, 3)),
        ({"size": 2, "mode": "bilinear"}, (1, 3, 3)),
        ({"size": 2, "mode": "bicubic"}, (1, 1, 3, 3, 3)),
        ({"size": 2, "mode": "trilinear"}, (1, 1, 3, 3)),
        ({"size": (2, 2)}, (1, 1, 3)),
        ({"scale_factor": (2.0, 2.0)}, (1, 1, 3)),
        ({"scale_factor": 0.1}, (1, 1, 3, 3)),
        ({"size": 2}, (1, 1, 0, 3)),
        ({"size": 2}, (1, 0, 3, 3)),
        ({"size": 2, "mode": "bilinear"}, (1, 0, 3, 3)),
    ],
)
def test_impossible_input(arguments, shape):
    with pytest.raises(ShapeError, match=r"Upsample\(.*: given"):
        Upsample(**arguments)(torch.zeros(shape))
    with pytest.raises((ValueError, RuntimeError)):
        torch.nn.Upsample(**arguments)(torch.zeros(shape))


def test_backward_outside_record():
    with pytest.raises(TraceError, match=r"with record\(\)"):
        Upsample(2).backward(torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic", "area"])
def test_compiles_whole(mode):
    layer, x, dy = Upsample((5, 8), mode=mode), torch.randn(2, 3, 4, 4), torch.randn(2, 3, 5, 8)

    def step(x, dy):
        with record():
            return layer(x), layer.backward(dy)

    torch.testing.assert_close(one_graph(step)(x, dy), step(x, dy))


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic", "area"])
def test_compiles_whole_with_every_axis_dynamic(mode):
    """The sizes are symbols then, which no sort can put in order."""
    layer = Upsample(scale_factor=(0.5, 3), mode=mode)

    def step(x):
        with record():
            y = layer(x)
            return y, layer.backward(y * y)

    torch._dynamo.reset()
    trace_einops_whole()
    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for shape in ((2, 3, 4, 6), (3, 2, 8, 5)):
        x = torch.randn(shape)
        torch.testing.assert_close(compiled(x), step(x))
