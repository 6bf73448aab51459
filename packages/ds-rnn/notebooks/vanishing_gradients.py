# %% [markdown]
# # Vanishing gradients, measured
#
# A gradient of the last state goes back through every step of a sequence. How much of it is left after 10, 100 and
# 1,000 steps decides what a recurrent network can learn. `gradient_norms` measures it, for the three cells, with the
# weights that they begin with.

# %%
import os

import torch
from ds_rnn import GRUCell, LSTMCell, RNNCell, gradient_norms
from matplotlib import pyplot as plt

STEPS = 100 if os.environ.get("DS_FAST") else 1000
INPUTS, HIDDEN, SEQUENCES = 8, 64, 8


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


x = torch.randn(STEPS, SEQUENCES, INPUTS, dtype=torch.float64, generator=seeded(0))
dlast = torch.randn(SEQUENCES, HIDDEN, dtype=torch.float64, generator=seeded(1))
dlast = dlast / dlast.square().sum(1, keepdim=True).sqrt()

# %% [markdown]
# An LSTM has two states. What is drawn is the gradient of the memory $c$, which has a way back of its own:
# $dc_t = dc_{t+1} \odot f_{t+1}$. So it is drawn twice: as it begins, with forget gates of about 0.5, and with a bias
# that opens them (Gers et al., 2000; Jozefowicz et al., 2015, advise 1 or more).


# %%
def lstm(forget_bias: float) -> LSTMCell:
    cell = LSTMCell(INPUTS, HIDDEN, dtype=torch.float64, generator=seeded(2))
    cell.bias_ih.data[HIDDEN : 2 * HIDDEN] += forget_bias
    return cell


cells = {
    "RNN": RNNCell(INPUTS, HIDDEN, dtype=torch.float64, generator=seeded(2)),
    "GRU": GRUCell(INPUTS, HIDDEN, dtype=torch.float64, generator=seeded(2)),
    "LSTM": lstm(0),
    "LSTM, forget bias 3": lstm(3),
    "LSTM, forget bias 6": lstm(6),
}
norms = {name: gradient_norms(cell, x, dlast)[-1].flip(0)[1:] for name, cell in cells.items()}

# %%
figure, axis = plt.subplots(figsize=(8, 4))
for name, values in norms.items():
    axis.loglog(range(1, STEPS + 1), values.clamp_min(1e-60), label=name)
axis.set_ylim(1e-30, 10)
axis.set_xlabel("steps back from the end")
axis.set_ylabel("norm of the gradient of the state")
axis.legend()
figure.tight_layout()

# %% [markdown]
# Beside it, what would be left if there were no way back but that of the memory: $dh$ enters $c$ through $o$ and
# $1 - \tanh^2 c$, and from there on it is the product of the forget gates.


# %%
def by_the_forget_gates_alone(cell: LSTMCell) -> torch.Tensor:
    with torch.no_grad():
        h, c = cell.initial_state(x[0])
        forget = []
        for x_t in x:
            sums = x_t @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T + cell.bias_hh
            _, f, _, o = torch.sigmoid(sums).chunk(4, 1)
            forget.append(f)
            h, c = cell(x_t, (h, c))
        dc = dlast * o * (1 - torch.tanh(c) ** 2)
        left = []
        for f in reversed(forget):
            dc = dc * f
            left.append(dc.square().sum(1).sqrt().mean())
    return torch.stack(left)


for name in ("LSTM, forget bias 3", "LSTM, forget bias 6"):
    norms[f"{name}, gates alone"] = by_the_forget_gates_alone(cells[name])

print("what is left of a gradient after so many steps")
print(f"{'':33}" + "".join(f"{steps:>12}" for steps in (10, 100, 1000) if steps <= STEPS))
for name, values in norms.items():
    left = "".join(f"{values[steps - 1]:12.1e}" for steps in (10, 100, 1000) if steps <= STEPS)
    print(f"{name:33}{left}")

# %% [markdown]
# As they begin, all three lose a share of the gradient at each step: after a hundred steps nothing is left that float32
# would notice beside 1. With open forget gates it is another picture. At bias 6 ($f$ about 0.997) the memory's own way
# back keeps most of the gradient over a hundred steps; the curve only starts lower, because $c$ has grown to about 40
# and $1 - \tanh^2 c$ lets little in. At bias 3 ($f$ about 0.95) that way alone would leave 3e-3 after a hundred steps:
# most of what is measured comes through the gates, since $da_f$ has $c$ as a factor. Over a thousand steps this makes
# both grow. That is what clipping is for. The gates are computed from input and state, so a network can learn to open
# them where that is of use.
