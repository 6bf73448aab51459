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

# %%
print("what is left of a gradient after so many steps")
print(f"{'':20}" + "".join(f"{steps:>12}" for steps in (10, 100, 1000) if steps <= STEPS))
for name, values in norms.items():
    left = "".join(f"{values[steps - 1]:12.1e}" for steps in (10, 100, 1000) if steps <= STEPS)
    print(f"{name:20}{left}")

# %% [markdown]
# As they begin, all three lose a share of the gradient at each step: after a hundred steps nothing is left that float32
# would notice beside 1. With open forget gates it is another picture. The memory's own way back keeps the gradient over
# hundreds of steps, and what comes in through the gates can even make it grow: $da_f$ has $c$ as a factor, and $c$
# itself has become large. That is what clipping is for. The gates are computed from input and state, so a network can
# learn to open them where that is of use.
