import itertools
import math

import pytest
import torch
from ds_core import ShapeError, primitives_only, record
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph
from ds_transformers import PatchEmbedding
from ds_transformers.positions.patch_embedding import patch_embedding, patch_embedding_backward
from hypothesis import given, settings
from hypothesis import strategies as st


class ConvolutionOfPatches(torch.nn.Conv2d):
    """A convolution whose kernel and stride are the patch, then its outputs as a sequence."""

    def __init__(self, image_size, patch_size, in_channels, embed_dim, bias=True):
        super().__init__(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size, bias=bias)

    def forward(self, x):
        return super().forward(x).flatten(2).transpose(1, 2)


def test_worked_example():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    weight = torch.tensor([[1.0, -1.0], [0.5, 2.0]]).view(2, 1, 2, 1)
    y, patches = patch_embedding(x, weight, torch.tensor([0.0, 1.0]))
    assert patches.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert y.tolist() == [[[-2.0, 7.5], [-2.0, 10.0]]]
    dy = torch.tensor([[[1.0, 2.0], [-1.0, 0.5]]])
    dx, dweight, dbias = patch_embedding_backward(dy, patches, weight, (2, 2))
    assert dx.tolist() == [[[[2.0, -0.75], [3.0, 2.0]]]]
    assert dweight.flatten(1).tolist() == [[-1.0, -1.0], [3.0, 8.0]]
    assert dbias.tolist() == [0.0, 2.5]


def test_index_by_index():
    layer = PatchEmbedding((4, 6), (2, 3), 2, 5, dtype=torch.float64)
    x = torch.randn(2, 2, 4, 6, dtype=torch.float64)
    y = layer(x)
    for b, row, column, e in itertools.product(range(2), range(2), range(2), range(5)):
        expected = layer.bias[e] + sum(
            layer.weight[e, c, p, q] * x[b, c, 2 * row + p, 3 * column + q]
            for c, p, q in itertools.product(range(2), range(2), range(3))
        )
        assert y[b, 2 * row + column, e].item() == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(4, 6), None])
@pytest.mark.parametrize(("patch", "batch"), [((2, 3), 3), ((4, 6), 2), ((1, 1), 1), ((4, 2), 2)])
def test_gradients(patch, batch, size, bias):
    check_layer(PatchEmbedding(size, patch, 2, 5, bias=bias), torch.randn(batch, 2, 4, 6))


def test_twin():
    grid = {
        "image_size": [(4, 6), None],
        "patch_size": [2, (2, 3), (4, 6), 1],
        "in_channels": [1, 3],
        "embed_dim": [1, 5],
        "bias": [True, False],
    }

    def images(chosen):
        return [torch.randn(2, chosen["in_channels"], 4, 6)]

    assert check_twin_grid(PatchEmbedding, ConvolutionOfPatches, grid, images, check_arguments=False) == 64


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    batch=st.integers(0, 3),
    grid=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    patch=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels=st.integers(1, 3),
    width=st.integers(1, 4),
    bias=st.booleans(),
)
def test_like_the_convolution_for_any_sizes(batch, grid, patch, channels, width, bias):
    x = torch.randn(batch, channels, grid[0] * patch[0], grid[1] * patch[1])
    ours = PatchEmbedding(None, patch, channels, width, bias=bias)
    assert ours(x).shape == (batch, grid[0] * grid[1], width)
    if batch > 0:
        check_twin(ours, ConvolutionOfPatches(None, patch, channels, width, bias), x, modes=["train"])


def test_square_sizes_from_one_number():
    layer = PatchEmbedding(8, 4, 3, 5)
    assert (layer.image_size, layer.patch_size, layer.grid) == ((8, 8), (4, 4), (2, 2))
    assert layer(torch.zeros(1, 3, 8, 8)).shape == (1, 4, 5)
    assert PatchEmbedding((8, 12), 4, 3, 5).grid == (2, 3)
    assert PatchEmbedding(None, 4, 3, 5).grid is None


def test_pictures_of_no_height():
    layer = PatchEmbedding(None, 2, 3, 5)
    x = torch.zeros(2, 3, 0, 4)
    with record():
        y = layer(x)
        assert y.shape == (2, 0, 5)
        assert layer.backward(torch.zeros_like(y)).shape == x.shape
    assert torch.equal(layer.weight.grad, torch.zeros(5, 3, 2, 2))


