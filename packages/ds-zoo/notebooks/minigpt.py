# %% [markdown]
# # A GPT that learns to write, every gradient by hand
#
# A tiny GPT-2 (three blocks, 128 wide) learns the language of Python's own standard library, one character at a time.
# Nothing is downloaded, and nothing of autograd runs.

# %%
import math
import os

import torch
from ds_core import AdamW, WarmupCosineLR, clip_grad_norm_, linear, no_record, record
from ds_core.activations.softmax import softmax
from ds_core.optimizers.parameter_groups import decay_groups
from ds_zoo import CharacterTokenizer, MiniGPT, MiniGPTConfig, TokenCrossEntropy, generate, standard_library_text
from ds_zoo.minigpt import RandomBlocks
from einops import rearrange
from matplotlib import pyplot as plt

BLOCK = 64
torch.manual_seed(0)
text = standard_library_text(1_000_000)
tokenizer = CharacterTokenizer(text)
tokens = tokenizer.encode(text)
print(f"{len(text):,} characters, {tokenizer.vocab_size} different ones, from which each batch takes random blocks:\n")
inputs, targets = RandomBlocks(tokens, BLOCK, batch_size=1).batch(0)
print(repr(tokenizer.decode(inputs[0])))
print(repr(tokenizer.decode(targets[0])), "<- what follows each character: what is to be predicted")

# %% [markdown]
# The model, and what it writes before it has learned anything.

# %%
config = MiniGPTConfig(tokenizer.vocab_size, BLOCK, num_layers=3, num_heads=4, embed_dim=128, dropout=0.0)
model = MiniGPT(config)


def write(prompt, count=200):
    continuation = generate(model, tokenizer.encode(prompt), count, temperature=0.7, seed=0)
    return prompt + tokenizer.decode(continuation)


print(f"{sum(tensor.numel() for tensor in model.parameters()):,} parameters\n")
print(write("def "))

# %% [markdown]
# One step: forward under `record()`, the loss's gradient, the model's backward, which goes through the layers in
# reverse. The trace shows what each layer keeps in between.

# %%
criterion = TokenCrossEntropy()
batches = RandomBlocks(tokens, BLOCK, batch_size=16)

inputs, targets = batches.batch(0)
with record() as trace:
    loss = criterion(model(inputs), targets)
    kept = trace.kept()
    model.backward(criterion.backward())
guess = math.log(tokenizer.vocab_size)
print(f"loss {loss:.3f}; guessing among {tokenizer.vocab_size} characters would be {guess:.3f}")
print(f"{len(kept)} layers keep {sum(line.bytes for line in kept) / 1e6:.1f} MB; the last five:")
for line in kept[-5:]:
    print(f"{line.bytes:>10,} bytes  {line.layer}")

# %% [markdown]
# The same forward differentiated by PyTorch gives the same gradients.

# %%
ours = {name: tensor.grad.clone() for name, tensor in model.named_parameters()}
model.zero_grad()
criterion(model(inputs), targets).backward()
worst = max((tensor.grad - ours[name]).abs().max().item() for name, tensor in model.named_parameters())
print(f"largest difference from autograd in {len(ours)} gradients: {worst:.1e}")
model.zero_grad()

# %% [markdown]
# Training is that step, many times.

# %%
steps = 60 if os.environ.get("DS_FAST") else 1200
optimizer = AdamW(decay_groups(model, 0.1), lr=3e-3, betas=(0.9, 0.99), weight_decay=0.0)
schedule = WarmupCosineLR(optimizer, warmup_steps=min(100, steps // 2), total_steps=steps, min_lr=3e-4)
losses = []
for step in range(steps):
    inputs, targets = batches.batch(step)
    with record():
        loss = criterion(model(inputs), targets)
        model.backward(criterion.backward())
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    schedule.step()
    losses.append(float(loss))

smooth = torch.tensor(losses).unfold(0, 20, 1).mean(1)
figure, axes = plt.subplots(figsize=(7, 4))
axes.plot(losses, alpha=0.3, label="each batch")
axes.plot(range(19, steps), smooth, label="mean of 20")
axes.set(xlabel="step", ylabel="loss (nats a character)")
axes.legend()
print(f"loss {smooth[0]:.2f} -> {smooth[-1]:.2f}")

# %% [markdown]
# What it writes now: keywords, a call with its brackets, whole words beside some that only look like words, and far too
# much indentation. It knows how Python looks, not what it says. `ds train minigpt` does the same with a larger model, a
# progress bar, checkpoints and a validation split.

# %%
for prompt in "def ", "import ", "# Return ":
    print(write(prompt, count=120))
    print("-" * 60)

# %% [markdown]
# ## A look inside: what each head attends to
#
# The probabilities of attention are softmax(Q K^T / sqrt(D)), for each block and head; what comes later is masked. Here
# they are computed again from what flows into each block. A row says where a character looks.
#
# In block 0 most characters look at the few before them. Head 2 there does one thing more: the spaces of an indentation
# look at the line break (↵) that it began with. In block 1 heads reach further back: in head 0 the end of the line and
# the spaces after it look at the opening bracket, in head 1 these spaces look at the colon.


# %%
def attention_maps(tokens):
    """tokens (B, T) -> for each block the probabilities (B, heads, T, T)."""
    later = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).triu(1)
    maps = []
    with no_record():
        x = model.positions(model.tokens(tokens))
        for block in model.blocks:
            attention = block.attention
            packed = linear(block.norm1(x), attention.in_proj_weight, attention.in_proj_bias)
            query, key, _ = (rearrange(p, "b t (h d) -> b h t d", h=attention.num_heads) for p in packed.chunk(3, -1))
            scores = query @ key.transpose(2, 3) / math.sqrt(attention.head_dim)
            maps.append(softmax(scores.masked_fill(later, -math.inf), -1))
            x = block(x)
    return maps


example = "def read(self):\n    return self.data"
maps = attention_maps(tokenizer.encode(example).unsqueeze(0))
names = [character.replace("\n", "\u21b5").replace(" ", "\u00b7") for character in example]
figure, grid = plt.subplots(len(maps), config.num_heads, figsize=(14, 11))
for layer, heads in enumerate(maps):
    for head, probabilities in enumerate(heads[0]):
        axes = grid[layer][head]
        axes.imshow(probabilities, cmap="viridis", vmin=0, vmax=1)
        axes.set_title(f"block {layer}, head {head}", fontsize=9)
        axes.set_xticks(range(len(names)), names, fontsize=6)
        axes.set_yticks(range(len(names)), names, fontsize=6)
figure.tight_layout()

# %% [markdown]
# How far back a head looks, as a mean over 64 blocks of text: 0 is the character itself, 1 the one before it. In block
# 0 every head looks most at the character before, head 0 most strictly. The later blocks spread over many characters.

# %%
inputs, _ = RandomBlocks(tokens, BLOCK, batch_size=64, seed=1).batch(0)
back = range(9)
figure, grid = plt.subplots(1, config.num_layers, figsize=(13, 3.5), sharey=True)
for layer, weights in enumerate(attention_maps(inputs)):
    for head, mean in enumerate(weights.mean(0)):
        grid[layer].plot(
            back, [float(torch.diagonal(mean, -far).mean()) for far in back], marker="o", label=f"head {head}"
        )
    grid[layer].set(title=f"block {layer}", xlabel="characters back", ylabel="mean attention")
    grid[layer].legend(fontsize=8)
figure.tight_layout()
