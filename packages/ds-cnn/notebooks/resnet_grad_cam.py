# %% [markdown]
# # Where does a residual network look?
#
# A residual network learns to read digits, and we ask it what it saw. Grad-CAM answers with the gradients that backward
# computes anyway: a feature map matters for a class if the class's number rises with it. Here are the handwritten
# gradients of [`grad_cam.py`](../src/ds_cnn/networks/grad_cam.py); [its page](../docs/grad_cam.md) derives them. At the
# end we check whether the answer can be believed.

# %%
import os

import torch
from ds_cnn import CifarResNet, Normalise, grad_cam, interpolate, tapped
from ds_core import SGD, CrossEntropyLoss, MultiStepLR, Trainer, predict, record
from ds_core.data import Loader, TensorDataset, load
from matplotlib import pyplot as plt

STEPS = 20 if os.environ.get("DS_FAST") else 200
data = load("digits", validation=0.0, test=0.5, seed=0)
normalise = Normalise.fit(data.train.tensors[0])
train = TensorDataset(normalise(data.train.tensors[0]), data.train.tensors[1])
images, classes = data.test.tensors
x = normalise(images)
print(f"{len(train)} images to train on, {len(x)} to ask about")

# %% [markdown]
# ## The network
#
# ResNet-8: one residual block in each of three stages, of 16, 32 and 64 channels. The second and the third halve the
# image, so that an image of 8 x 8 ends on maps of 2 x 2. A block adds what its two convolutions found to what came in;
# its shortcut here has no parameters. Half of the images are kept for the questions: the less it learns from, the more
# mistakes there are to look at.

# %%
torch.manual_seed(0)
model = CifarResNet(8, num_classes=10, channels=1)
print(model.layer2)

