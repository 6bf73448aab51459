# %% [markdown]
# # Heads and masks
#
# A head of attention answers one question about every token: which others matter to it? Several heads ask several
# questions at once. A mask says which answers are forbidden. Here are three heads whose questions we know, because we
# write their weights ourselves, and every mask a Transformer uses, drawn over them.

# %%
import torch
from ds_core import no_record, record
from ds_transformers import MultiheadAttention, SelfAttention
from matplotlib import pyplot as plt

torch.manual_seed(0)
sentence = ["the", "cat", "saw", "the", "dog", "and", "slept"]
tokens, slots, heads = len(sentence), 8, 3
width = heads * slots

# %% [markdown]
# ## Three heads, by hand
#
# A token is written as two ones: in one of eight slots for its word, in one of eight for its position. So each
# question is a matrix that picks slots:
#
# - head 0, *the token before*: the query of position $i$ asks for position $i - 1$,
# - head 1, *the same word*: query and key are both the word,
# - head 2, *everybody*: the query is zero, all scores are equal.

# %%
words = {word: number for number, word in enumerate(dict.fromkeys(sentence))}


def written(text, start=0):
    """Tokens -> (1, T, width): a one for the word, a one for the position, and slots that no head reads."""
    x = torch.zeros(1, len(text), width)
    for position, word in enumerate(text):
        x[0, position, words[word]] = 1.0
        x[0, position, slots + start + position] = 1.0
    return x


sharpness = 4 * slots**0.5  # a score of 4 where the question is answered, 0 elsewhere
query_weight, key_weight = torch.zeros(2, heads, slots, width)
identity = torch.eye(slots)
earlier = torch.zeros(slots, slots)
for position in range(1, slots):
    earlier[position - 1, position] = 1.0
query_weight[0, :, slots : 2 * slots], key_weight[0, :, slots : 2 * slots] = sharpness * earlier, identity
query_weight[1, :, :slots], key_weight[1, :, :slots] = sharpness * identity, identity

layer = MultiheadAttention(width, heads, batch_first=True)
projections = (query_weight.flatten(0, 1), key_weight.flatten(0, 1), torch.randn(width, width) / width**0.5)
layer.load_state_dict({**layer.state_dict(), "in_proj_weight": torch.cat(projections)})
names = ["the token before", "the same word", "everybody"]


def maps(x, **options):
    """The probabilities of every head, (B, H, T, T)."""
    with no_record():
        return layer(x, x, x, average_attn_weights=False, **options)[1]


def draw(axis, weights, text=sentence, title="", labels=True):
    axis.imshow(weights, cmap="viridis", vmin=0, vmax=1)
    axis.set_title(title, fontsize=9)
    axis.set_xticks(range(len(text)), text if labels else [], rotation=90, fontsize=7)
    axis.set_yticks(range(len(text)), text if labels else [], fontsize=7)


x = written(sentence)
free = maps(x)[0]
figure, axes = plt.subplots(1, heads, figsize=(9, 3.2))
for axis, weights, name in zip(axes, free, names, strict=True):
    draw(axis, weights, title=name)
figure.tight_layout()
for head, name in enumerate(names):
    print(f"{name:17} row of 'saw': {[round(p, 2) for p in free[head, 2].tolist()]}")

# %% [markdown]
# A row is a token that asks, a column one that is asked; each row sums to 1. Head 0 is bright just below the
# diagonal; its first row has nobody before it, all its scores are 0, and it looks at everybody. Head 1 is bright on
# the diagonal, and the two *the* share their attention: they are the same word, wherever they stand. Head 2 is flat.

# %%
torch.testing.assert_close(free.sum(-1), torch.ones(heads, tokens))
assert (free[0].diagonal(-1) > 0.85).all()
torch.testing.assert_close(free[0, 0], torch.full((tokens,), 1 / tokens))
torch.testing.assert_close(free[1, 0, 0], free[1, 0, 3])
torch.testing.assert_close(free[2], torch.full((tokens, tokens), 1 / tokens))

