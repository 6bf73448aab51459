# %% [markdown]
# # The gates of an LSTM, opened up
#
# An LSTM carries a memory $c$ from step to step, and gates say what happens to it:
#
# $$c_t = f_t \odot c_{t-1} + i_t \odot g_t, \qquad h_t = o_t \odot \tanh(c_t)$$
#
# $f$ is what to keep, $i$ what to take in, $g$ what could be taken in, $o$ what to show. Here an LSTM with a single
# memory cell learns a task in which all of them have something to do, and then we watch them.

# %%
import os

import torch
from ds_core import AdamW, MSELoss, clip_grad_norm_, record
from ds_rnn import LSTM, SequenceTagger
from ds_rnn.recurrent.lstm_cell import plain_lstm_cell
from matplotlib import pyplot as plt

FAST = bool(os.environ.get("DS_FAST"))
TRAINING_STEPS = 10 if FAST else 400


def seeded(number):
    return torch.Generator().manual_seed(number)


# %% [markdown]
# ## The task
#
# At every step there is a number between -1 and 1, and a signal. When the signal is 1, the number is to be stored; all
# others are there to distract. At every step the network is to say the number that was stored last. So it must let one
# number in, keep all others out, hold what it has for as long as it takes, and drop it when the next one comes.

# %%
STEPS, SEQUENCES = 40, 32


def stored(numbers, signals):
    """numbers, signals (N, T) -> at each step the number that was stored last."""
    found, last = [], numbers[:, 0]
    for number, signal in zip(numbers.T, signals.T, strict=True):
        last = torch.where(signal == 1, number, last)
        found.append(last)
    return torch.stack(found, 1)


def draw(generator):
    """Sequences (N, T, 2) and what is to be said (N, T, 1); one step in ten stores, and the first one."""
    numbers = 2 * torch.rand(SEQUENCES, STEPS, dtype=torch.float64, generator=generator) - 1
    signals = (torch.rand(SEQUENCES, STEPS, generator=generator) < 0.1).double()
    signals[:, 0] = 1
    return torch.stack([numbers, signals], 2), stored(numbers, signals)[:, :, None]


x, target = draw(seeded(0))
busiest = int(x[:, :12, 1].sum(1).argmax())  # the sequence that stores most often in its first twelve steps
for name, row in (("number", x[busiest, :, 0]), ("signal", x[busiest, :, 1]), ("target", target[busiest, :, 0])):
    print(name, "".join(f"{value:6.2f}" if name != "signal" else f"{value:6.0f}" for value in row[:12].tolist()))

# %% [markdown]
# ## Training
#
# One LSTM cell, and a linear layer that reads its state. The bias of the forget gate begins at 2, so that the gate is
# nearly open from the first step on (Jozefowicz et al., 2015): a memory that fades within a few steps would have
# nothing to learn from.

# %%
HIDDEN, RATE = 1, 5e-2
generator = seeded(3)
lstm = LSTM(2, HIDDEN, batch_first=True, dtype=torch.float64, generator=generator)
model = SequenceTagger(lstm, 1, dtype=torch.float64, generator=generator)
lstm.bias_ih_l0.data[HIDDEN : 2 * HIDDEN] += 2
criterion, optimizer = MSELoss(), AdamW(model.parameters(), lr=RATE, weight_decay=0.0)

losses = []
for step in range(TRAINING_STEPS):
    optimizer.param_groups[0]["lr"] = RATE * (1 - step / TRAINING_STEPS)
    x, target = draw(generator)
    optimizer.zero_grad()
    with record():
        losses.append(criterion(model(x), target).item())
        model.backward(criterion.backward(), input_gradient=False)
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

figure, axis = plt.subplots(figsize=(7, 2.6))
axis.semilogy(losses)
axis.axhline(1 / 3, color="gray", linestyle="--", label="always says 0")
axis.set(xlabel="step", ylabel="mean squared error")
axis.legend()
plt.show()
print(f"mean squared error of the last 20 steps: {sum(losses[-20:]) / len(losses[-20:]):.4f}")
if not FAST:
    assert max(losses[-20:]) < 0.03

