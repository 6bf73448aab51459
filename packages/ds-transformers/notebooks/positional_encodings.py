# %% [markdown]
# # Positional encodings
#
# Attention takes a set: with its tokens in another order it gives the same results in that order. What tells it the
# order has to be put in. Here are five ways of doing it, looked at one by one.

# %%
import math

import torch
from ds_transformers import (
    AlibiPositions,
    PatchEmbedding,
    RotaryPositions,
    SinusoidalPositions,
    SinusoidalPositions2d,
    alibi_slopes,
    attention,
    sinusoidal_encoding,
)
from matplotlib import pyplot as plt

# %% [markdown]
# First, that something is missing. We shuffle ten tokens: the outputs are shuffled too, and otherwise the same. Once
# the positions are added, they are not.

# %%
torch.manual_seed(0)
x = torch.randn(1, 1, 10, 32)  # (batch, heads, tokens, width)
order = torch.randperm(10)


def attend(tokens):
    return attention(tokens, tokens, tokens)[0]


positions = SinusoidalPositions(32)
plain = (attend(x[:, :, order]) - attend(x)[:, :, order]).abs().max().item()
placed = (attend(positions(x[:, :, order])) - attend(positions(x))[:, :, order]).abs().max().item()
print(f"what the order changes: {plain:.1e} without positions, {placed:.2f} with them")
assert plain < 1e-5
assert placed > 0.1

# %% [markdown]
# ## Sines and cosines
#
# Each row is what is added to the token at that position. Even columns are sines, odd ones cosines.

# %%
encoding = sinusoidal_encoding(100, 64, dtype=torch.float64)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
image = axes[0].imshow(encoding, aspect="auto", cmap="RdBu")
axes[0].set(xlabel="component", ylabel="position")
figure.colorbar(image, ax=axes[0])
for component in (0, 8, 16, 32):
    wavelength = 2 * math.pi * 10000 ** (component / 64)
    axes[1].plot(encoding[:, component], label=f"component {component}, wavelength {wavelength:.0f}")
axes[1].set(xlabel="position")
axes[1].legend()
figure.tight_layout()
assert encoding[:, :2].diff(dim=0).abs().mean() > 100 * encoding[:, -2:].diff(dim=0).abs().mean()

# %% [markdown]
# On the left the components change within a few positions, on the right hardly at all: clocks from fast to slow. The
# fast ones tell neighbours apart, the slow ones the beginning from the end.
#
# Now the products of all pairs of rows.

# %%
products = encoding @ encoding.T
distances = torch.arange(-60, 61)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
image = axes[0].imshow(products, cmap="viridis")
axes[0].set(xlabel="position", ylabel="position")
figure.colorbar(image, ax=axes[0])
for position in (60, 300, 5000):
    around = sinusoidal_encoding(121, 64, position - 60, dtype=torch.float64)
    axes[1].plot(distances, around @ around[60], label=f"around position {position}")
axes[1].set(xlabel="distance", ylabel="dot product")
axes[1].legend()
figure.tight_layout()

speeds = 10000.0 ** (-2 * torch.arange(32, dtype=torch.float64) / 64)
expected = torch.cos(distances[:, None] * speeds).sum(1)
difference = (around @ around[60] - expected).abs().max().item()
print(f"from the sum of cosines of the distance alone: {difference:.1e}")
assert difference < 1e-9
assert expected.argmax() == 60

# %% [markdown]
# Every diagonal has one colour, and the three curves lie on one another: the product depends on the distance alone,
# is largest at distance 0 and the same in both directions. Positions that were never seen have it too.
#
# A shift by $k$ positions turns each pair by $k \omega_j$, whatever the position: one matrix for the whole text.

