# %% [markdown]
# # Ours against PyTorch's, step for step
#
# A character model learns English sentences twice: with this package's recurrent layer, loss, clipping and optimizer,
# whose gradients are written by hand, and with PyTorch's and its autograd. Both begin with the same weights and read
# the same text. If every formula is right, they must stay together, step for step, and write the same text at the end.

# %%
import os

import torch
from ds_core import AdamW, TokenCrossEntropy, clip_grad_norm_, no_record, record
from ds_core.text.example_pairs import shipped_pairs
from ds_rnn import LanguageModelConfig, RNNLanguageModel, TextStreams
from matplotlib import pyplot as plt

FAST = bool(os.environ.get("DS_FAST"))
EMBED, HIDDEN, STREAMS, WINDOW, RATE = 16, 96, 32, 32, 1e-2

# %% [markdown]
# ## The text
#
# The English half of the sentences that come with the package. A token is a character; the model reads 32 places of the
# text side by side, 32 characters a step, and is to say the next character at each of them.

# %%
text = "\n".join(shipped_pairs("en", "de").source)
alphabet = sorted(set(text))
numbers = {character: number for number, character in enumerate(alphabet)}
tokens = torch.tensor([numbers[character] for character in text])
print(f"{len(text):,} characters, {len(alphabet)} different ones; it begins with\n")
print(text[:200])

# %% [markdown]
# ## Two models
#
# The layers of this package have the parameters of their twins in PyTorch, by name and by shape. So the weights of one
# model load into the other as they are.


# %%
class TorchModel(torch.nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.tokens = torch.nn.Embedding(len(alphabet), EMBED)
        layer = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM}[cell]
        self.layers = layer(EMBED, HIDDEN, batch_first=True)
        self.head = torch.nn.Linear(HIDDEN, len(alphabet))

    def forward(self, tokens, state=None):
        y, state = self.layers(self.tokens(tokens), state)
        return self.head(y), state


def two_models(cell, dtype=torch.float64):
    config = LanguageModelConfig(len(alphabet), EMBED, HIDDEN, num_layers=1, cell=cell)
    ours = RNNLanguageModel(config, STREAMS, dtype=dtype, generator=torch.Generator().manual_seed(0))
    theirs = TorchModel(cell).to(dtype)
    loaded = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert not loaded.missing_keys  # all that is left over is the state that our model carries along
    return ours, theirs


ours, theirs = two_models("rnn")
print(ours)
print(theirs)

# %% [markdown]
# ## One step
#
# Before anything is trained: the gradient of every parameter after one window. Ours comes out of `model.backward`,
# without autograd; PyTorch's out of `loss.backward()`.

# %%
streams = TextStreams(tokens, WINDOW, STREAMS)
(inputs, carry), targets = streams.batch(0)
criterion, torch_criterion = TokenCrossEntropy(), torch.nn.CrossEntropyLoss()

with record():
    criterion(ours(inputs, carry), targets)
    ours.backward(criterion.backward())
logits, _ = theirs(inputs)
torch_criterion(logits.flatten(0, 1), targets.flatten()).backward()

torch_parameters = dict(theirs.named_parameters())
for name, parameter in ours.named_parameters():
    gradient = torch_parameters[name].grad
    difference = (parameter.grad - gradient).abs().max().item()
    print(
        f"{name:20} {tuple(gradient.shape)!s:10} largest {gradient.abs().max().item():.1e}, differ by {difference:.1e}"
    )
    assert difference < 1e-12

# %% [markdown]
# ## Many steps
#
# Each window begins with the state in which the one before ended, and no gradient goes back beyond it: truncated
# backpropagation through time. AdamW and clipping follow. Both loops are written out; they look alike, but for
# `record` and `backward`.


# %%
def train_ours(model, steps):
    """Yield the loss of each step, once the step is made."""
    criterion, optimizer = TokenCrossEntropy(), AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    for step in range(steps):
        inputs, targets = streams.batch(step)  # inputs: the tokens, and whether the state is carried
        optimizer.zero_grad()
        with record():
            loss = criterion(model(*inputs), targets)
            model.backward(criterion.backward())
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield loss.item()


