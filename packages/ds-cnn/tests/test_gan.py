import pytest
import torch
from ds_cnn import (
    GAN,
    Conv2d,
    GANBatches,
    NonSaturatingLoss,
    WassersteinGAN,
    WassersteinLoss,
    dcgan_discriminator,
    dcgan_generator,
)
from ds_core import (
    Adam,
    BatchNorm1d,
    Flatten,
    LeakyReLU,
    Linear,
    Sequential,
    Tanh,
    Trainer,
    Unflatten,
    record,
    whole_step,
)
from ds_core.testing import check_layer, one_graph
from gan_twins import critic_step, discriminator_step, generator_step, torch_twin

ONES, ZEROS = torch.ones(4, 1), torch.zeros(4, 1)


def small_gan(kind, norm=True, seed=0):
    """Images of 2 x 2; small enough for finite differences and the compiler."""
    torch.manual_seed(seed)
    between = [BatchNorm1d(3)] if norm else []
    return kind(
        Sequential(Linear(3, 4), *([BatchNorm1d(4)] if norm else []), Unflatten(1, (1, 2, 2)), Tanh()),
        Sequential(Flatten(), Linear(4, 3), *between, LeakyReLU(0.2), Linear(3, 1)),
    )


def trained_by(gan, optimizer, loss, batches):
    """The losses of whole steps."""
    step = whole_step(gan, loss, optimizer)
    return [step([batch])[0].item() for batch in batches]


def players(gan, lr_discriminator=2e-3, lr_generator=1e-3, betas=(0.5, 0.9)):
    groups = [
        {"params": list(gan.discriminator.parameters()), "lr": lr_discriminator},
        {"params": list(gan.generator.parameters()), "lr": lr_generator},
    ]
    return Adam(groups, betas=betas)


def test_the_generators_turn():
    """The gradient goes through the discriminator; its own parameters would only get what nobody asked for."""
    gan = small_gan(GAN)
    gan.discriminator.requires_grad_(False)  # finite differences would see them
    check_layer(gan, torch.randn(4, 3), batch_dim=None, samples=4)


def test_worked_example():
    gan = GAN(Sequential(Linear(1, 1, bias=False)), Sequential(Linear(1, 1, bias=False)))
    with torch.no_grad():
        gan.generator[0].weight.fill_(2.0)
        gan.discriminator[0].weight.fill_(3.0)
    with record():
        assert gan(torch.tensor([[0.5]])).item() == pytest.approx(3.0)
        dnoise = gan.backward(torch.tensor([[0.1]]))
    assert dnoise.item() == pytest.approx(2 * 0.3)
    assert gan.generator[0].weight.grad.item() == pytest.approx(0.15)
    assert gan.discriminator[0].weight.grad is None


@pytest.mark.parametrize("kind", [GAN, WassersteinGAN])
def test_the_discriminators_turn(kind):
    """Called twice, with inputs that differ: batch norm sees real and generated images each by themselves."""
    gan = small_gan(kind, norm=kind is GAN)
    gan.generator.requires_grad_(False)
    third = () if kind is GAN else (torch.rand(4, 1, 1, 1),)
    constants = (0, 2)[: 1 + len(third)]
    given = (torch.randn(4, 3), torch.randn(4, 1, 2, 2), *third)
    check_layer(gan, *given, constants=constants, batch_dim=None, samples=4)


@pytest.mark.parametrize("kind", [GAN, WassersteinGAN])
def test_only_the_player_whose_turn_it_is_gets_gradients(kind):
    gan = small_gan(kind, norm=False)
    noise, real = torch.randn(4, 3), torch.randn(4, 1, 2, 2)
    before = [parameter.requires_grad for parameter in gan.parameters()]
    with record():
        f_fake = gan(noise)
        gan.backward(torch.ones_like(f_fake))
    assert all(parameter.grad is None for parameter in gan.discriminator.parameters())
    assert all(parameter.grad is not None for parameter in gan.generator.parameters())
    own = list(gan.parameters())
    gan.zero_grad()
    with record():
        outputs = gan(noise, real, *([torch.rand(4, 1, 1, 1)] if kind is WassersteinGAN else []))
        gan.backward(*map(torch.ones_like, outputs), input_gradient=False)
    assert all(parameter.grad is None for parameter in gan.generator.parameters())
    assert all(parameter.grad is not None for parameter in gan.discriminator.parameters())
    assert [parameter.requires_grad for parameter in gan.parameters()] == before
    assert all(now is then for now, then in zip(gan.parameters(), own, strict=True))


