import pytest
import torch
from ds_cnn import dcgan_discriminator, dcgan_generator
from ds_cnn.gan.penalty_rules import penalised_layers
from ds_core import LayerNorm, primitives_only, record
from gan_twins import torch_twin


def sides(network, x):
    """Height of the maps after each layer with images."""
    found = []
    for layer in network:
        x = layer(x)
        if x.dim() == 4 and (not found or found[-1] != x.shape[2]):
            found.append(x.shape[2])
    return found


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (4, [1, 2, 4]),
        (8, [1, 2, 4, 8]),
        (12, [1, 3, 6, 12]),
        (28, [1, 7, 14, 28]),
        (32, [1, 4, 8, 16, 32]),
        (64, [1, 4, 8, 16, 32, 64]),
    ],
)
def test_sizes(size, expected):
    """The side is doubled up to the image's, and halved back."""
    generator, discriminator = dcgan_generator(3, 2, size, 2), dcgan_discriminator(2, size, 2)
    if expected[1] == 1:
        expected = expected[1:]
    x = torch.rand(2, 2, size, size)
    with torch.no_grad():
        smallest, doublings = expected[1], len(expected) - 2
        assert sides(generator, torch.randn(2, 3)) == ([1, *expected[1:]] if smallest > 1 else [1, *expected[2:]])
        assert sides(discriminator, x)[: doublings + 1] == expected[:0:-1][1:] + [1] * (smallest > 1)
        assert generator(torch.randn(2, 3)).shape == x.shape
        assert discriminator(x).shape == (2, 1)


def test_channels_and_layers():
    generator, discriminator = dcgan_generator(7, 3, 32, 5), dcgan_discriminator(3, 32, 5)
    kinds = [type(layer).__name__ for layer in generator]
    assert kinds == ["Unflatten", *["ConvTranspose2d", "BatchNorm2d", "ReLU"] * 3, "ConvTranspose2d", "Tanh"]
    assert [layer.out_channels for layer in generator if hasattr(layer, "out_channels")] == [20, 10, 5, 3]
    kinds = [type(layer).__name__ for layer in discriminator]
    middle = ["Conv2d", "BatchNorm2d", "LeakyReLU"] * 2
    assert kinds == ["Conv2d", "LeakyReLU", *middle, "Conv2d", "Flatten"]
    assert [layer.out_channels for layer in discriminator if hasattr(layer, "out_channels")] == [5, 10, 20, 1]
    assert [layer.bias is not None for layer in discriminator if hasattr(layer, "bias")] == [
        *[True, False, True, False, True],
        True,
    ]


def test_a_critic_has_no_norm_and_all_biases():
    critic = dcgan_discriminator(1, 8, 4, norm=None)
    assert len(penalised_layers(critic)) == 6
    assert all(layer.bias is not None for layer in critic if hasattr(layer, "bias"))
    other = dcgan_discriminator(1, 8, 4, norm=lambda channels: LayerNorm((channels, 2, 2)))
    assert type(other[3]) is LayerNorm


def test_first_weights():
    network = dcgan_generator(64, 1, 8, 64, generator=torch.Generator().manual_seed(0))
    again = dcgan_generator(64, 1, 8, 64, generator=torch.Generator().manual_seed(0))
    for name, tensor in network.named_parameters():
        assert torch.equal(tensor, dict(again.named_parameters())[name])
        if tensor.dim() == 4:
            assert float(tensor.mean()) == pytest.approx(0, abs=0.002)
            assert float(tensor.std()) == pytest.approx(0.02, rel=0.1)
        elif name.endswith("weight"):
            assert float(tensor.mean()) == pytest.approx(1, abs=0.02)
            assert float(tensor.std()) == pytest.approx(0.02, rel=0.5)
        else:
            assert not tensor.any()


@pytest.mark.parametrize("norm", [True, False])
def test_twin(norm):
    """Outputs, gradients and running statistics are those of the same layers of torch.nn; primitives only."""
    torch.manual_seed(0)
    options = {} if norm else {"norm": None}
    networks = [dcgan_generator(3, 1, 8, 2), dcgan_discriminator(1, 8, 2, **options)]
    inputs = [torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 1, 8, 8, dtype=torch.float64)]
    for network, x in zip(networks, inputs, strict=True):
        network.double()
        twin, leaf = torch_twin(network), x.clone().requires_grad_()
        expected = twin(leaf)
        dy = torch.randn_like(expected)
        expected.backward(dy)
        with record(), primitives_only():
            y = network(x)
            dx = network.backward(dy)
        torch.testing.assert_close(y, expected.detach())
        torch.testing.assert_close(dx, leaf.grad)
        found = dict(network.named_parameters())
        for name, tensor in twin.named_parameters():
            torch.testing.assert_close(found[name].grad, tensor.grad, msg=lambda text, n=name: f"{n}: {text}")
        for name, tensor in twin.state_dict().items():
            torch.testing.assert_close(network.state_dict()[name], tensor)


@pytest.mark.parametrize("size", [0, 2, 6, 7, 30])
def test_impossible_sizes(size):
    with pytest.raises(ValueError, match=rf"dcgan_generator: given image_size={size}, expected a multiple of 4"):
        dcgan_generator(3, 1, size, 2)
    with pytest.raises(ValueError, match=rf"dcgan_discriminator: given image_size={size}, expected a multiple of 4"):
        dcgan_discriminator(1, size, 2)
    with pytest.raises(ValueError, match="dcgan_generator: given width=0"):
        dcgan_generator(3, 1, 8, 0)
    with pytest.raises(ValueError, match="dcgan_discriminator: given channels=0"):
        dcgan_discriminator(0, 8, 2)
