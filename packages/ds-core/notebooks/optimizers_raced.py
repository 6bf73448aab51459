# %% [markdown]
# # Optimizers raced on one landscape
#
# Two parameters, so that every step can be seen. A valley that is a hundred times steeper across than along is what
# plain gradient descent is worst at; each optimizer has its own answer.

# %%
import torch
from ds_core import SGD, Adagrad, Adam, Lion, RMSprop, parameter
from matplotlib import pyplot as plt

STEPS = 150
START = torch.tensor([-4.03, 0.617], dtype=torch.float64)

# %% [markdown]
# ## The landscape
#
# $$f(a, b) = \tfrac12 (a^2 + 100\, b^2), \qquad \nabla f = (a,\; 100\, b)$$
#
# Gradient descent with step $\eta$ multiplies $a$ by $1 - \eta$ and $b$ by $1 - 100 \eta$ at every step. Beyond $\eta =
# 0.02$ the second grows without bound, and below it the first shrinks by less than 2 % a step: the steepest direction
# sets the speed of all.


# %%
def f(place):
    return 0.5 * (place[0] ** 2 + 100 * place[1] ** 2)


def gradient(place):
    return torch.stack([place[0], 100 * place[1]])


def race(make, steps=STEPS):
    """The places an optimizer goes through, (steps + 1, 2)."""
    place = parameter(START.clone())
    optimizer = make([place])
    path = [place.detach().clone()]
    for _ in range(steps):
        place.grad = gradient(place.detach())
        optimizer.step()
        path.append(place.detach().clone())
    return torch.stack(path)


# %% [markdown]
# Every optimizer gets the learning rate, out of a grid, with which it ends lowest. That is what a race is about: with
# *one* learning rate for all, only one of them would be at home.

# %%
RUNNERS = {
    "SGD": lambda params, lr: SGD(params, lr=lr),
    "momentum 0.9": lambda params, lr: SGD(params, lr=lr, momentum=0.9),
    "Nesterov 0.9": lambda params, lr: SGD(params, lr=lr, momentum=0.9, nesterov=True),
    "Adagrad": lambda params, lr: Adagrad(params, lr=lr),
    "RMSprop": lambda params, lr: RMSprop(params, lr=lr),
    "Adam": lambda params, lr: Adam(params, lr=lr),
    "Lion": lambda params, lr: Lion(params, lr=lr),
}
GRID = [10**exponent for exponent in (-3, -2.5, -2.2, -2, -1.8, -1.7, -1.5, -1, -0.5, 0, 0.5)]

paths, rates = {}, {}
for name, make in RUNNERS.items():
    tried = {lr: race(lambda params, lr=lr, make=make: make(params, lr)) for lr in GRID}
    heights = {lr: float(f(path[-1])) for lr, path in tried.items() if torch.isfinite(path).all()}
    rates[name] = min(heights, key=heights.get)
    paths[name] = tried[rates[name]]
    print(f"{name:13} best learning rate {rates[name]:8.4f}, ends at f = {heights[rates[name]]:.2e}")

# %%
a, b = torch.meshgrid(torch.arange(-4.5, 4.5, 0.05), torch.arange(-0.9, 0.9, 0.01), indexing="xy")
levels = [0.05, 0.3, 1, 3, 8, 18, 36]
figure, places = plt.subplots(2, 4, figsize=(13, 5), sharex=True, sharey=True, layout="constrained")
for axes, (name, path) in zip(places.flat, paths.items(), strict=False):
    axes.contour(a, b, 0.5 * (a**2 + 100 * b**2), levels=levels, colors="gray", linewidths=0.5)
    axes.plot(path[:60, 0], path[:60, 1], marker="o", markersize=2.5, linewidth=0.8)
    axes.set(title=f"{name}, lr {rates[name]:.3g}", xlim=(-4.5, 4.5), ylim=(-0.9, 0.9))
places.flat[-1].axis("off")
plt.show()

# %%
plt.figure(figsize=(7.5, 4))
for name, path in paths.items():
    plt.semilogy([max(float(f(place)), 1e-16) for place in path], label=name)
plt.xlabel("step")
plt.ylabel("f")
plt.legend(fontsize="small", ncols=2)
plt.show()

# %% [markdown]
# - **SGD** is as fast as the steepest direction lets it.
# - **Momentum** sums gradients: those across the valley take turns in sign and cancel, those along it add up. For a
#   quadratic with curvatures 1 and 100 the best momentum brings the rate from $99/101$ a step to $9/11$ (Polyak, 1964).
# - **Adagrad, RMSprop, Adam** divide each coordinate by the size of its own gradients, so the valley is as wide as it
#   is long, and a learning rate as large as the valley leads straight down.
# - **Lion** takes the sign: a step of the same length whatever the gradient is. It walks fast and cannot stand still:
#   without a schedule it ends by jumping around the lowest place.
#
# ## What rotation does
#
# Dividing coordinate by coordinate helps because the valley runs *along a coordinate*. Turned by 45 degrees it does
# not: Adagrad, RMSprop and Lion lose most of what they had, Adam keeps what its momentum gives, while SGD and momentum
# go the same way as before, turned.

# %%
TURN = torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=torch.float64) / 2**0.5


def race_turned(make, steps=STEPS):
    place = parameter(TURN @ START)
    optimizer = make([place])
    path = [place.detach().clone()]
    for _ in range(steps):
        place.grad = TURN @ gradient(TURN.T @ place.detach())
        optimizer.step()
        path.append(place.detach().clone())
    return torch.stack(path) @ TURN  # seen along and across the valley


for name, make in RUNNERS.items():
    turned = {lr: race_turned(lambda params, lr=lr, make=make: make(params, lr)) for lr in GRID}
    ends = [float(f(path[-1])) for path in turned.values() if torch.isfinite(path).all()]
    print(f"{name:13} along a coordinate {float(f(paths[name][-1])):9.2e}   turned {min(ends):9.2e}")