def test_the_parameters_are_back_if_the_discriminator_raises():
    gan = small_gan(GAN, norm=False)
    own = list(gan.discriminator.parameters())
    with pytest.raises(RuntimeError):
        gan.discriminator.append(Linear(7, 1))(torch.randn(4, 1, 2, 2))
    with pytest.raises(RuntimeError):
        gan(torch.randn(4, 3))
    assert all(now is then for now, then in zip(gan.discriminator.parameters(), own, strict=False))
    assert all(parameter.requires_grad for parameter in gan.discriminator.parameters())


def test_dcgan_follows_pytorch_for_ten_steps_of_both():
    gan = GAN(
        dcgan_generator(5, 1, 8, 3, generator=torch.Generator().manual_seed(0)),
        dcgan_discriminator(1, 8, 3, generator=torch.Generator().manual_seed(1)),
    ).double()
    generator, discriminator = torch_twin(gan.generator), torch_twin(gan.discriminator)
    of_discriminator = torch.optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.9))
    of_generator = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.9))
    images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 2 - 1
    batches = GANBatches(images, 6, 5, seed=3)
    drawn = [batches.batch(index) for index in range(20)]
    losses = trained_by(gan, players(gan), NonSaturatingLoss(), drawn)
    expected = []
    for inputs, _ in drawn:
        if isinstance(inputs, tuple):
            expected.append(discriminator_step(generator, discriminator, of_discriminator, *inputs))
        else:
            expected.append(generator_step(generator, discriminator, of_generator, inputs))
    assert losses == pytest.approx(expected, abs=1e-8)
    assert_equal_states(gan.generator, generator)
    assert_equal_states(gan.discriminator, discriminator)
    assert gan.generator.state_dict()["2.num_batches_tracked"] == 20
    assert gan.discriminator.state_dict()["3.num_batches_tracked"] == 30  # two in a turn of its own, one in the other


def test_wgan_follows_pytorch_for_ten_steps_of_both():
    gan = WassersteinGAN(
        dcgan_generator(5, 1, 8, 3, generator=torch.Generator().manual_seed(0)),
        dcgan_discriminator(1, 8, 3, norm=None, generator=torch.Generator().manual_seed(1)),
    ).double()
    generator, critic = torch_twin(gan.generator), torch_twin(gan.discriminator)
    of_critic = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.5, 0.9))
    of_generator = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.9))
    images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 2 - 1
    batches = GANBatches(images, 6, 5, discriminator_steps=3, mix=True, seed=3)
    drawn = [batches.batch(index) for index in range(40)]
    losses = trained_by(gan, players(gan), WassersteinLoss(10.0), drawn)
    expected = []
    for inputs, _ in drawn:
        if isinstance(inputs, tuple):
            expected.append(critic_step(generator, critic, of_critic, *inputs, 10.0))
        else:
            expected.append(generator_step(generator, critic, of_generator, inputs, wasserstein=True))
    assert losses == pytest.approx(expected, abs=1e-8)
    assert_equal_states(gan.generator, generator)
    assert_equal_states(gan.discriminator, critic)


def assert_equal_states(network, twin):
    """Weights, biases and running statistics."""
    expected = twin.state_dict()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-8)


@pytest.mark.parametrize("flat", [True, False])
def test_adam_skips_the_player_whose_turn_it_is_not(flat):
    """Each player's count of steps is its own, and so is its bias correction."""
    gan = small_gan(GAN, norm=False)
    optimizer = Adam(
        [{"params": list(gan.discriminator.parameters())}, {"params": list(gan.generator.parameters()), "lr": 0.1}],
        flat=flat,
    )
    noise, real = torch.randn(4, 3), torch.randn(4, 1, 2, 2)
    turns = [((noise, real), (ONES, ZEROS)), ((noise, real), (ONES, ZEROS)), (noise, ONES)] * 2
    for number, turn in enumerate(turns):
        before = [parameter.detach().clone() for parameter in gan.generator.parameters()]
        trained_by(gan, optimizer, NonSaturatingLoss(), [turn])
        moved = [not torch.equal(*pair) for pair in zip(gan.generator.parameters(), before, strict=True)]
        assert any(moved) == (number % 3 == 2)
    steps = [{optimizer.state[p]["step"].item() for p in group["params"]} for group in optimizer.param_groups]
    assert steps == [{4.0}, {2.0}]


def test_compiles_whole():
    """One graph for each turn, discriminator frozen and penalty included."""
    gan = small_gan(WassersteinGAN, norm=False)
    noise, real, mix = torch.randn(4, 3), torch.randn(4, 1, 2, 2), torch.rand(4, 1, 1, 1)

    def step(*inputs):
        with record():
            outputs = gan(*inputs)
            gan.backward(*(outputs if isinstance(outputs, tuple) else (outputs,)), input_gradient=False)
        return outputs

    compiled = one_graph(step, graphs=2)
    for inputs in ((noise, real, mix), (noise,), (noise, real, mix), (noise,)):
        found = []
        for run in (step, compiled):
            gan.zero_grad()
            found.append((run(*inputs), [parameter.grad for parameter in gan.parameters()]))
        assert [g is None for g in found[1][1]] == [g is None for g in found[0][1]]
        torch.testing.assert_close(found[1][0], found[0][0])
        pairs = zip(found[1][1], found[0][1], strict=True)
        for gradient, expected in pairs:
            if expected is not None:
                torch.testing.assert_close(gradient, expected)