# %%
optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
schedule = MultiStepLR(optimizer, [STEPS // 2, 3 * STEPS // 4])
trainer = Trainer(model, CrossEntropyLoss(), optimizer, schedule=schedule, progress=False)
history = trainer.fit(Loader(train, 128, seed=0), STEPS)
model.eval()
logits = predict(model, x.split(256))
says = logits.argmax(1)
right = says == classes
losses = [line["loss"] for line in history.training]
print(f"{STEPS} steps in {trainer.seconds:.0f} s, loss {losses[0]:.3f} at first and {losses[-1]:.4f} at last")
print(f"{int((~right).sum())} of {len(x)} images are wrong")

# %% [markdown]
# ## Grad-CAM in five lines
#
# 1. Forward, and keep the feature maps of one layer.
# 2. Backward from the logit of one class: a one, and zeros for the others.
# 3. The mean of the gradient over each map is the map's weight.
# 4. Add up the maps by their weights. What is positive speaks for the class, the rest is dropped.
# 5. Stretch it over the image.

# %%
asked = int((classes == 3).nonzero()[0])
with tapped(model.layer2) as tap, record():
    of_one = model(x[asked : asked + 1])
    one_hot = torch.zeros_like(of_one)
    one_hot[0, 3] = 1
    model.backward(one_hot)
maps, gradients = tap.outputs[0].detach(), tap.gradients[0]
weights = gradients.mean((2, 3))
coarse = (weights[:, :, None, None] * maps).sum(1, keepdim=True).clamp_min(0)
heat = interpolate(coarse, size=(8, 8), mode="bilinear")
by_library = grad_cam(model, x[asked : asked + 1], torch.tensor([3]), layer="layer2").heat
print("largest difference from grad_cam:", (heat[0] / heat.max() - by_library).abs().max().item())

# %% [markdown]
# The four maps that weigh most, and the two that speak most against a 3:

# %%
order = weights[0].argsort(descending=True).tolist()
figure, places = plt.subplots(1, 9, figsize=(11, 1.7), layout="constrained")
places[0].imshow(images[asked, 0], cmap="gray_r")
for axes, number in zip(places[1:7], [*order[:4], *order[-2:]], strict=True):
    axes.imshow(maps[0, number], cmap="viridis")
    axes.set_title(f"{weights[0, number]:+.3f}", fontsize=9)
for axes, picture, title in ((places[7], coarse, "their sum"), (places[8], heat, "stretched")):
    axes.imshow(picture[0, 0], cmap="inferno")
    axes.set_title(title, fontsize=9)
for axes in places:
    axes.axis("off")
plt.show()

# %% [markdown]
# ## What it gets right, stage by stage
#
# The same question put to each of the three stages. The first sees in full detail, but only short strokes. The last
# knows most, but its four numbers can hardly say where. The second is a compromise.


# %%
def overlay(axes, image, heat, title=""):
    """An image with the heat over it."""
    axes.imshow(image[0], cmap="gray_r")
    axes.imshow(heat, cmap="autumn", alpha=0.8 * heat, vmin=0, vmax=1)
    axes.set_title(title, fontsize=9)


def without_axes(places):
    for axes in places.flat:
        axes.axis("off")
    plt.show()


chosen = [int(((classes == digit) & right).nonzero()[0]) for digit in range(10) if ((classes == digit) & right).any()]
stages = ("layer1", "layer2", "layer3")
figure, places = plt.subplots(4, 10, figsize=(10, 4.4), layout="constrained")
for column, number in enumerate(chosen):
    places[0, column].imshow(images[number, 0], cmap="gray_r")
for row, stage in enumerate(stages, start=1):
    found = grad_cam(model, x[chosen], layer=stage)
    for column, number in enumerate(chosen):
        overlay(places[row, column], images[number], found.heat[column], stage if column == 0 else "")
without_axes(places)

# %% [markdown]
# ## What it gets wrong
#
# Grad-CAM can be asked about any class, so we ask twice: what spoke for what it said, and what spoke for the truth?
# The mistakes of which it was surest come first.

# %%
wrong = (~right).nonzero().flatten()
margin = logits[wrong, says[wrong]] - logits[wrong, classes[wrong]]
wrong = wrong[margin.argsort(descending=True)][:8]
for_said = grad_cam(model, x[wrong], says[wrong], layer="layer2").heat
for_true = grad_cam(model, x[wrong], classes[wrong], layer="layer2").heat
figure, places = plt.subplots(3, 8, figsize=(10, 4.2), layout="constrained")
for column, number in enumerate(wrong.tolist()):
    places[0, column].imshow(images[number, 0], cmap="gray_r")
    overlay(places[1, column], images[number], for_said[column], f"says {int(says[number])}")
    overlay(places[2, column], images[number], for_true[column], f"is {int(classes[number])}")
without_axes(places)

# %% [markdown]
# Much of the heat lies beside the strokes. That there is no ink at some place is evidence too.
#
# ## Can it be believed?
#
# A colourful picture proves nothing. So we rub out a fifth of each digit's ink, on the images that it reads: where the
# map is hottest, where it is coldest, and at random. If the map tells the truth, the first has to hurt most.


# %%
def rub_out(images, score, share):
    """The images without the share of their inked pixels that have the highest score (N, H, W)."""
    ink = images[:, 0] > 0.3
    ranked = torch.where(ink, score, float("-inf")).flatten(1)
    place = ranked.argsort(1, descending=True).argsort(1).view_as(score)
    count = (ink.sum((1, 2)) * share).round()
    return torch.where(place < count[:, None, None], 0.0, images[:, 0]).unsqueeze(1)


torch.manual_seed(0)
kept, truth = images[right], classes[right]


def still_right(score):
    return (predict(model, normalise(rub_out(kept, score, 0.2)).split(256)).argmax(1) == truth).double().mean().item()


at_random = torch.stack([torch.rand(len(kept), 8, 8) for _ in range(5)])
print(f"still right of {len(kept)} images, a fifth of the ink rubbed out")
print(f"  at random          {sum(map(still_right, at_random)) / 5:.1%} in the mean of five draws")
for stage in stages:
    heat = grad_cam(model, normalise(kept), layer=stage).heat + 1e-6 * at_random[0]  # ties are broken at random
    print(f"  by {stage}: hottest {still_right(heat):.1%}, coldest {still_right(-heat):.1%}")

# %% [markdown]
# The maps of the first two stages point at ink that matters: without it the network reads worst. The map of the last
# stage does not, ink from anywhere would do as well: its four numbers cannot say where. On larger images the last stage
# has more of them, and is where one usually looks.
