# %% [markdown]
# # Initialisation: signals that vanish, signals that explode
#
# A network of 30 layers multiplies 30 matrices. If each makes the signal a little smaller nothing arrives; if each
# makes it a little larger it overflows. So what the weights are *before* training decides whether there will be any.

# %%
import math

import torch
from ds_core import SELU, Linear, ReLU, Sequential, Tanh, record
from ds_core.initializers import kaiming_normal_, lecun_normal_, normal_, xavier_normal_
from matplotlib import pyplot as plt

WIDTH, DEPTH, ROWS = 256, 30, 512

# %% [markdown]
# ## One layer
#
# $y_o = \sum_{i=1}^{I} w_{oi} x_i$ is a sum of $I$ products. With weights that are independent of the inputs and of
# mean 0, variances add up:
#
# $$\operatorname{Var}(y_o) = I \operatorname{Var}(w)\, \mathbb{E}[x_i^2] .$$
#
# It stays what it is if $\operatorname{Var}(w) = 1 / I$. Is that so?

# %%
torch.manual_seed(0)
x = torch.randn(ROWS, WIDTH)
for variance in (0.5 / WIDTH, 1 / WIDTH, 2 / WIDTH):
    w = math.sqrt(variance) * torch.randn(WIDTH, WIDTH)
    print(f"Var(w) = {variance * WIDTH:.1f} / I: variance {float(x.var()):.3f} -> {float((x @ w.T).var()):.3f}")

# %% [markdown]
# ## Thirty layers
#
# ReLU sets half of the numbers to zero, and with them half of $\mathbb{E}[x^2]$: its weights need the variance $2 / I$
# (He et al., 2015). tanh is nearly the identity for small inputs: $1 / I$, or Glorot and Bengio's (2010) $2 / (I + O)$,
# which is between what the forward and the backward pass would like. SELU with $1 / I$ pulls mean and variance towards
# 0 and 1 by itself (Klambauer et al., 2017).
#
# The second moment of the signal after each layer, and that of the gradient on the way back:

# %%
STARTS = {
    "ReLU, 0.01 for all": (ReLU, lambda weight: normal_(weight, std=0.01)),
    "ReLU, 0.1 for all": (ReLU, lambda weight: normal_(weight, std=0.1)),
    "ReLU, 2 / (I + O)": (ReLU, xavier_normal_),
    "ReLU, 2 / I": (ReLU, lambda weight: kaiming_normal_(weight, nonlinearity="relu")),
    "tanh, 2 / (I + O)": (Tanh, xavier_normal_),
    "SELU, 1 / I": (SELU, lecun_normal_),
}


def signals(activation, start):
    """The second moments of the signal after each layer, and of its gradient, first layer first."""
    torch.manual_seed(1)
    layers = []
    for _ in range(DEPTH):
        linear = Linear(WIDTH, WIDTH, bias=False)
        start(linear.weight)
        layers += [linear, activation()]
    forward, backward = [], []
    with record():
        y = x
        for layer in layers:
            y = layer(y)
            if isinstance(layer, activation):
                forward.append(float((y.double() ** 2).mean()))
        dy = torch.randn(ROWS, WIDTH)
        for layer in reversed(layers):
            if isinstance(layer, activation):
                backward.append(float((dy.double() ** 2).mean()))
            dy = layer.backward(dy)
    return forward, backward[::-1]


figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
for name, (activation, start) in STARTS.items():
    forward, backward = signals(activation, start)
    left.semilogy(range(1, DEPTH + 1), forward, label=name)
    right.semilogy(range(1, DEPTH + 1), backward, label=name)
    print(f"{name:20} signal after layer {DEPTH}: {forward[-1]:8.1e}   gradient at layer 1: {backward[0]:8.1e}")
left.set(xlabel="layer", ylabel="mean square", title="the signal, forward")
right.set(xlabel="layer", ylabel="mean square", title="its gradient, backward")
left.legend(fontsize="small")
plt.show()

# %% [markdown]
# With 0.01 nothing arrives, with 0.1 it explodes by a factor of $256 \cdot 0.1^2 / 2 = 1.28$ a layer, which is
# $1.28^{30} \approx 1{,}600$; Glorot's start loses half a layer under ReLU, $2^{-30} \approx 10^{-9}$. He's keeps both
# directions, for this square network, at once.
#
# ## Does it matter for training?
#
# Ten steps of the same optimizer on the same data, from each start.

# %%
from ds_core import SGD, CrossEntropyLoss

target = torch.randint(10, (ROWS,), generator=torch.Generator().manual_seed(2))
for name, (activation, start) in STARTS.items():
    torch.manual_seed(1)
    layers = []
    for _ in range(DEPTH):
        linear = Linear(WIDTH, WIDTH)
        start(linear.weight)
        linear.bias.data.zero_()
        layers += [linear, activation()]
    model, criterion = Sequential(*layers, Linear(WIDTH, 10)), CrossEntropyLoss()
    optimizer = SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(10):
        with record():
            losses.append(float(criterion(model(x), target)))
            model.backward(criterion.backward(), input_gradient=False)
        optimizer.step()
        optimizer.zero_grad()
    print(f"{name:20} loss {losses[0]:8.3f} -> {losses[-1]:8.3f}")