# %% [markdown]
# ## What averaging hides
#
# `MultiheadAttention` returns by default the mean over heads, as PyTorch does.

# %%
with no_record():
    _, averaged = layer(x, x, x)
figure, axis = plt.subplots(figsize=(3.4, 3.2))
draw(axis, averaged[0], title="mean over heads")
figure.tight_layout()

# %% [markdown]
# The sharp stripe of head 0 and the diagonal of head 1 are both there, each at about a third of its strength, on the
# grey of head 2. No head looks like this. The mean tells where the layer looks as a whole; what a head asks, it
# cannot tell.

# %%
torch.testing.assert_close(averaged[0], free.mean(0))
assert averaged[0, 2].max() < 0.4
assert free[0, 2].max() > 0.85
assert free[1, 2].max() > 0.85

# %% [markdown]
# ## Causal, padding, both
#
# A language model may not see what comes later: the **causal** mask hides everything above the diagonal. In a batch,
# a shorter sentence is filled up: the **padding** mask hides those columns. Masked scores become $-\infty$, their
# exponential is 0, and the softmax shares the row among what is left.

# %%
causal = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
padding = torch.tensor([[False] * 5 + [True] * 2])  # "and slept" are not there
cases = {
    "no mask": {},
    "causal": {"attn_mask": causal},
    "padding": {"key_padding_mask": padding},
    "both": {"attn_mask": causal, "key_padding_mask": padding},
}
masked = {name: maps(x, **options)[0] for name, options in cases.items()}
figure, axes = plt.subplots(len(cases), heads, figsize=(7, 8.6))
for row, (name, weights) in zip(axes, masked.items(), strict=True):
    for axis, head in zip(row, range(heads), strict=True):
        draw(axis, weights[head], title=f"{name}: {names[head]}", labels=False)
figure.tight_layout()

# %% [markdown]
# Head 0 only ever looks back, so the causal mask changes little: its first row, which looked at everybody, now has
# itself alone. In head 1 the first *the* can no longer see the second one, while the second still sees the first.
# Head 2 shows the rule best: its rows are $1, \frac12, \frac13, \dots$, equal shares of what may be seen. The padding
# mask cuts off two columns; where the answer to a question stood there, the rest is shared out equally (the last rows
# of heads 0 and 1). The rows of the padding tokens themselves are still computed; nobody reads them. Both masks
# together hide what either hides.

# %%
seen = torch.arange(1, tokens + 1)
for head in range(heads):
    assert masked["causal"][head].triu(1).abs().max() == 0
    assert masked["padding"][head][:, 5:].abs().max() == 0
    assert torch.equal(masked["both"][head] == 0, causal | padding)
torch.testing.assert_close(masked["causal"][2].diagonal(), 1 / seen)
torch.testing.assert_close(masked["padding"][1, 6, :5], torch.full((5,), 1 / 5))
assert masked["causal"][1, 0, 3] == 0
assert masked["causal"][1, 3, 0] > 0.4

# %% [markdown]
# ## A row that may see nobody
#
# Sentences that are to be continued are filled up on the left, so that all end at the same position. The first tokens
# are then padding, and in a causal layer they may see only padding: nobody. The softmax of nothing is 0 / 0. Asked
# for its weights, the layer answers as PyTorch does, NaN; where no weights are asked for, such a token attends to
# nothing, and its output is the bias of `out_proj` alone. `SelfAttention` always does the latter.

# %%
left = torch.tensor([[True, True] + [False] * 5])
blind = maps(x, attn_mask=causal, key_padding_mask=left)[0]
with no_record():
    y, _ = layer(x, x, x, attn_mask=causal, key_padding_mask=left, need_weights=False)
own = SelfAttention(width, heads, causal=True)
own.load_state_dict(layer.state_dict())
with record():
    z = own(x, key_padding_mask=left)
    dx = own.backward(torch.ones_like(z))

figure, axes = plt.subplots(1, heads, figsize=(9, 3.2))
for axis, weights, name in zip(axes, blind, names, strict=True):
    draw(axis, weights, title=name)
