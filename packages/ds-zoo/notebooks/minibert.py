# %% [markdown]
# # A BERT that fills in blanks, every gradient by hand
#
# A small BERT (two blocks, 64 wide) reads the docstrings of Python's own standard library with some words hidden, and
# learns to guess them from what stands on both sides. Nothing is downloaded, and nothing of autograd runs.

# %%
import math
import os

import torch
from ds_core import AdamW, WarmupCosineLR, clip_grad_norm_, linear, no_record, record
from ds_core.activations.softmax import softmax
from ds_core.optimizers.parameter_groups import decay_groups
from ds_transformers import sinusoidal_encoding
from ds_zoo import MiniBERTConfig, MiniBERTForMaskedLM, WordPieceTokenizer
from ds_zoo.minibert import BigramGuess, MaskedBlocks, TokenDocuments, library_documents
from einops import rearrange
from matplotlib import pyplot as plt

torch.manual_seed(0)
documents = library_documents()
split = int(0.9 * len(documents))
print(f"{len(documents):,} docstrings, such as this one:\n")
for sentence in documents[7]:
    print(" ", sentence)

# %% [markdown]
# ## From words to pieces
#
# WordPiece learns which pieces of words are frequent, and cuts words into them; "##" stands before a piece that
# continues a word.

# %%
sentences = [sentence for document in documents[:split] for sentence in document]
tokenizer = WordPieceTokenizer.train(sentences, vocab_size=512)
training, validation = (TokenDocuments.encode(part, tokenizer) for part in (documents[:split], documents[split:]))
example = "Return the absolute value of the argument."
print(" ".join(tokenizer.token(number) for number in tokenizer.encode(example)))
print(f"\n{len(training.tokens):,} tokens to train on, {len(validation.tokens):,} held out")

# %% [markdown]
# ## What is to be guessed
#
# Forty tokens of a hundred are chosen (BERT chose fifteen, which suffices if one has the time). Most of them become
# [MASK], some another token, some stay. The model is not told which; it is asked for all of them.

# %%
LENGTH = 32
batches = MaskedBlocks(training, tokenizer, LENGTH, batch_size=32, share=0.4)
(seen, _, _), labels = batches.batch(0)
print("the model sees: ", tokenizer.decode(seen[0]))
print("it is asked for:", [tokenizer.token(number) for number in labels[0][labels[0] >= 0].tolist()])

# %% [markdown]
# The model, and one step: forward under `record()`, the gradient of the loss, backward through head, blocks and
# embeddings. The same forward differentiated by PyTorch gives the same gradients.

# %%
config = MiniBERTConfig(
    tokenizer.vocab_size,
    max_length=LENGTH,
    num_layers=2,
    num_heads=4,
    embed_dim=64,
    hidden_dim=256,
    dropout=0.0,
    attention_dropout=0.0,
    initializer_range=0.09,
)
model = MiniBERTForMaskedLM(config)
with torch.no_grad():  # the learned positions begin as sinusoids, so that a neighbour is the same turn away everywhere
    model.bert.embeddings.positions.weight.copy_(0.09 * sinusoidal_encoding(LENGTH, config.embed_dim, base=100.0))
criterion = model.criterion()
with record() as trace:
    loss = criterion(model(seen), labels)
    kept = trace.kept()
    model.backward(criterion.backward())
print(f"{sum(tensor.numel() for tensor in model.parameters()):,} parameters")
print(f"loss {loss:.3f}; guessing among {tokenizer.vocab_size} tokens would be {math.log(tokenizer.vocab_size):.3f}")
print(f"{len(kept)} layers keep {sum(line.bytes for line in kept) / 1e6:.1f} MB")

ours = {name: tensor.grad.clone() for name, tensor in model.named_parameters()}
model.zero_grad()
criterion(model(seen), labels).backward()
worst = max((tensor.grad - ours[name]).abs().max().item() for name, tensor in model.named_parameters())
print(f"largest difference from autograd in {len(ours)} gradients: {worst:.1e}")
model.zero_grad()

# %% [markdown]
# ## Training
#
# That step, many times. BERT begins slowly: at first it learns which tokens are frequent, and the loss stands still.
# Only when its heads have found out where the neighbours are does it fall on.

