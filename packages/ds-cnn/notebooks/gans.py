# %% [markdown]
# # Two networks that teach each other
#
# A generator draws digits from noise. A discriminator says whether a digit is real or drawn. Each learns from the
# other, and every gradient on the way is written by hand. Then comes the critic of WGAN-GP, whose loss asks for a
# gradient of a gradient, and that is written by hand as well.

# %%
import os

import torch
from ds_cnn import (
    GAN,
    GANBatches,
    GradientPenalty,
    NonSaturatingLoss,
    WassersteinGAN,
    WassersteinLoss,
    dcgan_discriminator,
    dcgan_generator,
    image_grid,
)
from ds_core import Adam, LeakyReLU, Linear, Sequential, Trainer, predict, record
from ds_core.data import load
from matplotlib import pyplot as plt

torch.manual_seed(0)
SHORTER = 20 if os.environ.get("DS_FAST") else 1
digits = load("digits")
images = digits.train.tensors[0] * 2 - 1  # (1437, 1, 8, 8), from -1 to 1 as the generator draws them
print(tuple(images.shape), float(images.min()), float(images.max()))


def show(axis, pictures, title, columns=8):
    axis.imshow(image_grid((pictures + 1) / 2, columns, background=0.3)[0], cmap="gray", vmin=0, vmax=1)
    axis.set_title(title)
    axis.axis("off")


# %% [markdown]
# ## The networks
#
# The generator doubles a small map by transposed convolutions until it is an image; the discriminator halves an image
# by strided convolutions until it is one number.

# %%
generator = dcgan_generator(latent_size=16, channels=1, image_size=8, width=32)
discriminator = dcgan_discriminator(channels=1, image_size=8, width=32)
print(generator)
print(discriminator)

# %% [markdown]
# ## A gradient through the discriminator into the generator
#
# The generator never sees a real digit. All it learns is in the gradient of the discriminator by the *image*: which
# pixels should be brighter or darker for the image to look more real. In the generator's turn that gradient goes on
# into the generator, and the discriminator's own parameters get none.

# %%
gan = GAN(generator, discriminator)
loss = NonSaturatingLoss()
noise = torch.randn(64, 16)
with record():
    f_fake = gan(noise)
    value = loss(f_fake, torch.ones_like(f_fake))  # the generator wants its images to be taken for real
    gan.backward(loss.backward(), input_gradient=False)
print(f"the generator's loss: {float(value):.4f}")
print("gradients in the discriminator:", sum(p.grad is not None for p in discriminator.parameters()))
print("gradients in the generator:   ", sum(p.grad is not None for p in generator.parameters()))

# %% [markdown]
# Autograd, which differentiates the same forward, finds the same numbers.

# %%
by_hand = [p.grad.clone() for p in generator.parameters()]
gan.zero_grad()
f_fake = gan(noise)
loss(f_fake, torch.ones_like(f_fake)).backward()
pairs = zip(by_hand, (p.grad for p in generator.parameters()), strict=True)
print("largest difference:", max(float((a - b).abs().max()) for a, b in pairs))
gan.zero_grad()

# %% [markdown]
# ## Training
#
# There is one training loop, the `Trainer`. Whose turn it is is decided by the batch: real images and noise for the
# discriminator, noise alone for the generator, in turns. One Adam moves both, because it skips parameters without a
# gradient.

# %%
batches = GANBatches(images, batch_size=64, latent_size=16, real_label=0.9, seed=0)
for index in range(4):
    inputs, _ = batches.batch(index)
    shapes = [tuple(t.shape) for t in inputs] if isinstance(inputs, tuple) else tuple(inputs.shape)
    print(index, "generator:    " if batches.is_generators(index) else "discriminator:", shapes)


