# %% [markdown]
# # Attention by hand
#
# Attention lets every token take a weighted mean of what other tokens say. Here it is built from products, one
# exponential and one division; then its gradient, from the same. At the end one layer learns to look two tokens back,
# and we see it look.

# %%
import math

import torch
from ds_core import Adam, record
from ds_transformers import LearnedPositions, MultiheadAttention, SelfAttention, attention, attention_backward
from matplotlib import pyplot as plt

# %% [markdown]
# Two tokens of width 2. Each row of the scores says how well one query fits the keys; its softmax is the weights of
# that query's mean.

# %%
query = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
key = torch.tensor([[0.0, math.log(3)], [math.log(3), 0.0]])
value = torch.tensor([[1.0, 2.0], [3.0, -1.0]])

scores = query @ key.T
powers = scores.exp()
probabilities = powers / powers.sum(1, keepdim=True)
output = probabilities @ value
print("probabilities", probabilities.tolist())
print("output       ", output.tolist())

# %% [markdown]
# Backward, given the gradient of the output. A score raises its own probability and lowers all others of its row,
# hence the mean that is subtracted: $dS_{ij} = P_{ij} (dP_{ij} - \sum_k P_{ik} \, dP_{ik})$.

# %%
doutput = torch.tensor([[1.0, 2.0], [-1.0, 4.0]])

dvalue = probabilities.T @ doutput
dprobabilities = doutput @ value.T
mean = (probabilities * dprobabilities).sum(1, keepdim=True)
dscores = probabilities * (dprobabilities - mean)
dquery = dscores @ key
dkey = dscores.T @ query
print("dscores", dscores.tolist(), " rows sum to", dscores.sum(1).tolist())

# %% [markdown]
# The library's pair of functions does this for all heads of a batch at once. Same numbers; and the same as autograd's.

# %%
heads = [tensor[None, None] for tensor in (query, key, value)]  # (batch 1, heads 1, tokens 2, width 2)
found, kept = attention(*heads, scale=1.0)
gradients = attention_backward(doutput[None, None], *heads, found, kept, scale=1.0)

leaves = [tensor.clone().requires_grad_() for tensor in (query, key, value)]
(torch.softmax(leaves[0] @ leaves[1].T, 1) @ leaves[2]).backward(doutput)
for name, by_hand, ours, leaf in zip("QKV", (dquery, dkey, dvalue), gradients, leaves, strict=True):
    ours = ours[0, 0]
    print(f"d{name}: by hand and ours differ by {(by_hand - ours).abs().max().item():.1e}", end=", ")
    print(f"ours and autograd's by {(ours - leaf.grad).abs().max().item():.1e}")

# %% [markdown]
# ## No gradient to the future
#
# In a causal layer token $i$ sees the tokens up to $i$. We send a gradient into one output at a time and record how
# much of it arrives at each input. Above the diagonal there is nothing: not little, zero.

# %%
torch.manual_seed(0)
tokens, width = 12, 16
layer = SelfAttention(width, num_heads=2, causal=True)
x = torch.randn(1, tokens, width)
arriving = torch.zeros(tokens, tokens)
for position in range(tokens):
    dy = torch.zeros(1, tokens, width)
    dy[0, position] = 1.0
    with record():
        layer(x)
        arriving[position] = layer.backward(dy)[0].norm(dim=1)

figure, axis = plt.subplots(figsize=(4, 3.4))
axis.imshow(arriving, cmap="viridis")
axis.set(xlabel="gradient of input token", ylabel="gradient given to output token")
print("largest number above the diagonal:", arriving.triu(1).max().item())

# %% [markdown]
# ## What is kept, and what is not
#
# The vectorized form keeps all probabilities until backward, the tiled form one number for each query, from which it
# computes them again. The gradients are the same; the trace tells the bytes.

# %%
tiled = SelfAttention(width, num_heads=2, causal=True, implementation="tiled")
tiled.load_state_dict(layer.state_dict())
results = []
for length in (64, 256, 1024):
    x, dy = torch.randn(2, 1, length, width)
    for each in (layer, tiled):
        with record() as trace:
            each(x)
            kept_bytes = sum(line.bytes for line in trace.kept())
            results.append(each.backward(dy))
        print(f"{length:5} tokens, {each.implementation:10}: {kept_bytes:10,} bytes kept")
    print(f"      largest difference of the gradients: {(results[-1] - results[-2]).abs().max().item():.1e}")

# %% [markdown]
# ## Learning to look two tokens back
#
# The target for each token is the token two tokens before it. What stands there is random, so the layer can only learn
# *where* to look, from the positions added to the tokens.

# %%
torch.manual_seed(0)
length, width = 16, 32
positions = LearnedPositions(length, width)
looker = SelfAttention(width, num_heads=1, causal=True)
optimizer = Adam([*positions.parameters(), *looker.parameters()], lr=5e-3)

losses = []
for _ in range(400):
    x = torch.zeros(64, length, width)
    x[:, :, : width // 2] = torch.randn(64, length, width // 2)  # the other half is left to the positions
    target = torch.zeros_like(x)
    target[:, 2:] = x[:, :-2]
    optimizer.zero_grad()
    with record():
        y = looker(positions(x))
        error = (y - target)[:, 2:, : width // 2]
        dy = torch.zeros_like(y)
        dy[:, 2:, : width // 2] = 2 * error / error.numel()  # the gradient of the mean squared error
        positions.backward(looker.backward(dy), input_gradient=False)
    optimizer.step()
    losses.append(error.pow(2).mean().item())
print(f"mean squared error: {losses[0]:.3f} at first, {losses[-1]:.3f} at last")

# %% [markdown]
# `MultiheadAttention` takes the same weights and hands out its probabilities. Each row is one token, looking at those
# before it.

# %%
shown = MultiheadAttention(width, num_heads=1, batch_first=True)
shown.load_state_dict(looker.state_dict())
placed = positions(x[:1])
hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
_, weights = shown(placed, placed, placed, attn_mask=hidden)

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
axes[0].plot(losses)
axes[0].set(xlabel="step", ylabel="mean squared error")
axes[1].imshow(weights[0].detach(), cmap="viridis", vmin=0, vmax=1)
axes[1].set(xlabel="looks at token", ylabel="token")
figure.tight_layout()
two_back = weights[0].diagonal(-2)
print(f"probability that goes to the token two tokens back, mean over the tokens: {two_back.mean().item():.3f}")