# %%
steps = 40 if os.environ.get("DS_FAST") else 3000
optimizer = AdamW(decay_groups(model, 0.05), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0)
schedule = WarmupCosineLR(optimizer, warmup_steps=steps // 10, total_steps=steps)
losses = []
for step in range(steps):
    (seen, _, _), labels = batches.batch(step)
    with record():
        loss = criterion(model(seen), labels)
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
axes.set(xlabel="step", ylabel="loss (nats a masked token)")
axes.legend()
print(f"loss {smooth[0]:.2f} -> {smooth[-1]:.2f}")

# %% [markdown]
# How many masked tokens of the held-out text it guesses, beside the baseline that knows which token most often follows
# the one on the left.

# %%
baseline = BigramGuess(training.tokens, tokenizer.vocab_size)
held_out = MaskedBlocks(validation, tokenizer, LENGTH, batch_size=64, seed=1)
right = by_baseline = count = 0
model.eval()
for index in range(5 if os.environ.get("DS_FAST") else 40):
    (seen, _, _), labels = held_out.batch(index)
    with no_record():
        guesses = model(seen).logits.argmax(-1)
    chosen = labels >= 0
    count += int(chosen.sum())
    right += int((guesses == labels)[chosen].sum())
    by_baseline += int((baseline(torch.where(chosen, labels, seen)) == labels)[chosen].sum())
print(f"{right / count:.1%} of {count:,} masked tokens, the baseline {by_baseline / count:.1%}")

# %% [markdown]
# ## Filling in
#
# `ds predict FOLDER --text "..."` does this with a run of `ds train minibert`.


# %%
def likeliest(text, top=5):
    inputs = tokenizer.batch([text])
    with no_record():
        logits = model(**inputs).logits[0]
    masked = inputs["input_ids"][0] == tokenizer.mask_id
    shares, numbers = softmax(logits[masked][0], -1).topk(top)
    return [f"{tokenizer.token(number)} {share:.2f}" for number, share in zip(numbers.tolist(), shares, strict=True)]


for text in (
    "return the [MASK] of the list.",
    "raise [MASK] if the file is not found.",
    "if [MASK] is not none, use it.",
):
    print(f"{text:45} {', '.join(likeliest(text))}")

# %% [markdown]
# ## A look inside: what each head attends to
#
# The probabilities of attention are softmax(Q K^T / sqrt(D)), for each block and head. Here they are computed again
# from what flows into each block. A row says where a token looks.


# %%
def attention_maps(text):
    """The names of the tokens, and for each block the probabilities (heads, T, T)."""
    ids = tokenizer.batch([text])["input_ids"]
    maps = []
    with no_record():
        x = model.bert.embeddings(ids)
        for block in model.bert.blocks:
            attention = block.attention
            packed = linear(x, attention.in_proj_weight, attention.in_proj_bias)[0]
            query, key, _ = (rearrange(p, "t (h d) -> h t d", h=attention.num_heads) for p in packed.chunk(3, -1))
            maps.append(softmax(query @ key.transpose(1, 2) / math.sqrt(attention.head_dim), -1))
            x = block(x)
    return [tokenizer.token(number) for number in ids[0].tolist()], maps


names, maps = attention_maps("return the [MASK] of the list if it is not empty.")
figure, grid = plt.subplots(len(maps), len(maps[0]), figsize=(14, 7.5), squeeze=False)
for layer, heads in enumerate(maps):
    for head, probabilities in enumerate(heads):
        axes = grid[layer][head]
        axes.imshow(probabilities, cmap="viridis", vmin=0, vmax=1)
        axes.set_title(f"block {layer}, head {head}", fontsize=9)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
        axes.set_yticks(range(len(names)), names, fontsize=6)
figure.tight_layout()

# %% [markdown]
# Which neighbour a head looks at, as a mean over held-out texts: a head that looks at the token on its left has its
# peak at -1, one that looks to the right at 1. A bigram model has only the left one of these two.
#
# In block 0 head 3 looks to the left, heads 0 and 2 look to the right, and head 1 looks both ways. Block 1 (its scale
# is another) spreads over the whole text, three of its heads with a little more on the token itself.

# %%
offsets = range(-4, 5)
(seen, _, _), _ = held_out.batch(0)
figure, grid = plt.subplots(1, len(model.bert.blocks), figsize=(11, 3.5), squeeze=False)
with no_record():
    x = model.bert.embeddings(seen)
    for layer, block in enumerate(model.bert.blocks):
        attention = block.attention
        packed = linear(x, attention.in_proj_weight, attention.in_proj_bias)
        query, key, _ = (rearrange(p, "b t (h d) -> b h t d", h=attention.num_heads) for p in packed.chunk(3, -1))
        weights = softmax(query @ key.transpose(2, 3) / math.sqrt(attention.head_dim), -1).mean(0)  # (H, T, T)
        for head in range(attention.num_heads):
            means = [float(torch.diagonal(weights[head], offset).mean()) for offset in offsets]
            grid[0][layer].plot(list(offsets), means, marker="o", label=f"head {head}")
        grid[0][layer].set(title=f"block {layer}", xlabel="where it looks: offset", ylabel="mean attention")
        grid[0][layer].legend(fontsize=8)
        x = block(x)
figure.tight_layout()