# %%
pair, shift = 8, 5
angle = shift * speeds[pair]
turn = torch.tensor([[angle.cos(), angle.sin()], [-angle.sin(), angle.cos()]])
points = encoding[:, 2 * pair : 2 * pair + 2]
error = (points[:-shift] @ turn.T - points[shift:]).abs().max().item()
print(f"turning all positions by one matrix misses those {shift} further on by {error:.1e}")
assert error < 1e-12

# %% [markdown]
# ## Rotary: queries and keys are turned
#
# One query of width 4, standing at positions 0 to 11. Its two pairs are points in two planes.

# %%
rotary = RotaryPositions(4, base=100.0, interleaved=True)
query, key = torch.tensor([[1.0, 0.3, 0.8, 0.0], [0.9, -0.2, 0.5, 0.6]], dtype=torch.float64)
turned = rotary.rotate(query.expand(12, 4))
figure, axes = plt.subplots(1, 2, figsize=(9, 4))
for number, axis in enumerate(axes):
    xs, ys = turned[:, 2 * number], turned[:, 2 * number + 1]
    axis.scatter(xs, ys, c=range(12), cmap="viridis", zorder=2)
    for position in range(12):
        axis.plot([0, xs[position]], [0, ys[position]], color="lightgrey", zorder=1)
        axis.annotate(str(position), (1.08 * xs[position].item(), 1.08 * ys[position].item()))
    axis.set(title=f"pair {number}: {100.0 ** -(number / 2):.1f} radians a position", aspect="equal")
    axis.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3))
lengths = turned.unflatten(1, (2, 2)).pow(2).sum(2)
assert torch.allclose(lengths, lengths[:1].expand(12, 2))
assert torch.equal(turned[0], query)

# %% [markdown]
# The first pair goes almost twice round the circle, the second a sixth of it. Both keep their length, and at position
# 0 nothing is turned.
#
# What attention sees is the product with a key, turned by the key's position. Here is that score for all pairs of
# positions, and against the distance.

# %%
count = 40
scores = rotary.rotate(query.expand(count, 4)) @ rotary.rotate(key.expand(count, 4)).T
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
image = axes[0].imshow(scores, cmap="RdBu")
axes[0].set(xlabel="position of the key", ylabel="position of the query")
figure.colorbar(image, ax=axes[0])
indices = torch.arange(count)
distance = (indices[:, None] - indices).flatten()
axes[1].scatter(distance, scores.flatten(), s=4)
axes[1].axhline((query @ key).item(), color="grey", linewidth=0.8)
axes[1].set(xlabel="position of the query less that of the key", ylabel="score")
figure.tight_layout()
spread = max(scores.diagonal(d).std(correction=0).item() for d in range(-count + 1, count))
print(f"largest spread of the scores of one distance: {spread:.1e}")
assert spread < 1e-12
assert math.isclose(scores[0, 0].item(), (query @ key).item())

# %% [markdown]
# Every diagonal has one colour, and the 1600 points on the right cover one another, one point for each of 79 distances:
# $q \cdot k$ depends on the distance alone. At distance 0 it is that of the query and the key as they are (the grey
# line). Unlike the sines' products it is not symmetric: before and after are different.
#
# Backward is the rotation by the opposite angle, so it brings a rotated tensor back.

# %%
back = rotary.rotate_backward(turned)
print(f"there and back: {(back - query).abs().max().item():.1e}")
assert torch.allclose(back, query.expand(12, 4), atol=1e-14)

# %% [markdown]
# ## ALiBi: scores lose by the distance
#
# Nothing happens to the tokens. Each head subtracts its slope times the distance from the scores.

# %%
heads, length = 4, 24
bias = AlibiPositions(heads).bias(length, length, torch.zeros(1))  # (1, heads, queries, keys)
flat = torch.zeros(1, heads, length, 8)  # tokens without content: what remains is the bias
_, weights = attention(flat, flat, flat, visible=bias, causal=True)
figure, axes = plt.subplots(2, heads, figsize=(11, 5))
for head, slope in enumerate(alibi_slopes(heads)):
    axes[0, head].imshow(bias[0, head], vmin=bias.min(), vmax=0, cmap="magma")
    axes[0, head].set(title=f"head {head + 1}: slope {slope:.4f}")
    axes[1, head].plot(weights[0, head, -1])
    axes[1, head].set(ylim=(0, 0.3), xlabel="key")
