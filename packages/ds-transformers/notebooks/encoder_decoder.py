# %% [markdown]
# # Encoder and decoder, assembled from parts
#
# A Transformer is made of few parts: attention, linear layers, norms, and sums. First an encoder layer is put together
# here by hand, forward and backward. Then come the library's classes, which do just that; they take the weights of
# `torch.nn.Transformer`, and outputs, gradients and training steps are compared with it.

# %%
import torch
from ds_core import AdamW, LayerNorm, Linear, ReLU, record
from ds_transformers import SelfAttention, Transformer, TransformerEncoderLayer
from matplotlib import pyplot as plt

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)  # so that differences are rounding, and rounding is small
batch, length, width, heads, hidden = 2, 5, 16, 4, 32

# %% [markdown]
# ## An encoder layer by hand
#
# The order of the 2017 paper: each branch is added to its input, and a norm stands behind the sum,
# $y = N_1(x + f(x))$ and $z = N_2(y + g(y))$.

# %%
attention = SelfAttention(width, heads)
widen, relu, narrow = Linear(width, hidden), ReLU(), Linear(hidden, width)
norm1, norm2 = LayerNorm(width), LayerNorm(width)


def forward(x):
    y = norm1(x + attention(x))
    return norm2(y + narrow(relu(widen(y))))


# %% [markdown]
# Backward takes the same lines from the last to the first. What was added forward is two ways back: a gradient goes
# directly to $x$, and once more through the branch.


# %%
def backward(dz):
    dv = norm2.backward(dz)  # v = y + g(y)
    dy = dv + widen.backward(relu.backward(narrow.backward(dv)))
    du = norm1.backward(dy)  # u = x + f(x)
    return du + attention.backward(du)


x, dz = torch.randn(batch, length, width), torch.randn(batch, length, width)
with record():
    z = forward(x)
    dx = backward(dz)
print("z", tuple(z.shape), " dx", tuple(dx.shape))

# %% [markdown]
# `TransformerEncoderLayer` is these parts under PyTorch's names. With the same weights it gives the same, bit for bit.

# %%
layer = TransformerEncoderLayer(width, heads, hidden, dropout=0.0, batch_first=True)
parts = {"self_attn": attention, "linear1": widen, "linear2": narrow, "norm1": norm1, "norm2": norm2}
layer.load_state_dict({f"{name}.{key}": t for name, part in parts.items() for key, t in part.state_dict().items()})
with record():
    same_z = torch.equal(layer(x), z)
    same_dx = torch.equal(layer.backward(dz), dx)
assert same_z
assert same_dx
print("the class and the lines above: equal outputs", same_z, "- equal gradients", same_dx)

# %% [markdown]
# ## The whole model, with PyTorch's weights
#
# An encoder reads the source; each layer of the decoder looks at the target so far and at what the encoder made of the
# source. The source of the second example is shorter, so its end is padding; the target is masked, so that no token
# sees those after it.

# %%
depth = 3
sizes = {"num_encoder_layers": depth, "num_decoder_layers": depth, "dim_feedforward": hidden, "dropout": 0.0}
theirs = torch.nn.Transformer(width, heads, **sizes, batch_first=True)
ours = Transformer(width, heads, **sizes, batch_first=True)
ours.load_state_dict(theirs.state_dict())

padded = torch.arange(length) >= torch.tensor([[5], [3]])
padding = torch.zeros(batch, length).masked_fill(padded, -torch.inf)  # added to the scores; booleans do as well
target_length = 4
masks = {
    "tgt_mask": Transformer.generate_square_subsequent_mask(target_length),
    "src_key_padding_mask": padding,
    "memory_key_padding_mask": padding,
}
src, tgt, dy = (torch.randn(batch, n, width) for n in (length, target_length, target_length))

leaves = [src.clone().requires_grad_(), tgt.clone().requires_grad_()]
expected = theirs(*leaves, **masks)
expected.backward(dy)
with record() as trace:
    y = ours(src, tgt, **masks)
    calls = len(trace)
    dsrc, dtgt = ours.backward(dy)

differences = {"output": (y - expected).abs().max().item()}
for name, gradient, leaf in zip(("source", "target"), (dsrc, dtgt), leaves, strict=True):
    differences[f"gradient of {name}"] = (gradient - leaf.grad).abs().max().item()