# %%
def trained(gan, criterion, batches, rounds, lr, betas):
    """Train, and look at the same noise four times."""
    groups = [{"params": list(player.parameters()), "lr": lr} for player in (gan.discriminator, gan.generator)]
    trainer = Trainer(gan, criterion, Adam(groups, betas=betas), progress=False)
    steps = batches.discriminator_steps + 1
    fixed = torch.randn(32, batches.latent_size, generator=torch.Generator().manual_seed(7))
    seen = []
    for part in (rounds // 20, rounds // 5, rounds // 2, rounds):
        trainer.fit(batches, part * steps)
        seen.append((part, predict(gan.generator, [fixed])))
    return trainer.history.training, seen


history, seen = trained(gan, loss, batches, 800 // SHORTER, 1e-3, (0.5, 0.99))
figure, axes = plt.subplots(1, 5, figsize=(15, 2.3))
for axis, (rounds, pictures) in zip(axes, seen, strict=False):
    show(axis, pictures, f"after {rounds} rounds")
show(axes[4], images[:32], "real digits")
figure.tight_layout()


# %%
def plot_losses(history, batches, names):
    _, axis = plt.subplots(figsize=(8, 3))
    for name, turn in zip(names, (False, True), strict=True):
        points = [(r["step"], r["loss"]) for r in history if batches.is_generators(r["step"] - 1) is turn]
        axis.plot(*zip(*points, strict=True), label=name, linewidth=0.8)
    axis.set(xlabel="step", ylabel="loss")
    axis.legend()


plot_losses(history, batches, ("discriminator", "generator"))

# %% [markdown]
# Neither loss goes to zero, and neither says how good the images are: each is measured against an opponent that
# learns, too.

# %% [markdown]
# ## A gradient of a gradient
#
# WGAN-GP replaces the discriminator by a critic whose slope should be 1: at points between real and drawn images, the
# length of its gradient by the image is to be 1, and the penalty is (length - 1)^2. To learn from that, we need the
# gradient of a gradient. The example of `docs/gradient_penalty.md`: the critic's gradient by x is (3, 4), its length
# is 5, the penalty 16.

# %%
critic = Sequential(Linear(2, 2), LeakyReLU(0.5), Linear(2, 1)).double()
values = [[[1, 2], [2, 2]], [0, -5], [[1, 2]], [0]]
for tensor, numbers in zip(critic.parameters(), values, strict=True):
    tensor.data.copy_(torch.tensor(numbers))
x = torch.tensor([[1.0, 1.0]], dtype=torch.float64)

penalty = GradientPenalty(critic)
with record():
    rows = penalty(x)
    penalty.backward(torch.ones_like(rows))
print("penalty:", rows.tolist())
for name, tensor in critic.named_parameters():
    print(f"gradient of {name}: {None if tensor.grad is None else tensor.grad.tolist()}")

# %% [markdown]
# Biases have none: they move the critic up and down and leave its slope alone. PyTorch gets the same from
# `create_graph=True`, by differentiating its own backward pass. Ours is one more pass *forward* through the layers.

# %%
leaf = x.clone().requires_grad_()
(slope,) = torch.autograd.grad(critic(leaf).sum(), leaf, create_graph=True)
autograd = torch.autograd.grad(((slope.norm(2, dim=1) - 1) ** 2).sum(), [critic[0].weight, critic[2].weight])
print([gradient.tolist() for gradient in autograd])

# %% [markdown]
# ## WGAN-GP on digits
#
# Three steps of the critic to one of the generator, no batch norm in the critic.

# %%
torch.manual_seed(1)
wgan = WassersteinGAN(
    dcgan_generator(latent_size=16, channels=1, image_size=8, width=32),
    dcgan_discriminator(channels=1, image_size=8, width=32, norm=None),
)
batches = GANBatches(images, batch_size=64, latent_size=16, discriminator_steps=3, mix=True, seed=1)
history, seen = trained(wgan, WassersteinLoss(penalty_weight=10), batches, 500 // SHORTER, 1e-3, (0.0, 0.9))
figure, axes = plt.subplots(1, 4, figsize=(13, 2.5))
for axis, (rounds, pictures) in zip(axes, seen, strict=True):
    show(axis, pictures, f"after {rounds} rounds")
figure.tight_layout()

# %%
plot_losses(history, batches, ("critic", "generator"))

# %% [markdown]
# The critic's loss means something here: up to the penalty it is minus the distance between real and drawn images,
# and it goes to zero while the images get better.
#
# ## A walk through the noise
#
# Neighbouring noise makes neighbouring images. Each row goes along an arc from one random point to another.

# %%
ends = torch.randn(4, 2, 1, 16, generator=torch.Generator().manual_seed(3))
angle = torch.linspace(0, torch.pi / 2, 10).view(1, 10, 1)
walk = torch.cos(angle) * ends[:, 0] + torch.sin(angle) * ends[:, 1]
figure, axis = plt.subplots(figsize=(8, 3.3))
show(axis, predict(wgan.generator, [walk.view(-1, 16)]), "from one digit to another", columns=10)

# %% [markdown]
# The recipes do all of this with one command, and let a classifier judge the samples: `ds train dcgan`, `ds train
# wgan`, and then `ds generate runs/dcgan --count 64 --out drawn.png`.
