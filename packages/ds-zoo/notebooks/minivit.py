# %% [markdown]
# # A Transformer that sees, every gradient by hand
#
# A tiny ViT (four blocks, 64 wide) learns to tell handwritten digits apart. An image becomes a sequence: it is cut into
# patches, and each patch is a token. Nothing is downloaded, and nothing of autograd runs.

# %%
import os

import torch
from ds_cnn import Augmented, Normalise, RandomCrop
from ds_core import AdamW, ClassifierOutput, WarmupCosineLR, clip_grad_norm_, no_record, record
from ds_core.data import Loader, TensorDataset, load
from ds_core.optimizers.parameter_groups import decay_groups
from ds_zoo import MiniViTConfig, MiniViTForImageClassification
from ds_zoo.minivit import Labels
from ds_zoo.minivit.rollout import attention_maps, rollout_maps
from matplotlib import pyplot as plt

torch.manual_seed(0)
digits = load("digits", test=0.1, validation=0.1, seed=0, dtype=torch.float32)
images, classes = digits.train.tensors
normalise = Normalise.fit(images)
print(f"{len(images):,} images of {tuple(images.shape[1:])}")

figure, axes = plt.subplots(1, 2, figsize=(7, 3.2))
axes[0].imshow(images[1, 0], cmap="gray")
axes[0].set_title(f"a {int(classes[1])}")
cut = torch.ones(12, 12)  # the same image with gaps between its patches of 2 by 2
for row in range(4):
    for column in range(4):
        patch = images[1, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        cut[3 * row : 3 * row + 2, 3 * column : 3 * column + 2] = patch
axes[1].imshow(cut, cmap="gray")
axes[1].set_title("as 16 tokens")
for axis in axes:
    axis.set_axis_off()

# %% [markdown]
# The model. In front of the patches stands a class token, which has no pixels: the blocks write into it what they find,
# and the classifier reads it. Positions are learned, because attention itself does not know where a token stands.

# %%
config = MiniViTConfig(
    image_size=8,
    patch_size=2,
    num_channels=1,
    num_layers=4,
    num_heads=4,
    embed_dim=64,
    hidden_dim=256,
    initializer_range=0.1,  # the published 0.02 is for a width of 768
)
model = MiniViTForImageClassification(config, Labels.numbered(10))
with torch.no_grad():  # so that whatever the positions hold in the end has been learned
    model.vit.tokens.positions.zero_()
print(f"{sum(tensor.numel() for tensor in model.parameters()):,} parameters, {config.num_tokens} tokens an image")

# %% [markdown]
# One step: forward under `record()`, the loss's gradient, the model's backward. The same forward differentiated by
# PyTorch gives the same gradients.

# %%
batches = Augmented(Loader(TensorDataset(images, classes), 64, seed=0), [RandomCrop(padding=1)], normalise)
criterion = model.criterion()
pixels, labels = batches.batch(0)
with record():
    loss = criterion(model(pixels), labels)
    model.backward(criterion.backward())
ours = {name: tensor.grad.clone() for name, tensor in model.named_parameters()}
model.zero_grad()
criterion(model(pixels), labels).backward()
worst = max((tensor.grad - ours[name]).abs().max().item() for name, tensor in model.named_parameters())
print(f"loss {float(loss):.3f}; largest difference from autograd in {len(ours)} gradients: {worst:.1e}")
model.zero_grad()

# %% [markdown]
# Training is that step, many times. Each image is shifted by up to a pixel at random, anew every time: a ViT has to
# learn that a digit one pixel further is the same digit.

# %%
steps = 30 if os.environ.get("DS_FAST") else 700
optimizer = AdamW(decay_groups(model, 0.1), lr=2e-3, betas=(0.9, 0.99), weight_decay=0.0)
schedule = WarmupCosineLR(optimizer, warmup_steps=steps // 20, total_steps=steps)
losses = []
for step in range(steps):
    pixels, labels = batches.batch(step)
    with record():
        loss = criterion(model(pixels), labels)
        model.backward(criterion.backward(), input_gradient=False)
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    schedule.step()
    losses.append(float(loss))

test_images, test_classes = digits.test.tensors
with no_record():
    found = model(normalise(test_images)).logits.argmax(1)
print(f"{float((found == test_classes).float().mean()):.1%} of {len(found)} test images are told right")
smooth = torch.tensor(losses).unfold(0, 20, 1).mean(1)
figure, axes = plt.subplots(figsize=(7, 4))
axes.plot(losses, alpha=0.3, label="each batch")
axes.plot(range(19, steps), smooth, label="mean of 20")
axes.set(xlabel="step", ylabel="loss")
axes.legend()

# %% [markdown]
# ## A look inside
#
# Where does the class token look? Each row is a layer, each column a head; bright patches are those that it takes most
# from (each picture has a scale of its own). Heads divide the work. Some take nearly everything from one or two
# patches, some follow the strokes, one in layer 1 looks at corners where nothing is drawn, and the last head of the
# last layer looks nearly everywhere.

# %%
shown = normalise(test_images[:8])
maps = attention_maps(model, shown)  # of each layer (8 images, heads, 17 tokens, 17 tokens)
figure, axes = plt.subplots(config.num_layers, config.num_heads + 1, figsize=(8, 6.5))
for layer in range(config.num_layers):
    axes[layer, 0].imshow(test_images[0, 0], cmap="gray")
    axes[layer, 0].set_title(f"layer {layer}", fontsize="small")
    for head in range(config.num_heads):
        axes[layer, head + 1].imshow(maps[layer][0, head, 0, 1:].view(4, 4), cmap="inferno", vmin=0)
for axis in axes.flat:
    axis.set_axis_off()

# %% [markdown]
# Attention rollout follows the mixture through all layers (Abnar and Zuidema, 2020): how much of each patch is in the
# class token at the end. Patches with strokes tend to be brighter than empty ones, but something of every patch has
# arrived.

# %%
heat = rollout_maps(model, shown)
figure, axes = plt.subplots(2, 8, figsize=(10, 2.8))
for column in range(8):
    axes[0, column].imshow(test_images[column, 0], cmap="gray")
    axes[0, column].set_title(f"{int(test_classes[column])}, says {int(found[column])}", fontsize="small")
    axes[1, column].imshow(heat[column], cmap="inferno", vmin=0, vmax=1)
for axis in axes.flat:
    axis.set_axis_off()

# %% [markdown]
# Nobody told the model which patches are neighbours: all positions began as zeros. The cosine between the learned ones
# shows what it found. Each small picture is one patch's position compared with all others; the brightest is the patch
# itself. Its neighbours in the same row are like it, most clearly so at the top and at the bottom. A neighbour above or
# below is only a little more like it than patches further away.

# %%
positions = model.vit.tokens.positions[1:].detach()
positions = positions / positions.square().sum(1, keepdim=True).sqrt()
cosines = (positions @ positions.T).view(4, 4, 4, 4)
figure, axes = plt.subplots(4, 4, figsize=(5, 5))
for row in range(4):
    for column in range(4):
        axes[row, column].imshow(cosines[row, column], cmap="viridis", vmin=-1, vmax=1)
        axes[row, column].set_axis_off()

rows, columns = torch.arange(16) // 4, torch.arange(16) % 4
down, across = (rows[:, None] - rows).abs(), (columns[:, None] - columns).abs()
for name, pairs in {
    "beside each other": (down == 0) & (across == 1),
    "above each other": (down == 1) & (across == 0),
    "all others": (down + across > 1),
}.items():
    print(f"{name}: mean cosine {float(cosines.reshape(16, 16)[pairs].mean()):+.2f}")

# %% [markdown]
# Backward reaches the pixels too. The gradient of a class's logit says which pixels would change it most.

# %%
one = shown[:1]
with record():
    logits = model(one).logits
    dlogits = torch.zeros_like(logits)
    dlogits[0, logits.argmax()] = 1
    dpixels = model.backward(ClassifierOutput(logits=dlogits))
model.zero_grad()
figure, axes = plt.subplots(1, 2, figsize=(6, 3))
axes[0].imshow(test_images[0, 0], cmap="gray")
largest = float(dpixels.abs().max())
axes[1].imshow(dpixels[0, 0], cmap="coolwarm", vmin=-largest, vmax=largest)
axes[1].set_title(f"for {int(logits.argmax())}: red helps, blue hurts")
for axis in axes:
    axis.set_axis_off()

# %% [markdown]
# `ds train minivit` does the same with a progress bar, checkpoints and results, on these digits, on CIFAR-10 or on a
# folder of your own images; `ds predict runs/minivit --image FILE --rollout looked-at.png` draws the rollout.