def test_initial_values():
    layer = PatchEmbedding(8, 4, 3, 400)
    bound = 1 / math.sqrt(48)
    for tensor in (layer.weight, layer.bias):
        assert tensor.abs().max() <= bound
        assert tensor.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    again = [PatchEmbedding(8, 4, 3, 5, generator=torch.Generator().manual_seed(1)).bias for _ in range(2)]
    assert torch.equal(*again)
    assert {name: tuple(t.shape) for name, t in layer.state_dict().items()} == {
        "weight": (400, 3, 4, 4),
        "bias": (400,),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtypes(dtype):
    layer = PatchEmbedding(4, 2, 3, 5, dtype=dtype)
    twin = ConvolutionOfPatches(4, 2, 3, 5).to(dtype)
    twin.load_state_dict(layer.state_dict())
    x, dy = torch.randn(2, 3, 4, 4).to(dtype), torch.randn(2, 4, 5).to(dtype)
    leaf = x.clone().requires_grad_()
    expected = twin(leaf)
    expected.backward(dy)
    with record():
        y = layer(x)
        dx = layer.backward(dy)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 4e-2}[dtype]
    pairs = [(y, expected.detach()), (dx, leaf.grad), (layer.weight.grad, twin.weight.grad)]
    for found, other in [*pairs, (layer.bias.grad, twin.bias.grad)]:
        assert found.dtype == dtype
        torch.testing.assert_close(found, other, rtol=tolerance, atol=tolerance)


def test_work_not_needed_is_not_done():
    layer = PatchEmbedding(4, 2, 3, 5)
    x, dy = torch.randn(2, 3, 4, 4), torch.randn(2, 4, 5)
    with record() as trace, primitives_only() as ran:
        layer(x)
        assert [line.bytes for line in trace.kept()] == [4 * x.numel()]
        before = ran["mm"]
        assert layer.backward(dy, input_gradient=False) is None
    assert ran["mm"] - before == 1
    layer.requires_grad_(False)
    layer.zero_grad()
    with record() as trace, primitives_only() as ran:
        layer(x)
        assert [line.bytes for line in trace.kept()] == [0]
        before = ran["mm"]
        assert layer.backward(dy).shape == x.shape
    assert ran["mm"] - before == 1
    assert layer.weight.grad is None
    assert layer.bias.grad is None


def test_compiles_in_one_graph():
    layer = PatchEmbedding(None, 2, 3, 5)

    def step(x):
        layer.zero_grad()
        with record():
            dx = layer.backward(layer(x))
        return dx, layer.weight.grad, layer.bias.grad

    compiled = one_graph(step, dynamic=True)
    for shape in [(2, 3, 4, 6), (3, 3, 8, 4)]:
        x = torch.randn(shape)
        torch.testing.assert_close(compiled(x), step(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 4, 3, 5), "image_size=10 and patch_size=4, expected height and width .* multiples"),
        (((8, 10), (4, 4), 3, 5), r"image_size=\(8, 10\) and patch_size=\(4, 4\)"),
        ((8, 0, 3, 5), "patch_size=0.*expected all to be positive"),
        ((0, 4, 3, 5), "image_size=0"),
        ((8, 4, 0, 5), "in_channels=0"),
        ((8, 4, 3, 0), "embed_dim=0"),
    ],
)
def test_impossible_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        PatchEmbedding(*arguments)


@pytest.mark.parametrize(
    ("image_size", "shape", "message"),
    [
        (8, (2, 3, 8, 12), r"input of shape \(2, 3, 8, 12\), expected \(B, 3, 8, 8\)"),
        (8, (2, 1, 8, 8), r"input of shape \(2, 1, 8, 8\)"),
        (8, (3, 8, 8), r"input of shape \(3, 8, 8\)"),
        (None, (2, 3, 10, 8), r"shape \(2, 3, 10, 8\), expected \(B, 3, height, width\) with height a multiple of 4"),
        (None, (2, 3, 8, 10), r"shape \(2, 3, 8, 10\).* and width of 4"),
        (None, (2, 1, 8, 8), r"shape \(2, 1, 8, 8\)"),
        (None, (3, 8, 8), r"shape \(3, 8, 8\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(image_size, shape, message):
    with pytest.raises(ShapeError, match=message):
        PatchEmbedding(image_size, 4, 3, 5)(torch.zeros(shape))