gradients = {
    name: (tensor.grad, dict(theirs.named_parameters())[name].grad) for name, tensor in ours.named_parameters()
}
of_weights = {name: (ours_grad - autograd).abs().max().item() for name, (ours_grad, autograd) in gradients.items()}
for name, difference in differences.items():
    print(f"{name:20} differs from PyTorch's by at most {difference:.1e}")
print(f"{calls} calls were recorded, {len(of_weights)} parameters have a gradient")

# %% [markdown]
# Every parameter's gradient against autograd's. The table shows one layer of each stack, the plot shows all.

# %%
print(f"{'parameter':46} {'norm of gradient':>16} {'difference':>12}")
for name, (ours_grad, _) in gradients.items():
    if ".layers.0." in name:
        print(f"{name:46} {ours_grad.norm().item():16.4f} {of_weights[name]:12.1e}")
worst = max([*differences.values(), *of_weights.values()])
assert worst < 1e-12
print("largest of all differences:", f"{worst:.1e}")

figure, axis = plt.subplots(figsize=(9, 3))
for stack, colour in (("encoder", "tab:blue"), ("decoder", "tab:orange")):
    chosen = [(index, of_weights[name]) for index, name in enumerate(of_weights) if name.startswith(stack)]
    axis.semilogy([index for index, _ in chosen], [max(d, 1e-18) for _, d in chosen], ".", color=colour, label=stack)
axis.axhline(torch.finfo(torch.float64).eps, color="grey", linewidth=1, label="float64's epsilon")
axis.set(xlabel="parameter", ylabel="largest difference", title="handwritten gradients against autograd's")
axis.legend()
figure.tight_layout()

# %% [markdown]
# ## The memory has many readers
#
# Each layer of the decoder looks at the same memory, and its gradient is the sum of what they all send back. Here is
# each one's share.

# %%
memory = torch.randn(batch, length, width)
shares = []
with record():
    streams = tgt
    for decoder_layer in ours.decoder.layers:
        streams = decoder_layer(streams, memory, tgt_mask=masks["tgt_mask"])
    gradient = dy
    for decoder_layer in reversed(ours.decoder.layers):
        gradient, dmemory = decoder_layer.backward(gradient)
        shares.append(dmemory)
for index, share in enumerate(reversed(shares)):
    print(f"layer {index}: norm of its share {share.norm().item():.3f}")
print(f"norm of the sum: {sum(shares).norm().item():.3f}")

# %% [markdown]
# ## Training side by side
#
# The same data, AdamW on both sides, ours with handwritten gradients and PyTorch's with autograd's. The task is to
# give back the source's first tokens.

# %%
ours.zero_grad()
optimizers = [AdamW(ours.parameters(), lr=2e-3), torch.optim.AdamW(theirs.parameters(), lr=2e-3)]
losses, apart = [], []
for _ in range(60):
    src = torch.randn(16, length, width)
    wanted = src[:, :target_length]
    tgt = torch.cat([torch.zeros(16, 1, width), wanted[:, :-1]], 1)
    for optimizer in optimizers:
        optimizer.zero_grad()
    with record():
        y = ours(src, tgt, tgt_mask=masks["tgt_mask"])
        ours.backward(2 * (y - wanted) / y.numel(), input_gradient=False)  # of the mean squared error
    loss = (theirs(src, tgt, tgt_mask=masks["tgt_mask"]) - wanted).pow(2).mean()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    losses.append(((y - wanted).pow(2).mean().item(), loss.item()))
    weights = zip(ours.parameters(), theirs.parameters(), strict=True)
    apart.append(max((own - other).abs().max().item() for own, other in weights))

figure, axes = plt.subplots(1, 2, figsize=(9, 3))
axes[0].plot([own for own, _ in losses], linewidth=4, alpha=0.4, label="ours")
axes[0].plot([other for _, other in losses], "k--", linewidth=1, label="torch.nn")
axes[0].set(xlabel="step", ylabel="mean squared error")
axes[0].legend()
axes[1].semilogy(apart)
axes[1].set(xlabel="step", ylabel="largest difference of weights")
figure.tight_layout()
assert losses[-1][0] < 0.9 * losses[0][0]
assert apart[9] < 1e-9
print(f"error {losses[0][0]:.3f} at first, {losses[-1][0]:.3f} at last")
print(f"weights differ by {apart[9]:.1e} after ten steps and by {apart[-1]:.1e} after {len(apart)}")
