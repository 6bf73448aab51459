"""torch.nn twins of a GAN's networks, and their training by autograd: what the tests of ds_cnn.gan compare with."""

import torch
import torch.nn.functional as F


def torch_twin(network):
    """The same layers of torch.nn with the same weights, buffers and dtype."""
    layers = []
    for layer in network:
        kind, name = getattr(torch.nn, type(layer).__name__), type(layer).__name__
        if name in ("Conv2d", "ConvTranspose2d"):
            channels, bias = (layer.in_channels, layer.out_channels), layer.bias is not None
            made = kind(*channels, layer.kernel_size, layer.stride, layer.padding, bias=bias)
        elif name == "Linear":
            made = kind(layer.in_features, layer.out_features)
        elif name == "BatchNorm2d":
            made = kind(layer.num_features)
        elif name == "LeakyReLU":
            made = kind(layer.negative_slope)
        elif name == "Unflatten":
            made = kind(layer.dim, layer.unflattened_size)
        else:
            made = kind()
        layers.append(made)
    twin = torch.nn.Sequential(*layers).to(next(iter(network.parameters())).dtype)
    twin.load_state_dict(network.state_dict())
    return twin


def discriminator_step(generator, discriminator, optimizer, noise, real):
    """One step of DCGAN's discriminator, as anybody writes it in PyTorch. Returns the loss."""
    optimizer.zero_grad()
    f_real, f_fake = discriminator(real), discriminator(generator(noise).detach())
    loss = F.binary_cross_entropy_with_logits(f_real, torch.ones_like(f_real))
    loss = loss + F.binary_cross_entropy_with_logits(f_fake, torch.zeros_like(f_fake))
    loss.backward()
    optimizer.step()
    return loss.item()


def generator_step(generator, discriminator, optimizer, noise, wasserstein=False):
    optimizer.zero_grad()
    f_fake = discriminator(generator(noise))
    loss = -f_fake.mean() if wasserstein else F.binary_cross_entropy_with_logits(f_fake, torch.ones_like(f_fake))
    loss.backward()
    optimizer.step()
    return loss.item()


def critic_step(generator, critic, optimizer, noise, real, mix, penalty_weight):
    """One step of WGAN-GP's critic; the penalty by autograd's double backward. Returns the loss."""
    optimizer.zero_grad()
    fake = generator(noise).detach()
    loss = critic(fake).mean() - critic(real).mean()
    between = (mix * real + (1 - mix) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    loss = loss + penalty_weight * ((gradient.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
    loss.backward()
    optimizer.step()
    return loss.item()
