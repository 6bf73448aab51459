# %% [markdown]
# # Digits by loops, and the same without
#
# A network that reads handwritten digits and in which every product of a forward and of a backward pass is one turn of
# a Python loop. It is the network of `ds train cnn-loops`. We train it on a few hundred images, then run the same
# network with the fast implementation of the same layers, and ask two things: is it really the same, and what did the
# loops cost?

# %%
import copy
import os
import time

import torch
from ds_cnn import Normalise
from ds_cnn.recipes.cnn_loops import loop_network
from ds_core import AdamW, CrossEntropyLoss, record
from ds_core.data import load
from matplotlib import pyplot as plt

IMAGES = 24 if os.environ.get("DS_FAST") else 240
BATCH = 8
data = load("digits", seed=0)
normalise = Normalise.fit(data.train.tensors[0])
images, y = (part[:IMAGES] for part in data.train.tensors)
x = normalise(images)
test_images, y_test = data.test.tensors
x_test = normalise(test_images)
print(f"{len(x)} images of {tuple(x.shape[1:])} to learn from, {len(x_test)} to be asked about")

# %% [markdown]
# ## The network
#
# Four filters of 3 x 3 look for strokes; max pooling keeps the best of each 2 x 2; ten filters as large as what is left
# of the image are the ten classes.

# %%
torch.manual_seed(0)
model = loop_network(filters=4, classes=10)
fast = copy.deepcopy(model)
for layer in (fast.conv1, fast.pool, fast.conv2):
    layer.implementation = "vectorized"
print(model)

# %% [markdown]
# How many products is that for one image? Each output number of a convolution is a sum over the filter's numbers.
# Backward has the sum twice, once for the filter and once for the image. The first layer leaves out the second: nobody
# asks how the image should change.

# %%
first, second = 4 * (6 * 6) * (3 * 3), 10 * (4 * 3 * 3)
print(f"conv1 {first}, conv2 {second}: {first + second} in forward, {first + 2 * second} in backward")

# %% [markdown]
# ## Training
#
# One look at each image. The fast network starts with the same weights and takes the same steps.


# %%
def train(model):
    """The loss of each step, and the seconds of all."""
    criterion, optimizer, losses = CrossEntropyLoss(), AdamW(model.parameters(), lr=0.04, weight_decay=0.0), []
    start = time.perf_counter()
    for some, classes in zip(x.split(BATCH), y.split(BATCH), strict=True):
        optimizer.zero_grad()
        with record():
            losses.append(criterion(model(some), classes).item())
            model.backward(criterion.backward(), input_gradient=False)
        optimizer.step()
    return losses, time.perf_counter() - start


untrained = copy.deepcopy(fast)
losses, seconds = train(model)
fast_losses, fast_seconds = train(fast)
last = sum(losses[-10:]) / len(losses[-10:])
print(f"loss: {losses[0]:.3f} in the first step, {last:.3f} in the mean of the last ten")
print(f"loops: {seconds:.1f} s, vectorized: {fast_seconds:.2f} s")
print("largest difference between the losses of the two:", max(map(abs, map(float.__sub__, losses, fast_losses))))

# %%
figure, axes = plt.subplots(figsize=(7, 3))
axes.plot(losses, label="loops")
axes.plot(fast_losses, ".", label="vectorized")
axes.axhline(losses[0] / 2, linestyle=":", color="gray")
axes.set(xlabel="step", ylabel="loss", title="two implementations, one curve; dotted: half of the first loss")
axes.legend()
plt.show()

# %% [markdown]
# ## Is it the same network?
#
# One batch, one backward pass in each implementation, all gradients compared. In float32 they differ by rounding, for
# the sums are taken in another order; if that is the only reason, float64 has to shrink the difference by nine digits.


# %%
def gradients(model, dtype):
    """All gradients of one batch, the image's included, by name."""
    model, criterion = copy.deepcopy(model).to(dtype), CrossEntropyLoss()
    with record():
        criterion(model(x[:4].to(dtype)), y[:4])
        dx = model.backward(criterion.backward())
    return {"image": dx, **{name: weight.grad for name, weight in model.named_parameters()}}


