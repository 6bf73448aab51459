import pytest
import torch
import transformers
from ds_core import ShapeError, plain, primitives_only, record
from ds_core.testing import check_layer, one_graph
from ds_zoo.vision.image_tokens import ImageTokens, resize_positions, resize_positions_backward

# Larger, smaller, oblong, pixels beyond the last patch, and as many patches in another grid (18 x 2)
SIZES = [(6, 6), (7, 7), (7, 6), (4, 4), (4, 9), (11, 5), (2, 2), (18, 2)]


def tokens_layer(dtype=torch.float64, **changes):
    sizes = {"image_size": 6, "patch_size": 2, "num_channels": 2, "embed_dim": 5}
    return ImageTokens(**{**sizes, **changes}, dtype=dtype, generator=torch.Generator().manual_seed(0))


def test_worked_example():
    layer = ImageTokens(2, 1, 1, 1, dtype=torch.float64)
    with torch.no_grad():
        layer.patches.weight.fill_(2)
        layer.patches.bias.fill_(0.5)
        layer.class_token.fill_(3)
        layer.positions.copy_(torch.tensor([[0.25], [1], [2], [3], [-1]]))

    def close(found, expected):
        torch.testing.assert_close(found.flatten(), torch.tensor(expected).double(), atol=1e-5, rtol=0)

    image = torch.tensor([[[[1.0, 0, -1], [2, -2, 1]]]], dtype=torch.float64)
    close(torch.cat([layer.class_token, layer.patches(image).flatten()]), [3, 2.5, 0.5, -1.5, 4.5, -3.5, 2.5])
    weights = resize_positions(torch.eye(4, dtype=torch.float64), (2, 3))
    close(weights[:3, :2], [1.08681, -0.08681, 0.5, 0.5, -0.08681, 1.08681])
    close(resize_positions(layer.positions[1:], (2, 3)), [0.91319, 1.5, 2.08681, 3.34722, 1, -1.34722])
    with record():
        y = layer(image, interpolate_pos_encoding=True)
        close(y, [3.25, 3.41319, 2, 0.58681, 7.84722, -2.5, 1.15278])
        dx = layer.backward(torch.tensor([1.0, 2, -1, 0, 1, 0, 4], dtype=torch.float64).view(1, 7, 1))
    close(dx, [4, -2, 0, 2, 0, 8])
    close(layer.class_token.grad, [1])
    close(layer.positions.grad, [1, 1.67361, -0.67361, 0.73958, 4.26042])


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("patch_bias", [True, False])
@pytest.mark.parametrize("image_size", [6, 7])
def test_gradients(class_token, patch_bias, image_size):
    layer = tokens_layer(class_token=class_token, patch_bias=patch_bias, image_size=image_size)
    check_layer(layer, torch.randn(3, 2, image_size, image_size))


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_gradients_at_other_sizes(size, class_token):
    options = {"interpolate_pos_encoding": True}
    check_layer(tokens_layer(class_token=class_token), torch.randn(2, 2, *size), kwargs=options)


@pytest.mark.parametrize("grid", [(1, 1), (2, 5), (3, 3), (4, 2)])
def test_the_backward_of_positions_is_the_transposed_map(grid):
    dresized = torch.randn(grid[0] * grid[1], 4, dtype=torch.float64)
    matrix = resize_positions(torch.eye(9, dtype=torch.float64), grid)
    torch.testing.assert_close(resize_positions_backward(dresized, 9, grid), matrix.T @ dresized)


def theirs(layer, size):
    """transformers' embedding of ViT, with the weights of `layer`, and its gradients from `dy` by our names."""
    config = transformers.ViTConfig(
        image_size=size, patch_size=layer.patch_size, num_channels=layer.num_channels, hidden_size=layer.embed_dim
    )
    twin = transformers.models.vit.modeling_vit.ViTEmbeddings(config).double().eval()
    named = {
        "class_token": twin.cls_token,
        "positions": twin.position_embeddings,
        "patches.weight": twin.patch_embeddings.projection.weight,
        "patches.bias": twin.patch_embeddings.projection.bias,
    }
    for name, tensor in layer.named_parameters():
        named[name].data.copy_(tensor.data.view(named[name].shape))
    return twin, named


