# %% [markdown]
# # The first gradient
#
# A network of two layers, its gradients worked out by hand and held against PyTorch's autograd, tensor by tensor. Then
# the same network built of ds-core's layers, which contain the very lines that we write here.

# %%
import torch
from ds_core import Linear, Module, ReLU, Sequential, record
from ds_core.testing import check_layer
from matplotlib import pyplot as plt

torch.manual_seed(0)
N = 6  # rows; each has 3 inputs, 5 hidden units, 2 outputs

x = torch.randn(N, 3)
target = torch.randn(N, 2)
w1, b1 = 0.5 * torch.randn(5, 3), torch.zeros(5)
w2, b2 = 0.5 * torch.randn(2, 5), torch.zeros(2)

# %% [markdown]
# ## Forward
#
# $$h = x W_1^\top + b_1, \qquad a = \max(h, 0), \qquad y = a W_2^\top + b_2, \qquad
# L = \frac{1}{2N} \sum_{no} (y_{no} - t_{no})^2$$

# %%
h = x @ w1.T + b1  # (N, 5)
a = torch.clamp(h, min=0)  # (N, 5)
y = a @ w2.T + b2  # (N, 2)
loss = ((y - target) ** 2).sum() / (2 * N)
print(f"loss {loss:.6f}")

# %% [markdown]
# ## Backward
#
# From the last line to the first. Write $dv$ for $\partial L / \partial v$. Each line needs only the $d$ of the line
# after it, and some values of the forward pass.
#
# The loss: $dy_{no} = (y_{no} - t_{no}) / N$, for the 2 of the square takes away the 2 of the denominator.

# %%
dy = (y - target) / N  # (N, 2)

# %% [markdown]
# The second layer. $y_{no} = \sum_h a_{nh} W_{2,oh} + b_{2,o}$. The weight $W_{2,oh}$ is used in every row $n$, each
# time multiplied with $a_{nh}$; so is the bias, multiplied with 1. The unit $a_{nh}$ is used in every output $o$,
# multiplied with $W_{2,oh}$:
#
# $$dW_{2,oh} = \sum_n dy_{no} a_{nh}, \qquad db_{2,o} = \sum_n dy_{no}, \qquad da_{nh} = \sum_o dy_{no} W_{2,oh}$$

# %%
dw2 = dy.T @ a  # (2, 5)
db2 = dy.sum(0)  # (2,)
da = dy @ w2  # (N, 5)

# %% [markdown]
# The nonlinearity: $a$ follows $h$ at rate 1 where $h > 0$ and does not move elsewhere.

# %%
dh = da * (h > 0)  # (N, 5)

# %% [markdown]
# The first layer is the second one again, with other letters.

# %%
dw1 = dh.T @ x  # (5, 3)
db1 = dh.sum(0)  # (5,)
dx = dh @ w1  # (N, 3)

# %% [markdown]
# ## Is it right? Autograd, tensor by tensor
#
# PyTorch gets the same forward and keeps the gradient of every tensor on the way.

# %%
given = {"x": x, "w1": w1, "b1": b1, "w2": w2, "b2": b2}
leaves = {name: value.clone().requires_grad_() for name, value in given.items()}
th = leaves["x"] @ leaves["w1"].T + leaves["b1"]
ta = torch.clamp(th, min=0)
ty = ta @ leaves["w2"].T + leaves["b2"]
between = {"h": th, "a": ta, "y": ty}
for tensor in between.values():
    tensor.retain_grad()
(((ty - target) ** 2).sum() / (2 * N)).backward()

ours = {"y": dy, "b2": db2, "w2": dw2, "a": da, "h": dh, "b1": db1, "w1": dw1, "x": dx}
print("gradient  shape     largest  largest difference from autograd")
for name, gradient in ours.items():
    theirs = {**leaves, **between}[name].grad
    difference = (gradient - theirs).abs().max()
    print(f"d{name:<8} {tuple(gradient.shape)!s:<8} {gradient.abs().max():8.4f}  {difference:.1e}")
    assert difference < 1e-6

# %% [markdown]
# ## The same with layers
#
# A layer keeps the two halves together: `forward` and, right under it in the source, `backward`. Inside `record()` each
# `forward` notes what its `backward` will need (we needed `x`, `h` and `a`), and autograd is off.


# %%
class HalfMeanSquare(Module):
    """L = |y - t|^2 / 2N."""

    def forward(self, y, target):
        self.save(y - target)
        return ((y - target) ** 2).sum() / (2 * len(y))

    def backward(self, grad=1.0):
        (difference,) = self.saved()
        return grad * difference / len(difference)


model, criterion = Sequential(Linear(3, 5), ReLU(), Linear(5, 2)), HalfMeanSquare()
model.load_state_dict({"0.weight": w1, "0.bias": b1, "2.weight": w2, "2.bias": b2})

with record() as trace:
    loss = criterion(model(x), target)
    print(trace)
    model.backward(criterion.backward())

for (name, tensor), gradient in zip(model.named_parameters(), [dw1, db1, dw2, db2], strict=True):
    print(f"{name:<9} equals ours: {torch.allclose(tensor.grad, gradient)}")

# %% [markdown]
# ## What gradients are for
#
# Step against them, again and again.

# %%
losses = []
for _ in range(200):
    model.zero_grad()
    with record():
        losses.append(criterion(model(x), target))
        model.backward(criterion.backward(), input_gradient=False)  # nobody needs dx, so it is not computed
    with torch.no_grad():
        for tensor in model.parameters():
            tensor -= 0.3 * tensor.grad

figure, axis = plt.subplots(figsize=(5, 3))
axis.plot(torch.stack(losses))
axis.set_xlabel("step")
axis.set_ylabel("loss")
print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}")

# %% [markdown]
# ## A layer of your own
#
# `check_layer` does what we did above, and more: autograd, finite differences, other memory layouts, empty batches, the
# layer used twice in one pass. Here is one with a mistake in its last line. What does it say?


# %%
class Cube(Module):
    """y = x^3."""

    def forward(self, x):
        self.save(x)
        return x * x * x

    def backward(self, dy):
        (x,) = self.saved()
        return None if dy is None else 2 * x * x * dy


try:
    check_layer(Cube(), torch.randn(2, 3))
except AssertionError as error:
    print(error)