looped = copy.deepcopy(fast)
for layer in (looped.conv1, looped.pool, looped.conv2):
    layer.implementation = "loops"
found = {dtype: (gradients(looped, dtype), gradients(fast, dtype)) for dtype in (torch.float32, torch.float64)}
print(f"{'gradient of':14} {'largest':>8} {'differs in float32':>19} {'in float64':>11}")
for name, by_loops in found[torch.float32][0].items():
    differences = [(pair[0][name] - pair[1][name]).abs().max().item() for pair in found.values()]
    print(f"{name:14} {by_loops.abs().max().item():8.4f} {differences[0]:19.1e} {differences[1]:11.1e}")

# %% [markdown]
# ## What do the loops cost?
#
# The time of one training step. The loops take twice as long for twice the images. The fast network hardly notices
# them at first: of a small batch, most of its time goes into calling the operations, not into multiplying.


# %%
def seconds_of_step(model, count, repeats):
    """The shortest of several runs, which other programs have disturbed least."""
    criterion, some, classes = CrossEntropyLoss(), x_test[:count], y_test[:count]
    model, runs = copy.deepcopy(model), []
    for _ in range(repeats):
        start = time.perf_counter()
        with record():
            criterion(model(some), classes)
            model.backward(criterion.backward(), input_gradient=False)
        runs.append(time.perf_counter() - start)
    return min(runs)


for count, repeats in [(1, 2), (4, 1), (16, 1)][: 2 if os.environ.get("DS_FAST") else 3]:
    slow, quick = seconds_of_step(looped, count, repeats), seconds_of_step(fast, count, 30)
    times = f"{1000 * slow:7.1f} ms by loops, {1000 * quick:5.2f} ms vectorized"
    print(f"{count:3} images: {times}: {slow / quick:.0f} times")
print(f"128 images vectorized: {1000 * seconds_of_step(fast, 128, 30):.2f} ms")

# %% [markdown]
# ## What was learned
#
# The test images are for the fast network, whose weights are the loops' to rounding. Ten of the images, then the
# filters with what they make of one digit.

# %%
logits = fast(x_test).detach()
right = logits.argmax(1) == y_test
before = untrained(x_test).argmax(1) == y_test
print(f"right of {len(y_test)} test images: {int(before.sum())} before, {int(right.sum())} after")

# %%
figure, places = plt.subplots(1, 10, figsize=(10, 1.5))
for number, axes in enumerate(places):
    axes.imshow(test_images[number, 0], cmap="gray_r")
    color = "black" if right[number] else "red"
    axes.set_title(f"{int(logits[number].argmax())}", color=color, fontsize=10)
    axes.axis("off")
figure.suptitle("what it reads; red is wrong", fontsize=10)
plt.show()

# %%
number = int((y_test == 7).nonzero()[0])
maps = fast.relu(fast.conv1(x_test[number : number + 1]))[0].detach()
kernels = fast.conv1.weight[:, 0].detach()
figure, places = plt.subplots(2, 5, figsize=(8, 3.4), layout="constrained")
places[1, 0].imshow(test_images[number, 0], cmap="gray_r")
for column in range(4):
    above, below = places[:, column + 1]
    above.imshow(kernels[column], cmap="coolwarm", vmin=-kernels.abs().max(), vmax=kernels.abs().max())
    above.set_title(f"filter {column}", fontsize=9)
    below.imshow(maps[column], cmap="viridis", vmin=0, vmax=maps.max())
for axes in places.flat:
    axes.axis("off")
figure.suptitle("above: red wants ink, blue wants none; below: where the filter fits", fontsize=10)
plt.show()

# %% [markdown]
# To watch the sums being added in the terminal: `ds train cnn-loops --watch`. The longer training of the recipe, 2,400
# images, brings more.