@pytest.mark.parametrize("image_size", [6, 7])
@pytest.mark.parametrize("size", SIZES)
def test_like_transformers(size, image_size):
    layer = tokens_layer(image_size=image_size)
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    twin, named = theirs(layer, image_size)
    wanted = x.clone().requires_grad_()
    expected = twin(wanted, interpolate_pos_encoding=True)
    dy = torch.randn_like(expected)
    expected.backward(dy)
    with record():
        torch.testing.assert_close(layer(x, interpolate_pos_encoding=True), expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(layer.backward(dy), wanted.grad, rtol=1e-12, atol=1e-12)
    for name, tensor in layer.named_parameters():
        torch.testing.assert_close(tensor.grad, named[name].grad.view(tensor.shape), rtol=1e-12, atol=1e-12)


def test_plain_pairs_give_the_same():
    layer = tokens_layer()
    x = torch.randn(2, 2, 9, 5, dtype=torch.float64)
    expected = layer(x, interpolate_pos_encoding=True)
    with plain():
        torch.testing.assert_close(layer(x, interpolate_pos_encoding=True), expected, rtol=1e-12, atol=1e-12)


def test_primitives_only_and_one_graph():
    layer = tokens_layer(dtype=torch.float32)
    x = torch.randn(2, 2, 9, 5)

    def step(x):
        with record():
            y = layer(x, interpolate_pos_encoding=True)
            return y, layer.backward(torch.ones_like(y))

    with primitives_only():
        y, dx = step(x)
    layer.zero_grad()
    found = one_graph(step)(x)
    torch.testing.assert_close(found[0], y)
    torch.testing.assert_close(found[1], dx)


def test_shapes_and_initial_weights():
    layer = ImageTokens(32, 4, 3, 200)
    assert {name: tuple(tensor.shape) for name, tensor in layer.named_parameters()} == {
        "class_token": (200,),
        "positions": (65, 200),
        "patches.weight": (200, 3, 4, 4),
        "patches.bias": (200,),
    }
    assert layer.positions.std().item() == pytest.approx(0.02, rel=0.05)
    assert layer.class_token.std().item() == pytest.approx(0.02, rel=0.3)
    assert "patches.bias" not in ImageTokens(8, 4, 3, 5, patch_bias=False).state_dict()
    again = [tokens_layer().state_dict() for _ in range(2)]
    assert all(torch.equal(again[0][name], tensor) for name, tensor in again[1].items())


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2, 2, 6, 7), {}, "6 x 7 pixels, expected 6 x 6; interpolate_pos_encoding=True"),
        ((2, 3, 6, 6), {}, r"expected \(B, 2, height, width\)"),
        ((2, 6, 6), {}, r"expected \(B, 2, height, width\)"),
        ((2, 2, 1, 6), {"interpolate_pos_encoding": True}, "no whole patch"),
    ],
)
def test_images_that_do_not_fit(shape, options, message):
    with pytest.raises(ShapeError, match=message):
        tokens_layer()(torch.zeros(shape, dtype=torch.float64), **options)


def test_pixels_in_another_dtype():
    for dtype in (torch.float32, torch.uint8):
        with pytest.raises(ShapeError, match=r"weights are in torch\.float64"):
            tokens_layer()(torch.zeros(1, 2, 6, 6, dtype=dtype))


def test_impossible_arguments():
    with pytest.raises(ValueError, match="no patch of 8 pixels fits into an image of 6"):
        ImageTokens(6, 8, 3, 5)
    with pytest.raises(TypeError, match="patch_size"):
        ImageTokens(6, 2.0, 3, 5)
    with pytest.raises(ValueError, match="embed_dim"):
        ImageTokens(6, 2, 3, 0)