figure.tight_layout()
print("gradients of the first three tokens:", dx[0, :3].norm(dim=1).tolist())

# %% [markdown]
# The two white rows are the NaN. The rows below them share what is left, and no NaN has leaked into them. Nor does
# one come back: through the two blind tokens no gradient passes at all, and that of all others is finite.

# %%
assert blind[:, :2].isnan().all()
assert blind[:, 2:].isfinite().all()
torch.testing.assert_close(y[0, :2], layer.out_proj.bias.expand(2, width))
torch.testing.assert_close(z, y)
assert dx[0, :2].abs().max() == 0
assert dx.isfinite().all()

# %% [markdown]
# ## Dropout on probabilities
#
# In training, `dropout=0.3` sets each probability to 0 three times in ten and divides the others by 0.7. A head
# cannot rely on finding one particular token.

# %%
layer.dropout = 0.3
dropped = maps(x)[0]
mean = torch.stack([maps(x)[0] for _ in range(1000)]).mean(0)
layer.dropout = 0.0
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2))
draw(axes[0], free[2], title="everybody, without dropout")
draw(axes[1], dropped[2], title="one draw")
draw(axes[2], mean[2], title="mean of 1000 draws")
figure.tight_layout()
print("rows of one draw sum to", [round(total, 2) for total in dropped[2].sum(1).tolist()])
print(f"largest difference of the mean from the probabilities: {(mean - free).abs().max().item():.3f}")

# %% [markdown]
# The rows of one draw are no longer shares of 1: they sum to more or to less, as the draw wants it. On average they
# are what they were, which is why evaluation needs no correction.

# %%
kept = dropped != 0
torch.testing.assert_close(dropped[kept], (free / 0.7)[kept])
assert dropped[2].sum(1).std() > 0.05
assert (mean - free).abs().max() < 0.1

# %% [markdown]
# ## Grouped heads: who shares what
#
# Keys and values are most of the memory of a cache, so newer models let several heads of queries share one of keys
# and values (Ainslie et al., "GQA", 2023; with a single one, Shazeer, "Fast Transformer Decoding", 2019). We see who
# shares: a gradient is sent into the output of one head at a time, and we look at the weights of which key head it
# arrives. (`out_proj` is the identity here, so that a slice of the output is a head.)

# %%
queries, head_width = 6, 4
embed = queries * head_width
x = torch.randn(2, 5, embed)
shared = {}
for groups in (6, 2, 1):
    attention = SelfAttention(embed, queries, num_kv_heads=groups)
    attention.out_proj.load_state_dict({"weight": torch.eye(embed), "bias": torch.zeros(embed)})
    arriving = torch.zeros(queries, groups)
    for head in range(queries):
        dy = torch.zeros(2, 5, embed)
        dy[:, :, head * head_width : (head + 1) * head_width] = torch.randn(2, 5, head_width)
        attention.zero_grad()
        with record():
            attention(x)
            attention.backward(dy, input_gradient=False)
        keys = attention.in_proj_weight.grad[embed : embed + groups * head_width]
        arriving[head] = keys.reshape(groups, -1).norm(dim=1)
    shared[groups] = arriving

figure, axes = plt.subplots(1, 3, figsize=(7, 3.2), width_ratios=[6, 2, 1])
for axis, (groups, arriving) in zip(axes, shared.items(), strict=True):
    axis.imshow(arriving > 0, cmap="viridis", vmin=0, vmax=1)
    axis.set(title=f"{groups} of keys", xlabel="key head", ylabel="query head", xticks=range(groups))
figure.tight_layout()
for groups in shared:
    print(f"{groups} key heads: a cache keeps {2 * groups * head_width:2} numbers for each token and layer")

# %% [markdown]
# Six heads of keys: each query head has its own, a diagonal. Two: the first three share one, the last three the
# other. One: all share it. A key head gets the sum of the gradients of all that use it.

# %%
for groups, arriving in shared.items():
    expected = torch.arange(queries)[:, None] // (queries // groups) == torch.arange(groups)
    assert torch.equal(arriving > 0, expected)
