# %% [markdown]
# # Tiled attention and its memory
#
# A sequence of $T$ tokens has $T^2$ scores. At 16,384 tokens that is a gigabyte for each head, and a training step has
# to keep it. Tiled attention never has all of them at once. Here we see on small tensors why nothing is lost by that,
# how two numbers for each query bring the probabilities back, and what it saves.

# %%
import math
import time

import torch
from ds_core import no_record, record
from ds_transformers import (
    SelfAttention,
    attention,
    attention_backward,
    tiled_attention,
    tiled_attention_backward,
)
from matplotlib import pyplot as plt

torch.manual_seed(0)

# %% [markdown]
# ## A row needs its own query only
#
# Six tokens of width 4. First all six queries together, then two at a time. Under a causal mask two queries see a
# prefix of the keys, so the tile takes that prefix and leaves the rest alone.

# %%
tokens, width = 6, 4
query, key, value, doutput = torch.randn(4, 1, 1, tokens, width, dtype=torch.float64)  # (batch 1, heads 1, T, D)
output, probabilities = attention(query, key, value, causal=True)

rows = 2
for start in range(0, tokens, rows):
    end = start + rows
    tile, weights = attention(query[:, :, start:end], key[:, :, :end], value[:, :, :end], causal=True)
    difference = (tile - output[:, :, start:end]).abs().max().item()
    print(f"queries {start} to {end - 1} see {end} keys, {weights.numel():2} scores; difference {difference:.0e}")
    assert difference < 1e-14

# %% [markdown]
# Each softmax runs along a row, and no row was cut: so the tiles are exact, not an approximation. Which scores exist at
# one time, and which never do:

# %%
figure, axes = plt.subplots(1, 4, figsize=(10, 2.8))
axes[0].imshow(probabilities[0, 0], cmap="viridis", vmin=0, vmax=1)
axes[0].set(title="all at once", xlabel="key", ylabel="query")
for axis, start in zip(axes[1:], range(0, tokens, rows), strict=True):
    shown = torch.full((tokens, tokens), math.nan, dtype=torch.float64)
    shown[start : start + rows, : start + rows] = probabilities[0, 0, start : start + rows, : start + rows]
    axis.imshow(shown, cmap="viridis", vmin=0, vmax=1)
    axis.set(title=f"tile {start // rows + 1}", xlabel="key")
figure.tight_layout()

# %% [markdown]
# ## Two numbers bring a row back
#
# Backward needs the probabilities, which were forgotten. What is kept of each row is its largest score $m$ (in base 2)
# and the logarithm of the sum of powers relative to it. Their sum is $L = \log_2 \sum_j e^{S_j}$, and each probability
# is one product and one power away: $P_j = 2^{S_j \log_2 e - L}$, without a sum over the row.

# %%
tiled_output, logs = tiled_attention(query, key, value, causal=True, rows=rows)
scores = query[0, 0] @ key[0, 0].T / math.sqrt(width) * math.log2(math.e)
again = torch.exp2(scores - logs[0, 0].sum(1, keepdim=True)).tril()
print(f"shape of what is kept: {tuple(logs.shape)}, of the probabilities: {tuple(probabilities.shape)}")
print(f"probabilities, brought back from it, differ by {(again - probabilities[0, 0]).abs().max().item():.0e}")
assert torch.allclose(again, probabilities[0, 0], rtol=0, atol=1e-14)

# %% [markdown]
# So each tile can go back alone. The gradient of its queries is complete, those of keys and values are sums over the
# tiles. Same gradients:

# %%
whole = attention_backward(doutput, query, key, value, output, probabilities, causal=True)
tiles = tiled_attention_backward(doutput, query, key, value, tiled_output, logs, causal=True, rows=rows)
for name, one, other in zip("QKV", whole, tiles, strict=True):
    print(f"d{name} differs by {(one - other).abs().max().item():.0e}")
    assert torch.allclose(one, other, rtol=0, atol=1e-13)

# %% [markdown]
# ## What is kept
#
# A layer in both implementations, over the length. The trace tells the bytes kept between forward and backward. The
# implementations differ by the probabilities of two heads, 4 bytes each, against two numbers for each row.

# %%
implementations = ("vectorized", "tiled")
lengths = [64, 128, 256, 512, 1024, 2048]
layers = {
    implementation: SelfAttention(64, num_heads=2, causal=True, implementation=implementation)
    for implementation in implementations
}
layers["tiled"].load_state_dict(layers["vectorized"].state_dict())
kept = {implementation: [] for implementation in implementations}
for length in lengths:
    x, dy = torch.randn(2, 1, length, 64)
    gradients = []
    for implementation, layer in layers.items():
        with record() as trace:
            layer(x)
            kept[implementation].append(sum(line.bytes for line in trace.kept()))
            gradients.append(layer.backward(dy))
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-5)
    print(f"{length:5} tokens: {kept['vectorized'][-1]:12,} bytes whole, {kept['tiled'][-1]:10,} in tiles")

for length, whole_bytes, tiled_bytes in zip(lengths, kept["vectorized"], kept["tiled"], strict=True):
    assert tiled_bytes == length * kept["tiled"][0] // 64  # linear
    assert whole_bytes - tiled_bytes == 2 * 4 * (length * length - 2 * length)  # quadratic

# %% [markdown]
# ## Time
#
# Tiles compute the scores twice. But of a causal matrix they compute only the half that is seen, and a tile fits in the
# processor's cache: with growing length the tiles are faster too.

# %%
pairs = {
    "vectorized": (attention, attention_backward),
    "tiled": (tiled_attention, tiled_attention_backward),
}


def milliseconds(implementation, length):
    """The least of a few runs of one forward and backward over two heads of width 32: others may use the machine."""
    forward, backward = pairs[implementation]
    inputs = torch.randn(3, 1, 2, length, 32)
    dout = torch.randn(1, 2, length, 32)
    times = []
    with no_record():
        for _ in range(7):
            begin = time.perf_counter()
            result, rest = forward(*inputs, causal=True)
            backward(dout, *inputs, result, rest, causal=True)
            times.append(time.perf_counter() - begin)
    return 1e3 * min(times)


took = {
    implementation: [milliseconds(implementation, length) for length in lengths] for implementation in implementations
}
for index, length in enumerate(lengths):
    print(f"{length:5} tokens: {took['vectorized'][index]:8.2f} ms whole, {took['tiled'][index]:8.2f} ms in tiles")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for implementation in implementations:
    axes[0].loglog(lengths, [size / 1e6 for size in kept[implementation]], marker="o", label=implementation)
    axes[1].loglog(lengths, took[implementation], marker="o", label=implementation)
axes[0].set(xlabel="tokens", ylabel="MB kept by a layer")
axes[1].set(xlabel="tokens", ylabel="ms, forward and backward")
for axis in axes:
    axis.legend()
figure.tight_layout()

# %% [markdown]
# `python benchmarks/attention_lengths.py` goes up to 16,384 tokens, and has PyTorch's fused kernel too.
# Dropout spoils it: its factors, one for each probability, have to be kept, and memory is quadratic again.