axes[0, 0].set(ylabel="query")
axes[1, 0].set(ylabel="probability, last query")
figure.tight_layout()
ratios = weights[0, :, -1, 1:] / weights[0, :, -1, :-1]
assert torch.allclose(ratios, torch.tensor(alibi_slopes(heads)).exp()[:, None].expand_as(ratios), rtol=1e-4)

# %% [markdown]
# Above, dark is a large loss. Below, the probabilities of tokens that say nothing: the first head looks at the last few
# tokens, the last head at nearly all alike. Each step away costs the same factor, $e^{-m}$.
#
# Under the causal mask the last query's row alone does the same, in linear memory.

# %%
tokens = torch.randn(1, heads, length, 8, dtype=torch.float64)
row = AlibiPositions(heads).bias(1, length, tokens)
whole = AlibiPositions(heads).bias(length, length, tokens)
both = [attention(tokens, tokens, tokens, visible=bias, causal=True)[0] for bias in (whole, row)]
print(f"{whole.numel()} numbers and {row.numel()}: outputs differ by {(both[0] - both[1]).abs().max().item():.1e}")
assert torch.allclose(*both, atol=1e-12)

# %% [markdown]
# ## Two dimensions
#
# A Vision Transformer cuts a picture into patches and takes each as a token. Here are 4 by 6 tokens of a picture.

# %%
patches = PatchEmbedding(None, 16, in_channels=3, embed_dim=32)
print("picture (1, 3, 64, 96) -> tokens", tuple(patches(torch.zeros(1, 3, 64, 96)).shape))
assert patches(torch.zeros(1, 3, 64, 96)).shape == (1, 24, 32)

# %% [markdown]
# Half of the channels of DETR's encoding tell the row, half the column. We look at four of 32 channels, for a picture
# that fills the frame and for one that is padded at the right and below.

# %%
planar = SinusoidalPositions2d(32)
mask = torch.zeros(2, 20, 30, dtype=torch.bool)
mask[1, 12:], mask[1, :, 20:] = True, True
planes = planar(mask)  # (2, 20, 30, 32)
figure, axes = plt.subplots(2, 4, figsize=(11, 4.4))
for index in range(2):
    for axis, channel in zip(axes[index], (0, 4, 16, 20), strict=True):
        axis.imshow(planes[index, :, :, channel], cmap="RdBu", vmin=-1, vmax=1)
        axis.set(title=f"channel {channel}")
axes[0, 0].set(ylabel="whole")
axes[1, 0].set(ylabel="padded")
figure.tight_layout()
assert torch.equal(planes[1, :12, :20], planar.of_size(12, 20)[0])
assert torch.equal(planes[0, :, :1, :16].expand(20, 30, 16), planes[0, ..., :16])

# %% [markdown]
# Channels 0 and 4 change from row to row only, 16 and 20 from column to column. The padded picture has, within its
# corner, what a picture of that size alone would have: the same wave, in fewer pixels.
#
# The product of one pixel with all others, as a map:

# %%
centre = planes[0, 10, 15]
near = planes[0] @ centre
figure, axis = plt.subplots(figsize=(5, 3.2))
image = axis.imshow(near, cmap="viridis")
axis.set(xlabel="column", ylabel="row")
figure.colorbar(image)
print("largest at", divmod(near.argmax().item(), 30))
assert divmod(near.argmax().item(), 30) == (10, 15)

# %% [markdown]
# Largest at the pixel itself, and falling off in every direction, along its row and its column most slowly: a picture's
# "distance alone", made of two of the kind above.
