# %% [markdown]
# # A model that nobody has built for you
#
# An image captioner, put together from the packages: convolutions of ds-cnn look at the image, a Transformer encoder of
# ds-transformers relates what they found, a Transformer decoder writes the caption word by word, and ds-core trains it.
# It looks at scenes of handwritten digits and says "a large red three". Nothing is downloaded.
#
# Every part has a backward of its own. What is left to write is how they hang together, forward and back.

# %%
import os

import torch
from ds_cnn import BatchNorm2d, Conv2d
from ds_core import (
    AdamW,
    Embedding,
    LayerNorm,
    Linear,
    Module,
    Sequential,
    SiLU,
    TokenCrossEntropy,
    WarmupCosineLR,
    clip_grad_norm_,
    no_record,
    record,
)
from ds_core.testing import report
from ds_transformers import (
    LearnedPositions,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)
from ds_zoo.scenes import Scenes, describe
from matplotlib import pyplot as plt

torch.manual_seed(0)
size, width = 32, 96

# %% [markdown]
# ## Scenes and captions
#
# One digit in each: two sizes, eight colours, ten digits. The test scenes show handwriting that training never sees.

# %%
scenes = Scenes(size, 1)
held_out = Scenes(size, 1, part="held_out")

figure, axes = plt.subplots(1, 6, figsize=(12, 2.4))
for index, axis in enumerate(axes):
    scene = scenes.scene(index)
    axis.imshow(scene.image.permute(1, 2, 0))
    axis.set_title(describe(scene), fontsize=9)
    axis.axis("off")
plt.show()

# %% [markdown]
# A caption is its words, a beginning and an end. The loss does not count what stands behind the end (-100).

# %%
words = ["<begin>", "<end>", *sorted({word for index in range(500) for word in describe(scenes.scene(index)).split()})]
numbers = {word: number for number, word in enumerate(words)}
BEGIN, END, IGNORED, LONGEST = 0, 1, -100, 5


def batch(source, first, count):
    """Images (B, 3, H, W), the words so far (B, T) and the word that follows each (B, T)."""
    chosen = [source.scene(first + index) for index in range(count)]
    images = torch.stack([scene.image for scene in chosen]).float() / 127.5 - 1
    inputs, targets = torch.zeros(count, LONGEST, dtype=torch.int64), torch.full((count, LONGEST), IGNORED)
    for row, scene in enumerate(chosen):
        caption = torch.tensor([numbers[word] for word in describe(scene).split()])
        inputs[row, 1 : len(caption) + 1] = caption
        targets[row, : len(caption)] = caption
        targets[row, len(caption)] = END
    return images, inputs, targets


images, inputs, targets = batch(scenes, 0, 1)
print([words[number] for number in inputs[0]])
print([words[number] if number >= 0 else "-" for number in targets[0]])

# %% [markdown]
# ## The model
#
# `forward` calls the parts; `backward` calls their backwards in the reverse order. The decoder has two inputs, so it
# returns two gradients, one for the words and one for the image's tokens.


# %%
def convolution(inputs, outputs, stride):
    return Sequential(Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), BatchNorm2d(outputs), SiLU())


class Captioner(Module):
    def __init__(self, vocabulary, width=width, heads=4, hidden=192):
        # 32 x 32 pixels become 8 x 8 tokens
        self.eye = Sequential(convolution(3, 32, 1), convolution(32, 64, 2), convolution(64, width, 2))
        self.places = LearnedPositions(64, width)
        layer = TransformerEncoderLayer(width, heads, hidden, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = TransformerEncoder(layer, 1, LayerNorm(width))
        self.words = Embedding(vocabulary, width)
        self.order = LearnedPositions(LONGEST, width)
        layer = TransformerDecoderLayer(width, heads, hidden, dropout=0.0, batch_first=True, norm_first=True)
        self.decoder = TransformerDecoder(layer, 2, LayerNorm(width))
        self.head = Linear(width, vocabulary)

    def forward(self, images, words):
        """images (B, 3, 32, 32), words (B, T) -> the logits of the word after each (B, T, V)."""
        seen = self.eye(images)  # (B, E, 8, 8)
        self.save(seen.shape)
        memory = self.encoder(self.places(seen.flatten(2).transpose(1, 2)))  # (B, 64, E)
        said = self.order(self.words(words))  # (B, T, E)
        causal = torch.ones(words.shape[1], words.shape[1], dtype=torch.bool).triu(1)
        return self.head(self.decoder(said, memory, tgt_mask=causal))

    def backward(self, dlogits, *, input_gradient=True):
        dsaid, dmemory = self.decoder.backward(self.head.backward(dlogits))
        self.words.backward(self.order.backward(dsaid))
        dtokens = self.places.backward(self.encoder.backward(dmemory))
        (shape,) = self.saved()
        dseen = dtokens.transpose(1, 2).reshape(shape)
        return self.eye.backward(dseen, input_gradient=input_gradient)


# %% [markdown]
# Is that right? One call compares every gradient with autograd and with finite differences, in float64. Forget a term,
# or call two backwards in the wrong order, and it says so.

# %%
tiny = Captioner(len(words), width=8, heads=2, hidden=8)
for line in str(report(tiny, (images, inputs), TokenCrossEntropy(), targets)).splitlines()[-8:]:
    print(line)

# %% [markdown]
# ## Training

# %%
model = Captioner(len(words))
criterion = TokenCrossEntropy()
steps, rows = (10 if "DS_FAST" in os.environ else 700), 64
optimizer = AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
schedule = WarmupCosineLR(optimizer, warmup_steps=steps // 14, total_steps=steps)
losses = []
for step in range(steps):
    images, inputs, targets = batch(scenes, step * rows, rows)
    with record():
        loss = criterion(model(images, inputs), targets)
        model.backward(criterion.backward(), input_gradient=False)
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    schedule.step()
    losses.append(float(loss))
    if step % 100 == 0:
        print(f"step {step}: loss {losses[-1]:.3f}")

plt.figure(figsize=(6, 3))
plt.plot(losses)
plt.xlabel("step")
plt.ylabel("loss in nats a word")
plt.show()

# %% [markdown]
# ## What it says
#
# The likeliest word, then the likeliest after that one, until the end.

# %%
model.eval()


def caption(images):
    said = torch.zeros(len(images), 1, dtype=torch.int64)
    with no_record():
        for _ in range(LONGEST - 1):
            said = torch.cat([said, model(images, said)[:, -1:].argmax(2)], 1)
    rows = [[words[number] for number in row if number != BEGIN] for row in said.tolist()]
    return [" ".join(row[: row.index("<end>")] if "<end>" in row else row) for row in rows]


images, inputs, _ = batch(held_out, 0, 200)
wanted = [describe(held_out.scene(index)) for index in range(200)]
found = caption(images)
right = sum(a == b for a, b in zip(found, wanted, strict=True))
print(f"{right} of {len(wanted)} captions of unseen handwriting are right, word for word")

figure, axes = plt.subplots(1, 6, figsize=(12, 2.6))
for axis, image, said, true in zip(axes, images, found, wanted, strict=False):
    axis.imshow(image.permute(1, 2, 0) / 2 + 0.5)
    axis.set_title(said if said == true else f"{said}\n({true})", fontsize=9, color="black" if said == true else "red")
    axis.axis("off")
plt.show()
