# %% [markdown]
# # How far back does a recurrent network learn?
#
# A recurrent cell is called once per time step. On the way back its gradient passes through the same cell once per
# step, each time multiplied by $\mathrm{diag}(1 - h'^2)\, W_{hh}$. We follow the gradient of the last state back
# through sixty steps and see it fade or blow up, depending on nothing but the size of $W_{hh}$.

# %%
import torch
from ds_core import record
from ds_rnn import RNNCell
from matplotlib import pyplot as plt

STEPS, HIDDEN = 60, 32

# %% [markdown]
# `backward` gives the gradient of the state before. The trace remembers the sixty calls and hands them back in reverse
# order, so backpropagation through time is a plain loop.


# %%
def gradient_norms(scale: float, nonlinearity: str) -> list[float]:
    """Norm of the gradient of each state, from the last step back, for W_hh an orthogonal matrix times `scale`."""
    generator = torch.Generator().manual_seed(0)
    cell = RNNCell(4, HIDDEN, bias=False, nonlinearity=nonlinearity, generator=generator)
    cell.weight_hh.data = scale * torch.linalg.qr(torch.randn(HIDDEN, HIDDEN, generator=generator))[0]
    x = 0.3 * torch.randn(STEPS, 1, 4, generator=generator)
    h, norms = torch.zeros(1, HIDDEN), []
    with record():
        for step in x:
            h = cell(step, h)
        dh = torch.randn(1, HIDDEN, generator=generator)
        dh = dh / dh.pow(2).sum().sqrt()
        for _ in x:
            norms.append(dh.pow(2).sum().sqrt().item())
            _, dh = cell.backward(dh)
    return norms


# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True)
for axis, nonlinearity in zip(axes, ["tanh", "relu"], strict=True):
    for scale in [0.8, 1.0, 1.2, 1.6]:
        axis.semilogy(gradient_norms(scale, nonlinearity), label=f"{scale} x orthogonal")
    axis.set_title(nonlinearity)
    axis.set_xlabel("steps back from the end")
axes[0].set_ylabel("norm of the gradient of the state")
axes[0].legend()
figure.tight_layout()

# %% [markdown]
# With tanh the factor $1 - h'^2 \le 1$ can only shrink the gradient, so a $W_{hh}$ of norm 1 or less makes it fade at
# every step. With relu about half of the units pass nothing on. Gates (the LSTM) are the answer to this picture.
#
# The handwritten loop and autograd agree on what reaches the first step:

# %%
cell = RNNCell(4, HIDDEN, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
x = torch.randn(STEPS, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
start = torch.zeros(1, HIDDEN, dtype=torch.float64, requires_grad=True)

h = start
for step in x:
    h = cell(step, h)
h.sum().backward()
by_autograd = cell.weight_hh.grad.clone()

cell.zero_grad()
with record():
    h = start.detach()
    for step in x:
        h = cell(step, h)
    dh = torch.ones_like(h)
    for _ in x:
        _, dh = cell.backward(dh)

print("largest difference, first state:", (dh - start.grad).abs().max().item())
print("largest difference, weight_hh:  ", (cell.weight_hh.grad - by_autograd).abs().max().item())
