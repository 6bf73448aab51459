# %% [markdown]
# # Write your own layer, and prove it
#
# A layer is a `forward`, a `backward`, and a check. We write a gated layer that PyTorch does not have, get its backward
# wrong on purpose, and see what the check says.
#
# $$y = x \odot \sigma(s \odot x + c)$$
#
# with a scale $s$ and a shift $c$ for each channel: a SiLU that learns how steep its gate is and where it opens.

# %%
import torch
from ds_core import Linear, Module, MSELoss, Sequential, accumulate, parameter, record
from ds_core.activations.sigmoid import sigmoid
from ds_core.interop import as_torch
from ds_core.testing import CheckFailed, check_layer, report

# %% [markdown]
# ## The gradients
#
# Write $g = \sigma(z)$ with $z_{nc} = s_c x_{nc} + c_c$. The derivative of the logistic function is $g (1 - g)$.
#
# $y_{nc} = x_{nc} g_{nc}$ depends on $z$ through $g$ alone, so $dz_{nc} = dy_{nc} \, x_{nc} \, g_{nc} (1 - g_{nc})$.
# From there
#
# - $s_c$ is multiplied with $x_{nc}$ in every row: $ds_c = \sum_n dz_{nc} x_{nc}$;
# - $c_c$ is added in every row: $dc_c = \sum_n dz_{nc}$;
# - $x_{nc}$ is used twice: in the product, at rate $g_{nc}$, and in $z$, at rate $s_c$: $dx_{nc} = dy_{nc} \, g_{nc} +
#   dz_{nc} \, s_c$.


# %%
class LearnedGate(Module):
    """y = x sigmoid(scale x + shift), channel by channel: x (N, C) -> y (N, C)."""

    def __init__(self, channels):
        self.scale = parameter(torch.ones(channels))
        self.shift = parameter(torch.zeros(channels))

    def forward(self, x):
        gate = sigmoid(x * self.scale + self.shift)
        self.save(x, gate)
        return x * gate

    def backward(self, dy, *, input_gradient=True):
        x, gate = self.saved()
        if dy is None:
            return None
        dz = dy * x * gate * (1 - gate)  # dz = dy x g (1 - g)
        accumulate(self.scale, (dz * x).sum(0))  # ds = sum_n dz x
        accumulate(self.shift, dz.sum(0))  # dc = sum_n dz
        return dy * gate + dz * self.scale if input_gradient else None  # dx = dy g + dz s


layer = LearnedGate(4)
print(check_layer(layer, torch.randn(5, 4)))

# %% [markdown]
# It passed: handwritten gradients against autograd of the same forward, against finite differences, in float64, with
# random output gradients, with the layer used twice, with frozen parameters, with an input that is not contiguous, an
# empty batch, and with primitive operations alone.
#
# ## What a mistake looks like


# %%
class Forgotten(LearnedGate):
    """x is used twice, and one of the two was forgotten."""

    def backward(self, dy, *, input_gradient=True):
        x, gate = self.saved()
        if dy is None:
            return None
        dz = dy * x * gate * (1 - gate)
        accumulate(self.scale, (dz * x).sum(0))
        accumulate(self.shift, dz.sum(0))
        return dy * gate if input_gradient else None


class Changed(LearnedGate):
    """The gradient it was handed is changed in place: somebody else may still need it."""

    def backward(self, dy, *, input_gradient=True):
        x, gate = self.saved()
        if dy is None:
            return None
        dx = dy * gate
        dz = dy.mul_(x).mul_(gate * (1 - gate))
        accumulate(self.scale, (dz * x).sum(0))
        accumulate(self.shift, dz.sum(0))
        return dx + dz * self.scale if input_gradient else None


class ReadyMade(LearnedGate):
    """torch.sigmoid is a black box here."""

    def forward(self, x):
        gate = torch.sigmoid(x * self.scale + self.shift)
        self.save(x, gate)
        return x * gate


for wrong in (Forgotten, Changed, ReadyMade):
    try:
        check_layer(wrong(4), torch.randn(5, 4))
    except (CheckFailed, RuntimeError) as error:
        print(f"{wrong.__name__}: {str(error)[:600]}\n")
    else:
        raise AssertionError(f"{wrong.__name__} passed")

# %% [markdown]
# ## In a model
#
# It composes like any other layer, and `report` holds a whole model against autograd and finite differences, layer by
# layer.

# %%
torch.manual_seed(0)
model = Sequential(Linear(3, 8), LearnedGate(8), Linear(8, 1))
x, target = torch.randn(16, 3), torch.randn(16, 1)
print(report(model, x, MSELoss(), target))

# %% [markdown]
# ## In somebody else's PyTorch code
#
# `as_torch` makes a `torch.nn.Module` of it whose gradients come from our backward.

# %%
theirs = torch.nn.Sequential(torch.nn.Linear(3, 8), as_torch(LearnedGate(8)), torch.nn.Linear(8, 1))
optimizer = torch.optim.Adam(theirs.parameters(), lr=0.02)
for step in range(101):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(theirs(x), target)
    loss.backward()
    optimizer.step()
    if step % 25 == 0:
        print(f"step {step:3}: loss {loss.item():.4f}")

# %% [markdown]
# And the same model by the handwritten engine, where nothing of autograd runs:

# %%
with record():
    criterion = MSELoss()
    loss = criterion(model(x), target)
    model.backward(criterion.backward(), input_gradient=False)
for name, weight in model.named_parameters():
    print(f"{name:10} {tuple(weight.grad.shape)} {float(weight.grad.norm()):.4f}")