# %% [markdown]
# ## Every intermediate
#
# `plain_lstm_cell` is the step as its page has it, number by number. It returns the gates beside the states. With
# `change` we may reach in and set a gate ourselves; that is for later.

# %%
weights = [getattr(lstm, f"{name}_l0").detach() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def unroll(sequence, change=lambda signal, i, f: (i, f)):
    """sequence (T, 2) -> i, f, g, o, c, h, each (T,), and what the network says, (T,)."""
    h = c = torch.zeros(1, HIDDEN, dtype=torch.float64)
    rows = []
    for x_t in sequence:
        _, _, gates = plain_lstm_cell(x_t[None], h, c, *weights)
        i, f, g, o = gates.chunk(4, 1)
        i, f = change(x_t[1], i, f)
        c = f * c + i * g
        h = o * torch.tanh(c)
        rows.append(torch.cat([i, f, g, o, c, h], 1)[0])
    found = dict(zip("ifgoch", torch.stack(rows).T, strict=True))
    return found, (found["h"][:, None] @ model.head.weight.detach().T + model.head.bias.detach())[:, 0]


LENGTH, STORED = 48, {0: 0.8, 14: -0.6, 32: 0.3}
sequence = torch.zeros(LENGTH, 2, dtype=torch.float64)
sequence[:, 0] = 2 * torch.rand(LENGTH, dtype=torch.float64, generator=seeded(7)) - 1
for step, number in STORED.items():
    sequence[step] = torch.tensor([number, 1])
wanted = stored(sequence[None, :, 0], sequence[None, :, 1])[0]

gates, said = unroll(sequence)
difference = (said - model(sequence[None]).detach()[0, :, 0]).abs().max().item()
print(f"unrolled by hand and the layer: they differ by {difference:.1e}")
assert difference < 1e-10

# %%
ROWS = {
    "number": sequence[:, 0],
    "signal": sequence[:, 1],
    "i, take in": gates["i"],
    "f, keep": gates["f"],
    "g, candidate": gates["g"],
    "o, show": gates["o"],
    "c, memory": gates["c"],
    "what it says": said,
    "what it should say": wanted,
}
figure, axes = plt.subplots(len(ROWS), 1, figsize=(9, 5.5), sharex=True, layout="constrained")
for axis, (name, row) in zip(axes, ROWS.items(), strict=True):
    limit = max(1.0, float(row.abs().max()))
    picture = axis.imshow(row[None], aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.set_yticks([0], [name])
axes[-1].set_xlabel("step")
figure.colorbar(picture, ax=axes, label="from -1, blue, to 1, red; white is 0")
plt.show()

# %% [markdown]
# ## What they do
#
# - $i$ is open where the signal is, and shut everywhere else: that keeps the distracting numbers out.
# - $f$ is near 1 as long as there is something to hold, and falls to about a quarter when the next number is stored.
# - $g$ follows the number at every step, less a share of $h$: that takes off about what $f$ left of the old number.
#   There always is a candidate; whether it gets in is not its business.
# - $o$ stays open, since the network is asked at every step.
#
# $c$ is the stored number, in a scale that the network has chosen for itself. It drifts a little while it is held: $f$
# is not quite 1, and $i$ not quite 0. All of that in numbers, and as assertions, so that this text cannot become false
# unnoticed:

# %%
stores, holds = sequence[:, 1] == 1, sequence[:, 1] == 0
for name in "ifo":
    of_stores, of_holds = gates[name][stores], gates[name][holds]
    print(f"{name} when storing {of_stores.min():.3f} to {of_stores.max():.3f}", end=", ")
    print(f"while holding {of_holds.min():.3f} to {of_holds.max():.3f}")


def correlation(one, other):
    return abs(torch.corrcoef(torch.stack([one, other]))[0, 1].item())


follows, memory = correlation(gates["g"], sequence[:, 0]), correlation(gates["c"], wanted)
print(f"correlation of g with the number {follows:.3f}, of c with the number that was stored {memory:.3f}")
print(f"largest error of what it says {float((said - wanted).abs().max()):.3f}")
if not FAST:
    assert gates["i"][holds].max() < 0.1 < 0.4 < gates["i"][stores].min()
    assert gates["f"][stores].max() < 0.5 < 0.95 < gates["f"][holds].min()
    assert gates["o"].min() > 0.8
    assert min(follows, memory) > 0.8

# %% [markdown]
# ## Setting gates by hand
#
# That gates look as if they did something is one thing; taking it away from them is another. Three changes, one gate
# each, with the weights as they are:
#
# - a forget gate that is never above 0.9: what is held fades within some ten steps;
# - a forget gate that is 1 when storing: the new number is added to the old one;
# - an input gate that is never below 0.1: distracting numbers leak in.

# %%
CHANGES = {
    "gates as learned": lambda signal, i, f: (i, f),
    "f at most 0.9": lambda signal, i, f: (i, f.clamp(max=0.9)),
    "f = 1 when storing": lambda signal, i, f: (i, torch.ones_like(f) if signal == 1 else f),
    "i at least 0.1": lambda signal, i, f: (i.clamp(min=0.1), f),
}
figure, axes = plt.subplots(2, 2, figsize=(10, 5), sharex=True, sharey=True, layout="constrained")
errors = {}
for axis, (name, change) in zip(axes.flat, CHANGES.items(), strict=True):
    _, changed = unroll(sequence, change)
    errors[name] = (changed - wanted).square().mean().sqrt().item()
    axis.plot(wanted, color="gray", drawstyle="steps-mid", label="what it should say")
    axis.plot(changed, label="what it says")
    axis.set_title(f"{name}: error {errors[name]:.2f}")
axes[0, 0].legend()
axes[1, 0].set_xlabel("step")
axes[1, 1].set_xlabel("step")
plt.show()
if not FAST:
    assert min(errors.values()) == errors["gates as learned"] < 0.15
    assert sorted(errors.values())[1] > 1.5 * errors["gates as learned"]

# %% [markdown]
# ## The same gate, on the way back
#
# $dc_{t-1} = dc_t \odot f_t$: the gate that holds the memory holds its gradient, too. The product of the forget gates
# is how much of a gradient survives. For 40 steps of holding, beside the layer's own backward, in which the gradient
# also takes the ways through $h$ and the gates:

# %%
HOLD = 40
held = torch.zeros(HOLD, 2, dtype=torch.float64)
held[:, 0] = 2 * torch.rand(HOLD, dtype=torch.float64, generator=seeded(8)) - 1
storing = torch.tensor([[0.5, 1]], dtype=torch.float64)
with torch.no_grad():
    _, (h, c) = lstm(storing)
with record():
    lstm(held, (h, c))
    _, (_, dc) = lstm.backward(None, (None, torch.ones_like(c)), input_gradient=False)
lstm.zero_grad()
f = unroll(torch.cat([storing, held]))[0]["f"][1:]
print(f"product of {HOLD} forget gates {f.prod().item():.3f}, gradient by backward {dc.item():.3f}")
print(f"for comparison 0.9 to the power {HOLD}: {0.9**HOLD:.3f}")
if not FAST:
    assert min(f.prod().item(), dc.item()) > 0.3

# %% [markdown]
# A plain recurrent network has no such number: its gradient passes through a matrix and a slope at every step.
# [vanishing_gradients](vanishing_gradients.ipynb) measures what that does over a thousand steps. But gates are learned,
# and a network need not use them as a textbook says: with more cells, several share the work, and which of them forgets
# when is no longer so easy to read.