def test_the_trainer_resumes_in_the_middle_of_a_round(tmp_path):
    images = torch.rand(12, 1, 2, 2, generator=torch.Generator().manual_seed(1))

    def trainer(folder):
        gan = small_gan(GAN)
        return Trainer(gan, NonSaturatingLoss(), players(gan), folder=folder, progress=False)

    def batches():
        return GANBatches(images, 4, 3, discriminator_steps=2, seed=5)

    whole = trainer(tmp_path / "whole")
    whole.fit(batches(), 10)
    trainer(tmp_path / "parts").fit(batches(), 4)  # amid the second round
    rest = trainer(tmp_path / "parts")
    rest.resume()
    rest.fit(batches(), 10)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, rest.model.state_dict()[name]), name


def test_a_critic_with_batch_norm_is_refused():
    with pytest.raises(TypeError, match=r"gradient penalty: the critic holds BatchNorm2d.*mixes the rows"):
        WassersteinGAN(dcgan_generator(5, 1, 8, 2), dcgan_discriminator(1, 8, 2))


def test_batches_are_a_function_of_seed_and_index():
    images = torch.arange(10.0).view(10, 1, 1, 1)
    batches = GANBatches(images, 3, 2, discriminator_steps=2, mix=True, real_label=0.9, seed=4)
    whose = [batches.is_generators(index) for index in range(7)]
    assert whose == [False, False, True, False, False, True, False]
    again = GANBatches(images, 3, 2, discriminator_steps=2, mix=True, real_label=0.9, seed=4)
    for index in (5, 0, 7, 3, 0):
        torch.testing.assert_close(batches.batch(index), again.batch(index), rtol=0, atol=0)
    (noise, real, mix), (ones, zeros) = batches.batch(0)
    assert (noise.shape, real.shape, mix.shape) == ((3, 2), (3, 1, 1, 1), (3, 1, 1, 1))
    assert torch.equal(ones, torch.full((3, 1), 0.9))
    assert torch.equal(zeros, torch.zeros(3, 1))
    noise, ones = batches.batch(2)
    assert torch.equal(ones, torch.ones(3, 1))
    # three batches of three in an epoch: the numbers of the discriminator's turns 0, 1 and 2
    seen = torch.cat([batches.batch(index)[0][1] for index in (0, 1, 3)]).flatten()
    assert len(set(seen.tolist())) == 9
    noises = [batches.batch(index)[0] for index in range(6)]
    noises = [inputs[0] if isinstance(inputs, tuple) else inputs for inputs in noises]
    assert len({tuple(noise.flatten().tolist()) for noise in noises}) == 6
    other = GANBatches(images, 3, 2, seed=5)
    assert not torch.equal(other.batch(0)[0][0], batches.batch(0)[0][0])


def test_bad_batches():
    images = torch.zeros(4, 1, 2, 2)
    with pytest.raises(ValueError, match="discriminator_steps=0"):
        GANBatches(images, 2, 3, discriminator_steps=0)
    with pytest.raises(ValueError, match="latent_size=0"):
        GANBatches(images, 2, 0)
    with pytest.raises(ValueError, match="batch_size=5"):
        GANBatches(images, 5, 3)


def test_a_convolutional_critic_in_its_turn():
    """The penalty's strided convolutions inside the whole model, against autograd of our forward."""
    torch.manual_seed(0)
    gan = WassersteinGAN(
        Sequential(Linear(2, 9), Unflatten(1, (1, 3, 3)), Tanh()),
        Sequential(Conv2d(1, 2, 2, 2, 1), LeakyReLU(0.2), Flatten(), Linear(8, 1)),
    ).double()
    given = [torch.randn(2, 2), torch.randn(2, 1, 3, 3), torch.rand(2, 1, 1, 1)]
    given = [tensor.double() for tensor in given]
    labels = (torch.ones(2, 1).double(), torch.zeros(2, 1).double())
    loss = WassersteinLoss()
    loss(gan(*given), labels).backward()
    expected = {name: p.grad for name, p in gan.named_parameters() if p.grad is not None}
    gan.zero_grad()
    with record():
        loss(gan(*given), labels)
        gan.backward(*loss.backward(), input_gradient=False)
    found = {name: p.grad for name, p in gan.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    assert all(name.startswith("discriminator.") for name in found)
    torch.testing.assert_close(found, expected)
