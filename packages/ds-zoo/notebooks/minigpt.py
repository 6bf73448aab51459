# %% [markdown]
# # A GPT that learns to write, every gradient by hand
#
# A tiny GPT-2 (two blocks, 64 wide) learns the language of Python's own standard library, one character at a time.
# Nothing is downloaded, and nothing of autograd runs.

# %%
import math
import os

import torch
from ds_core import AdamW, WarmupCosineLR, clip_grad_norm_, record
from ds_zoo import CharacterTokenizer, MiniGPT, MiniGPTConfig, TokenCrossEntropy, generate, standard_library_text
from ds_zoo.minigpt import RandomBlocks
from matplotlib import pyplot as plt

torch.manual_seed(0)
text = standard_library_text(1_000_000)
tokenizer = CharacterTokenizer(text)
tokens = tokenizer.encode(text)
print(f"{len(text):,} characters, {tokenizer.vocab_size} different ones, from which each batch takes random blocks:\n")
inputs, targets = RandomBlocks(tokens, block_size=32, batch_size=1).batch(0)
print(repr(tokenizer.decode(inputs[0])))
print(repr(tokenizer.decode(targets[0])), "<- what follows each character: what is to be predicted")

# %% [markdown]
# The model, and what it writes before it has learned anything.

# %%
config = MiniGPTConfig(tokenizer.vocab_size, block_size=32, num_layers=2, num_heads=2, embed_dim=64, dropout=0.0)
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
batches = RandomBlocks(tokens, block_size=32, batch_size=16)

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
steps = 60 if os.environ.get("DS_FAST") else 600
optimizer = AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.99), weight_decay=0.1)
schedule = WarmupCosineLR(optimizer, warmup_steps=30, total_steps=steps, min_lr=3e-4)
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
# What it writes now: words, indentation, the shape of code. `ds train minigpt` does the same with a larger model,
# a progress bar, checkpoints and a validation split.

# %%
print(write("def "))
