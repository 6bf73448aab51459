# %% [markdown]
# # Images and sentences in one space, every gradient by hand
#
# A small CLIP learns from images and their captions alone: no labels. Each caption is told from the other captions of
# its batch, each image from the other images. Nothing of autograd runs.

# %%
import math
import os
import textwrap

import torch
from ds_core import AdamW, WarmupCosineLR, clip_grad_norm_, no_record, record
from ds_core.optimizers.parameter_groups import decay_groups
from ds_zoo import MiniCLIP, MiniCLIPConfig, TextConfig, VisionConfig
from ds_zoo.miniclip.caption_tokenizer import CaptionTokenizer
from ds_zoo.miniclip.pairs import Preparation
from ds_zoo.miniclip.recipe import ranked
from ds_zoo.miniclip.retrieval import embed_images, embed_texts, retrieval, zero_shot_accuracy
from ds_zoo.miniclip.scene_captions import caption_of
from ds_zoo.minivit.rollout import attention_probabilities
from ds_zoo.scenes import (
    VOCABULARY,
    DigitSize,
    SceneBatches,
    Scenes,
    captioned,
    digit_prompts,
    with_distinct_captions,
)
from ds_zoo.vision.image_processor import ImageProcessor
from matplotlib import pyplot as plt

torch.manual_seed(0)
SIZES = (DigitSize("small", 11, 12), DigitSize("large", 15, 16))
scenes = Scenes(32, (1, 2), sizes=SIZES, jitter=0)

figure, axes = plt.subplots(1, 4, figsize=(12, 3.2))
for index, one in enumerate(axes):
    scene = scenes.scene(index)
    one.imshow(scene.image.permute(1, 2, 0))
    one.set_title(textwrap.fill(captioned([scene])[1][0], 26), fontsize=8)
    one.axis("off")

# %% [markdown]
# A caption becomes token numbers: begin, words, end, and end tokens up to a fixed length. Captions that are equal get
# the same group number, so that none of them counts as a wrong answer for the other's image. Half of the captions leave
# words out: "a three" can be told from "a seven" by the digit alone.

# %%
tokenizer = CaptionTokenizer.train([" ".join(VOCABULARY)], max_length=16)
processor = ImageProcessor(image_mean=0.25, image_std=0.25)
prepare = Preparation(tokenizer, processor, torch.device("cpu"), None, short=0.5)
batches = SceneBatches(scenes, 64, prepare.scenes)
(input_ids, pixel_values), groups = batches.batch(0)
for caption in captioned([scenes.scene(0)])[1][0], caption_of(scenes.scene(0), short=0.5):
    print(caption, "->", tokenizer.encode([caption])[0].tolist())
print(f"images {tuple(pixel_values.shape)}; {len(set(groups.tolist()))} different captions among {len(groups)}")

# %% [markdown]
# The model: a Vision Transformer for images, a causal Transformer for texts. Each ends in a vector of length 1; what is
# compared is their cosine, times a learned scale.

# %%
config = MiniCLIPConfig(
    TextConfig(64, 2, 4, 256, vocab_size=tokenizer.vocab_size, max_length=16, end_token=tokenizer.end_token),
    VisionConfig(128, 3, 4, 512, image_size=32, patch_size=16),
    projection_dim=64,
)
model = MiniCLIP(config)
criterion = model.criterion()
print(f"{sum(tensor.numel() for tensor in model.parameters()):,} parameters")

with record():
    loss = criterion(model(input_ids, pixel_values), groups)
    model.backward(criterion.backward(), input_gradient=False)
print(f"loss {loss:.3f}; to guess among 64 would be {math.log(64):.3f}")

# %% [markdown]
# The same forward differentiated by PyTorch gives the same gradients, that of the scale included.

# %%
ours = {name: tensor.grad.clone() for name, tensor in model.named_parameters()}
model.zero_grad()
criterion(model(input_ids, pixel_values), groups).backward()
worst = max((tensor.grad - ours[name]).abs().max().item() for name, tensor in model.named_parameters())
print(f"largest difference from autograd in {len(ours)} gradients: {worst:.1e}")
print(f"gradient of the scale's logarithm: {ours['similarity.logit_scale'].item():.4f}")
model.zero_grad()

# %% [markdown]
# Training is that step, many times. After each, the scale is kept at 100 or below.

# %%
steps = 20 if os.environ.get("DS_FAST") else 1000
optimizer = AdamW(decay_groups(model, 0.05), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0)
schedule = WarmupCosineLR(optimizer, warmup_steps=min(50, steps // 2), total_steps=steps, min_lr=1e-5)
losses, scales = [], []
for step in range(steps):
    inputs, groups = batches.batch(step)
    with record():
        loss = criterion(model(*inputs), groups)
        model.backward(criterion.backward(), input_gradient=False)
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    schedule.step()
    with torch.no_grad():
        model.similarity.logit_scale.clamp_(max=math.log(100))
    losses.append(float(loss))
    scales.append(float(model.similarity.logit_scale.detach().exp()))

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.5))
left.plot(losses, alpha=0.4)
left.set(xlabel="step", ylabel="contrastive loss")
right.plot(scales)
right.set(xlabel="step", ylabel="scale, exp(logit_scale)")
print(f"loss {losses[0]:.2f} -> {sum(losses[-10:]) / 10:.2f}")

