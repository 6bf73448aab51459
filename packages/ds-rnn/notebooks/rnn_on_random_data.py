# %% [markdown]
# # An RNN taken apart, on random data
#
# A recurrent network reads a sequence step by step and carries a state along. Here it is opened up on random numbers:
# shapes, the recurrence by hand, layers and directions, states in and out, lengths, and then the way back. All numbers
# are float64, so that two ways to compute the same thing agree to about fifteen digits.

# %%
import torch
from ds_core import record
from ds_rnn import RNN
from matplotlib import pyplot as plt


def seeded(number):
    return torch.Generator().manual_seed(number)


def random(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def same(what, one, other, within=1e-12):
    difference = (one - other).abs().max().item()
    print(f"{what:50} differ by {difference:.1e}")
    assert difference < within


# %% [markdown]
# ## Shapes
#
# Input is (steps, sequences, numbers of a step). Output has the state of the top layer at every step, both directions
# side by side; the last state has one row for each layer and direction.

# %%
STEPS, SEQUENCES, INPUTS, HIDDEN = 7, 3, 4, 5
x = random(STEPS, SEQUENCES, INPUTS, seed=0)
for options in ({}, {"num_layers": 2}, {"num_layers": 2, "bidirectional": True}, {"batch_first": True}):
    layer = RNN(INPUTS, HIDDEN, dtype=torch.float64, generator=seeded(1), **options)
    given = x.transpose(0, 1) if layer.batch_first else x
    y, h = layer(given)
    print(f"{layer!r:55} x {tuple(given.shape)} -> y {tuple(y.shape)}, h {tuple(h.shape)}")

# %%
rnn = RNN(INPUTS, HIDDEN, num_layers=2, bidirectional=True, dtype=torch.float64, generator=seeded(1))
for name, weight in rnn.named_parameters():
    print(f"{name:22} {tuple(weight.shape)}")

# %% [markdown]
# ## The recurrence by hand
#
# $$h_t = \tanh(x_t W_{ih}^T + b_{ih} + h_{t-1} W_{hh}^T + b_{hh})$$
#
# The same four weights serve every step. That is one direction of one layer:


# %%
def one_direction(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    """x (T, N, I), h (N, H) -> the states of all steps, (T, N, H)."""
    states = []
    for x_t in x:
        h = torch.tanh(x_t @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh)
        states.append(h)
    return torch.stack(states)


def weights(layer, suffix):
    return [getattr(layer, name + suffix) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


# %% [markdown]
# The second direction reads the sequence from its end; its states are turned round again, so that row $t$ belongs to
# step $t$. The layer above reads both directions.

# %%
start = torch.zeros(SEQUENCES, HIDDEN, dtype=torch.float64)
below, last = x, []
for layer in range(2):
    forwards = one_direction(below, start, *weights(rnn, f"_l{layer}"))
    backwards = one_direction(below.flip(0), start, *weights(rnn, f"_l{layer}_reverse")).flip(0)
    last += [forwards[-1], backwards[0]]  # each direction's last step; the second one's is step 0
    below = torch.cat([forwards, backwards], 2)

y, h = rnn(x)
same("output: by hand and the layer's", below, y)
same("last states: by hand and the layer's", torch.stack(last), h)

# %% [markdown]
# ## Loops and products
#
# `implementation="loops"` computes every number as the formula has it, one after the other. The default makes one
# product of all inputs before the loop over the steps, and one product for all sequences in each step. It is the same
# function, and it has the same gradients.

# %%
loops = RNN(INPUTS, HIDDEN, 2, bidirectional=True, dtype=torch.float64, implementation="loops")
loops.load_state_dict(rnn.state_dict())
dy = random(STEPS, SEQUENCES, 2 * HIDDEN, seed=2)
results = []
for layer in (loops, rnn):
    layer.zero_grad()
    with record():
        y, h = layer(x)
        dx, dh0 = layer.backward(dy)
    results.append((y, h, dx, dh0, *(weight.grad for weight in layer.parameters())))
names = ["y", "h", "dx", "dh0", *(f"d{name}" for name, _ in rnn.named_parameters())]
for name, by_loops, by_products in zip(names, *results, strict=True):
    same(f"{name}: loops and products", by_loops, by_products)

# %% [markdown]
# ## States in, states out
#
# The state is all that a network knows of the past. Read half a sequence, keep the state, read the other half: the
# output is the same as if nothing had happened in between. That holds for one direction; a second one would have to
# know the end first.

# %%
one_way = RNN(INPUTS, HIDDEN, num_layers=2, dtype=torch.float64, generator=seeded(3))
y, h = one_way(x)
first, middle = one_way(x[:4])
second, end = one_way(x[4:], middle)
same("output: at once, and in two parts", torch.cat([first, second]), y)
same("last state: at once, and in two parts", end, h)

# %% [markdown]
# Backward can be cut at the same place. The gradient of the first state of the second part is the gradient of the last
# state of the first part. (If it is thrown away instead, that is truncated backpropagation through time.)

# %%
dy = random(STEPS, SEQUENCES, HIDDEN, seed=4)
with record():
    one_way(x)
    dx, _ = one_way.backward(dy)
at_once = [weight.grad for weight in one_way.parameters()]

one_way.zero_grad()
with record():
    _, middle = one_way(x[:4])
    one_way(x[4:], middle)
    dx_second, dmiddle = one_way.backward(dy[4:])
    dx_first, _ = one_way.backward(dy[:4], dmiddle)
same("dx: at once, and in two parts", torch.cat([dx_first, dx_second]), dx)
for (name, weight), gradient in zip(one_way.named_parameters(), at_once, strict=True):
    same(f"d{name}: at once, and in two parts", weight.grad, gradient)

# %% [markdown]
# ## Lengths
#
# Sequences of a batch are seldom equally long. With `lengths`, what comes after the end of a sequence counts for
# nothing, whatever stands there: here it is NaN. Output and gradient are 0 there, and the last state is that of the
# sequence's own last step, where its second direction begins.

# %%
lengths = [7, 2, 5]
padded = x.clone()
for sequence, length in enumerate(lengths):
    padded[length:, sequence] = float("nan")
with record():
    y, h = rnn(padded, lengths=lengths)
    dx, _ = rnn.backward(torch.ones_like(y))
for sequence, length in enumerate(lengths):
    alone, last = rnn(x[:length, sequence])  # one sequence needs no dimension for the batch
    same(f"sequence {sequence}, {length} steps: in the batch and alone", y[:length, sequence], alone)
    same("   its last states", h[:, sequence], last)
    assert bool((y[length:, sequence] == 0).all())
    assert bool((dx[length:, sequence] == 0).all())

# %% [markdown]
# ## Backpropagation through time, by hand
#
# Three steps, one layer, one direction. A state has two readers, the output and the next step, so its gradient is a sum
# of two. $1 - h^2$ is the slope of tanh. Each step adds its share to the gradients of the weights, since all steps use
# the same ones.

# %%
short = RNN(INPUTS, HIDDEN, dtype=torch.float64, generator=seeded(5))
weight_ih, weight_hh, b_ih, b_hh = (weight.detach() for weight in weights(short, "_l0"))
x3, h0 = random(3, SEQUENCES, INPUTS, seed=6), random(SEQUENCES, HIDDEN, seed=7)
dy3, dh3 = random(3, SEQUENCES, HIDDEN, seed=8), random(SEQUENCES, HIDDEN, seed=9)

h = [h0, *one_direction(x3, h0, weight_ih, weight_hh, b_ih, b_hh)]  # h[t] is the state after t steps

dh = dh3 + dy3[2]  # state 3: as the last state, and as an output
da3 = dh * (1 - h[3] ** 2)
dh = da3 @ weight_hh + dy3[1]  # state 2: from step 3, and as an output
da2 = dh * (1 - h[2] ** 2)
dh = da2 @ weight_hh + dy3[0]  # state 1
da1 = dh * (1 - h[1] ** 2)
dh0 = da1 @ weight_hh  # state 0 is no output

das = torch.stack([da1, da2, da3])
dx3 = das @ weight_ih
dweight_ih = da1.T @ x3[0] + da2.T @ x3[1] + da3.T @ x3[2]
dweight_hh = da1.T @ h[0] + da2.T @ h[1] + da3.T @ h[2]
db = das.sum((0, 1))

with record():
    short(x3, h0[None])
    dx, dfirst = short.backward(dy3, dh3[None])
same("dx: by hand and backward's", dx3, dx)
same("dh0: by hand and backward's", dh0, dfirst[0])
same("dweight_ih: by hand and backward's", dweight_ih, short.weight_ih_l0.grad)
same("dweight_hh: by hand and backward's", dweight_hh, short.weight_hh_l0.grad)
same("db: by hand and backward's", db, short.bias_ih_l0.grad)

# %% [markdown]
# A third opinion, which knows no formula: move one weight a little up and a little down, and see how much
# $L = \sum y \odot dy + \sum h_3 \odot dh_3$ changes. The error falls with the square of the move, until rounding takes
# over.


# %%
def loss():
    y, last = short(x3, h0[None])
    return ((y * dy3).sum() + (last[0] * dh3).sum()).item()


gradient = short.weight_hh_l0.grad[1, 2].item()
errors = []
with torch.no_grad():
    weight = short.weight_hh_l0
    before = weight[1, 2].item()
    for move in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
        weight[1, 2] = before + move
        above = loss()
        weight[1, 2] = before - move
        quotient = (above - loss()) / (2 * move)
        weight[1, 2] = before
        errors.append(abs(quotient - gradient))
        print(f"move {move:.0e}: {quotient:.12f}, backward has {gradient:.12f}, error {errors[-1]:.1e}")
assert errors[2] < errors[1] / 30 < errors[0] / 900
assert min(errors) < 1e-8

# %% [markdown]
# ## Who knows of whom
#
# A gradient of 1 for the output of one step, and what arrives at each input: that is what the output of this step
# depends on. With one direction nothing comes from later inputs, with two the whole picture is filled. It fades away
# from the diagonal, because each step back multiplies by $\mathrm{diag}(1 - h^2)\,W_{hh}$ once more.

# %%
LONG = 16
long_x = random(LONG, 1, INPUTS, seed=10)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for axis, directions in zip(axes, (1, 2), strict=True):
    layer = RNN(INPUTS, HIDDEN, bidirectional=directions == 2, dtype=torch.float64, generator=seeded(11))
    arriving = torch.zeros(LONG, LONG, dtype=torch.float64)
    for step in range(LONG):
        dy = torch.zeros(LONG, 1, directions * HIDDEN, dtype=torch.float64)
        dy[step] = 1
        with record():
            layer(long_x)
            arriving[step] = layer.backward(dy)[0][:, 0].norm(dim=1)
    picture = axis.imshow(arriving.clamp_min(1e-4).log10(), cmap="viridis", vmin=-4)
    axis.set(title=["one direction", "two directions"][directions - 1])
    axis.set(xlabel="input of step", ylabel="output of step")
    figure.colorbar(picture, label="log10 of the gradient")
    far, near = arriving.diagonal(-10).mean(), arriving.diagonal(-1).mean()
    assert far < near / 10
    later = float(arriving.triu(1).max())
    print(f"directions: {directions}, largest gradient of a later input: {later:.2g}")
    assert (later == 0) == (directions == 1)
plt.show()

# %% [markdown]
# ## States over time
#
# Two copies of one network begin with different states and read the same input, first random numbers, then nothing but
# zeros. The states of the first copy are drawn, and the distance between both. How they began is soon forgotten: with
# the weights that a layer begins with, each step shrinks the distance. When the input falls silent, the states settle
# to what the biases alone make of them.

# %%
NOISE, SILENCE, WIDE = 30, 20, 24
reader = RNN(1, WIDE, dtype=torch.float64, generator=seeded(12))
sequence = torch.cat([random(NOISE, 1, 1, seed=13), torch.zeros(SILENCE, 1, 1, dtype=torch.float64)])
y_one, _ = reader(sequence, random(1, 1, WIDE, seed=14))
y_other, _ = reader(sequence, random(1, 1, WIDE, seed=15))
states = y_one[:, 0].detach()
distance = (y_one - y_other)[:, 0].detach().norm(dim=1)

figure, axes = plt.subplots(3, 1, figsize=(8, 6), sharex=True, layout="constrained", height_ratios=[1, 3, 1.5])
axes[0].plot(sequence[:, 0, 0])
axes[0].set_ylabel("input")
axes[1].imshow(states.T, aspect="auto", cmap="RdBu", vmin=-1, vmax=1)
axes[1].set_ylabel("number of the state")
axes[2].semilogy(distance)
axes[2].set(xlabel="step", ylabel="distance of\nthe two copies")
plt.show()

settled = float((states[-1] - states[-2]).abs().max())
print(f"distance after 1 step {float(distance[0]):.2f}, after {NOISE} steps {float(distance[NOISE - 1]):.1e}")
print(f"largest change of a state in the last step {settled:.1e}")
assert bool((distance[1:] < distance[:-1]).all())
assert distance[NOISE - 1] < 1e-3 * distance[0]
assert settled < 1e-3

# %% [markdown]
# That forgetting is the forward side of vanishing gradients: what no longer changes the state cannot be learned from
# the state. [vanishing_gradients](vanishing_gradients.ipynb) measures it for RNN, LSTM and GRU.
