# %% [markdown]
# # A convolutional network reads digits
#
# What `ds train cnn` does, written out: images, augmentation, network, training, and then a look inside. It learns
# MNIST if the files are on this computer already, else the small digits of scikit-learn. Nothing is downloaded unless
# you say so here:

# %%
DOWNLOAD = False  # True: MNIST is downloaded, once, 12 MB

# %%
import os
import warnings

import torch
from ds_cnn import VGG, Augmented, Normalise, RandomCrop, image_grid, stretch_contrast, tapped
from ds_core import AdamW, CrossEntropyLoss, Trainer, WarmupCosineLR, evaluate, predict
from ds_core.activations.softmax import softmax
from ds_core.data import Loader, cache_folder, load
from ds_core.data.digit_images import FILES
from ds_core.metrics import Accuracy, ConfusionMatrix
from ds_core.plotting import new_figure
from IPython.display import display
from matplotlib import pyplot as plt

warnings.filterwarnings("ignore", "IProgress not found")  # tqdm misses ipywidgets for a bar that is not shown here
fast = bool(os.environ.get("DS_FAST"))
is_here = all((cache_folder() / "mnist" / file).exists() for file in FILES)
name = "mnist" if (DOWNLOAD or is_here) and not fast else "digits"
data = load(name, test=0.4, seed=0)  # MNIST has test images of its own; of the others enough to find mistakes among
images, classes = data.train.tensors
print(f"{name}: {len(data.train)} images of {tuple(images.shape[1:])} to train on, {len(data.test)} to test on")

# %% [markdown]
# ## The network
#
# Stages of 3 x 3 convolutions, each with batch norm and ReLU. Between two stages max pooling halves the image. At the
# end stands the mean of every feature map, and one linear layer on these means. A number is a convolution with so many
# filters, "M" is the pooling.

# %%
if name == "mnist":
    stages, epochs, batch_size, rate = (16, "M", 32, 32, "M", 64, 64), 2, 128, 5e-3
else:
    stages, epochs, batch_size, rate = (32, 32, "M", 64, 64), 1 if fast else 30, 64, 3e-3
torch.manual_seed(0)
model = VGG(stages, 10, channels=1, dropout=0.2)
print(model)
print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters")

# %% [markdown]
# ## Training
#
# Each time an image is seen, it is shifted by up to one pixel: a digit is the same digit a little further to the left.
# What shifts it is drawn from the seed, the epoch and the number of the image, so that a run can be repeated.

# %%
normalise = Normalise.fit(images)
batches = Augmented(Loader(data.train, batch_size, seed=0), [RandomCrop(padding=1)], normalise, seed=0)
validation, test = (
    [(normalise(some), of_them) for some, of_them in Loader(part, None).epoch(0)]
    for part in (data.validation, data.test)
)
steps_an_epoch = batches.steps_per_epoch
steps = epochs * steps_an_epoch
criterion = CrossEntropyLoss(label_smoothing=0.05)
optimizer = AdamW(model.parameters(), lr=rate, weight_decay=0.05)
trainer = Trainer(
    model,
    criterion,
    optimizer,
    schedule=WarmupCosineLR(optimizer, min(100, steps // 20), steps),
    evaluate=lambda model: evaluate(model, validation, criterion, {"accuracy": Accuracy()}),
    evaluate_every=steps_an_epoch,
    progress=False,
)
history = trainer.fit(batches, steps)
print(f"{epochs} epochs in {trainer.seconds:.0f} s")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2))
at = [record["step"] / steps_an_epoch for record in history.training]
left.semilogy(at, [record["loss"] for record in history.training], alpha=0.5, label="training, each step")
at = [record["step"] / steps_an_epoch for record in history.evaluations]
left.semilogy(at, [record["loss"] for record in history.evaluations], "o-", markersize=3, label="validation")
left.set(xlabel="epoch", ylabel="loss")
left.legend()
right.plot(at, [record["accuracy"] for record in history.evaluations], "o-", markersize=3)
right.set(xlabel="epoch", ylabel="validation accuracy")
plt.show()

# %% [markdown]
# The loss does not go to zero, and should not: `label_smoothing=0.05` asks the network to leave five percent of its
# belief to the ten classes in equal shares, and punishes it for being surer.
#
# ## What it gets wrong

# %%
confusion = ConfusionMatrix(10)
found = evaluate(model, test, criterion, {"accuracy": Accuracy(), "confusion": confusion})
figure = new_figure(5, 5)
confusion.draw(figure.add_subplot())
display(figure)
print(f"test accuracy {found['accuracy']:.4f}")

# %% [markdown]
# The test images that it believes in least, counted by the probability that it gives to the true class. Red: it takes
# the image for something else.

# %%
test_images, test_classes = data.test.tensors
probabilities = softmax(predict(model, (some for some, _ in test)), 1)
belief, taken_for = probabilities[torch.arange(len(test_classes)), test_classes], probabilities.argmax(1)
print(f"{int((taken_for != test_classes).sum())} of {len(test_classes)} test images are wrong")
figure, places = plt.subplots(2, 8, figsize=(10, 3))
for axes, number in zip(places.flat, belief.argsort().tolist(), strict=False):
    axes.imshow(test_images[number, 0], cmap="gray_r")
    wrong = taken_for[number] != test_classes[number]
    said = f", not {int(taken_for[number])}" if wrong else ""
    axes.set_title(f"{int(test_classes[number])}{said} ({belief[number]:.0%})", color="r" if wrong else "k", fontsize=9)
for axes in places.flat:
    axes.axis("off")
plt.show()

# %% [markdown]
# ## What it looks for
#
# The filters of the first layer, each stretched from its smallest number, black, to its largest, white. Edges of every
# direction, bright spots, some that look like nothing.

# %%
figure, axes = plt.subplots(figsize=(6, 1.8 if name == "mnist" else 3))
axes.imshow(image_grid(stretch_contrast(model.features[0].weight.detach()), 8, background=1)[0], cmap="gray")
axes.axis("off")
plt.show()

# %% [markdown]
# ## What the layers make of a digit
#
# `tapped` shows what a layer inside the network gives out. Eight maps of each convolution behind its ReLU: the first
# still draw the digit, the last say on a coarse grid where something is that a long row of filters has agreed on.

# %%
chosen = normalise(test_images[:1])
relus = [number for number, layer in enumerate(model.features) if type(layer).__name__ == "ReLU"]
figure, places = plt.subplots(len(relus), 9, figsize=(10, 1.2 * len(relus)), layout="constrained")
model.eval()
for row, number in enumerate(relus):
    with tapped(model.features[number]) as tap:
        model(chosen)
    places[row, 0].imshow(test_images[0, 0], cmap="gray_r")
    maps = tap.outputs[0][0].detach()
    strongest = maps.amax((1, 2)).argsort(descending=True)[:8]
    for axes, one in zip(places[row, 1:], maps[strongest], strict=True):
        axes.imshow(one, cmap="viridis", vmin=0)
    places[row, 0].set_title(f"{tuple(maps.shape)}", fontsize=8)
for axes in places.flat:
    axes.axis("off")
plt.show()

# %% [markdown]
# The eight maps of each row are those with the brightest spot. From the command line, with pictures like these in the
# run folder: `ds train cnn`, and `ds train cnn --dataset mnist` for five epochs of MNIST.