def train_theirs(model, steps):
    criterion = torch.nn.CrossEntropyLoss()
    optimizer, state = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01), None
    for step in range(steps):
        (tokens, carry), targets = streams.batch(step)
        if state is not None:
            parts = [part.detach() * carry[:, None] for part in (state if isinstance(state, tuple) else (state,))]
            state = tuple(parts) if len(parts) > 1 else parts[0]
        optimizer.zero_grad()
        logits, state = model(tokens, state)
        loss = criterion(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield loss.item()


def train_side_by_side(cell, steps, dtype=torch.float64):
    """Both models, and for each step: our loss, PyTorch's, the largest difference of a weight."""
    ours, theirs = two_models(cell, dtype)
    torch_parameters = dict(theirs.named_parameters())
    pairs = [(parameter, torch_parameters[name]) for name, parameter in ours.named_parameters()]
    rows = []
    for our_loss, their_loss in zip(train_ours(ours, steps), train_theirs(theirs, steps), strict=True):
        with no_record():
            apart = max((one - other).abs().max().item() for one, other in pairs)
        rows.append((our_loss, their_loss, apart))
    return ours, theirs, torch.tensor(rows, dtype=torch.float64)


def draw(title, rows):
    _, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    left.plot(rows[:, 0], linewidth=4, alpha=0.4, label="ours")
    left.plot(rows[:, 1], "k--", linewidth=0.8, label="PyTorch")
    left.set(title=title, xlabel="step", ylabel="nats a character")
    left.legend()
    right.semilogy((rows[:, 0] - rows[:, 1]).abs(), ".", label="of the losses")
    right.semilogy(rows[:, 2], label="of the weights, the largest")
    right.set(title="difference", xlabel="step")
    right.legend()
    plt.show()


steps = 10 if FAST else 350
ours, theirs, rows = train_side_by_side("rnn", steps)
draw("RNN, float64", rows)
for step in range(0, steps, steps // 10):
    our_loss, their_loss, apart = rows[step].tolist()
    print(f"step {step:4}: ours {our_loss:.12f}, PyTorch {their_loss:.12f}, weights differ by at most {apart:.1e}")
largest = (rows[:, 0] - rows[:, 1]).abs().max().item()
print(f"largest difference of the losses in {steps} steps: {largest:.1e}")
assert largest < 1e-6
assert rows[:, 2].max() < 1e-6
if not FAST:
    assert rows[-20:, 0].mean() < 1.5

# %% [markdown]
# The two curves lie on each other, and what is between them is rounding: sums in another order. Where a point is
# missing on the right, the two losses are equal to the last bit.
#
# In float32 rounding is half a billion times coarser, and so are the differences; on the left nobody could tell. An
# LSTM, whose step has four gates, is another set of formulas, with the same result:

# %%
few = 4 if FAST else 40
_, _, rows32 = train_side_by_side("rnn", few, torch.float32)
draw("RNN, float32", rows32)
_, _, rows_lstm = train_side_by_side("lstm", few)
draw("LSTM, float64", rows_lstm)
assert (rows_lstm[:, 0] - rows_lstm[:, 1]).abs().max() < 1e-6
assert (rows32[:, 0] - rows32[:, 1]).abs().max() < 0.05

# %% [markdown]
# ## The same sample
#
# Both write on, character by character, each drawn by the probabilities that the model gives it, with the same random
# numbers for both. One character drawn differently would change all that follow.


# %%
def write(advance, start, count):
    """`advance` takes tokens (1, T) and a state, and gives logits (1, T, V) and the next state."""
    generator = torch.Generator().manual_seed(0)
    tokens, state, written = torch.tensor([[numbers[character] for character in start]]), None, start
    with torch.no_grad():
        for _ in range(count):
            logits, state = advance(tokens, state)
            probabilities = torch.softmax(logits[0, -1] / 0.7, 0)
            tokens = torch.multinomial(probabilities, 1, generator=generator)[None]
            written += alphabet[int(tokens)]
    return written


length = 40 if FAST else 240
ours_wrote, torch_wrote = write(ours.advance, "The ", length), write(theirs, "The ", length)
print(ours_wrote)
print("\nPyTorch's wrote the same:", ours_wrote == torch_wrote)
assert ours_wrote == torch_wrote

# %% [markdown]
# It has read four fifths of the text, once: enough to spell most words, and to know how long a sentence is. What the
# words say together is beyond it. `ds train char-rnn` trains a larger model for longer.