# %% [markdown]
# A look inside: the cosines between captions and images of scenes whose digits training never saw. A bright diagonal is
# what was asked for. Off the diagonal one sees what the model goes by: captions that name the same digits or colours
# are near each other's images.

# %%
held_out = with_distinct_captions(Scenes(32, (1, 2), sizes=SIZES, jitter=0, part="held_out", seed=1), 100)
images, captions = captioned(held_out)
texts, pictures = embed_texts(model, tokenizer, captions), embed_images(model, processor(images))
cosines = texts @ pictures.t()
shown = 14
figure, axes = plt.subplots(figsize=(9, 5.5))
drawn = axes.imshow(cosines[:shown, :shown], vmin=-1, vmax=1, cmap="viridis")
axes.set_yticks(range(shown), captions[:shown], fontsize=7)
axes.set_xlabel("image")
figure.colorbar(drawn, label="cosine")
figure.tight_layout()

# %% [markdown]
# Retrieval: a caption finds its image among 100, and an image its caption. `ds train miniclip` trains five
# times as long.

# %%
for name, value in retrieval(texts, pictures).items():
    print(f"{name}: {value:.2f}")

figure, axes = plt.subplots(2, 5, figsize=(12, 5.6))
for row, query in zip(axes, (0, 1), strict=True):
    for one, found in zip(row, cosines[query].topk(5).indices.tolist(), strict=True):
        one.imshow(images[found].permute(1, 2, 0))
        one.set_title("its own" if found == query else "", fontsize=9)
        one.axis("off")
    row[0].set_title(captions[query] + ("" if int(cosines[query].argmax()) != query else " (its own)"), fontsize=8)

# %% [markdown]
# And the other way round: sentences are ranked for an image, with probabilities by the learned scale.

# %%
choices = ["a large red three", "a small red three", "a large blue three", "a large white nine", captions[2]]
_, probabilities = ranked(model, embed_texts(model, tokenizer, choices), pictures[2:3])
for share, text in sorted(zip(probabilities[0].tolist(), choices, strict=True), reverse=True):
    print(f"{share:.3f}  {text}")

# %% [markdown]
# ## Naming without labels
#
# Ten prompts, "a zero" to "a nine", against new scenes of one digit each, in handwriting that training never saw: the
# nearest prompt is the answer. No label was ever given; the digits have names because captions mention them. The bars
# show the first scene, which the model is sure of, and the one that it is least sure of: a six at the edge, which it
# takes for a four.

# %%
prompts = digit_prompts()
named = embed_texts(model, tokenizer, prompts)
singles = Scenes(32, 1, sizes=SIZES, jitter=0, part="held_out", seed=2)
unnamed = [singles.scene(index) for index in range(100 if os.environ.get("DS_FAST") else 1000)]
images = captioned(unnamed)[0]
answers = torch.cat([scene.class_labels for scene in unnamed])
pictures = embed_images(model, processor(images))
print(f"{zero_shot_accuracy(named, pictures, answers):.1%} of {len(unnamed)} scenes named right; by chance 10%")

_, probabilities = ranked(model, named, pictures)
hardest = int(probabilities.amax(1).argmin())  # the scene that it is least sure of
figure, grid = plt.subplots(2, 2, figsize=(9, 6), width_ratios=(1, 2))
for (left, right), index in zip(grid, (0, hardest), strict=True):
    left.imshow(images[index].permute(1, 2, 0))
    left.set_title(captioned([unnamed[index]])[1][0], fontsize=9)
    left.axis("off")
    right.barh(prompts, probabilities[index])
    right.invert_yaxis()
    right.set(xlabel="probability", xlim=(0, 1))
figure.tight_layout()

# %% [markdown]
# Where the vision tower looks: its class token, whose vector becomes the image's, draws on the four patches.
# In every layer more than half of its attention goes to the patch with the digit, as a mean over the heads. What is
# missing from 1 stays with the class token itself.

# %%
inside = model.vision
shown = images[:6]
rows = []
with no_record():
    x = inside.pre_norm(inside.image_tokens(processor(shown)))
    for block in inside.blocks:
        rows.append(attention_probabilities(block.attention, block.norm1(x))[:, :, 0])  # (6, heads, 5)
        x = block(x)
figure, grid = plt.subplots(1 + len(rows), len(shown), figsize=(10, 7))
for column, image in enumerate(shown):
    grid[0][column].imshow(image.permute(1, 2, 0))
    for layer, row in enumerate(rows):
        patches = row[column].mean(0)[1:].view(2, 2)  # the mean of the heads; the first is the class token itself
        axis = grid[1 + layer][column]
        axis.imshow(patches, cmap="inferno", vmin=0, vmax=1)
        for index, share in enumerate(patches.flatten().tolist()):
            axis.text(
                index % 2,
                index // 2,
                f"{share:.2f}",
                color="black" if share > 0.5 else "white",
                ha="center",
                va="center",
                fontsize=8,
            )
        if column == 0:
            axis.set_title(f"layer {layer}", fontsize=8)
for axis in grid.flat:
    axis.axis("off")
figure.tight_layout()
