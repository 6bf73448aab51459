# %% [markdown]
# # Bars, crosses and squares: a network made of loops
#
# The smallest convolutional network that is still worth looking at. It has four filters of 3 x 3, and all it may know
# of a picture is how well each filter fits where it fits best. From that it has to tell bars from crosses from squares.
#
# `implementation="loops"` makes every convolution and every pooling run as nested Python loops, one product after the
# other, forward and backward: [`plain_convolution.py`](../src/ds_cnn/convolutions/plain_convolution.py) is what runs
# here. That is slow, and small enough to be followed with a finger.

# %%
import itertools
import os
import time

import torch
from ds_cnn import Conv2d, MaxPool2d, animated_png, convolution_steps
from ds_core import Adam, CrossEntropyLoss, Flatten, ReLU, Sequential, record
from IPython.display import Image, display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

PICTURES = 36 if os.environ.get("DS_FAST") else 240
TESTED = 15 if os.environ.get("DS_FAST") else 60
BATCH = 6

# %% [markdown]
# ## The pictures
#
# Seven by seven, drawn here: a bar lies or stands, a cross has short arms or long ones, a square is empty inside. The
# place and the size are drawn at random, and a little noise is added, so that no two are alike.

# %%
KINDS = ("bar", "cross", "square")


def draw(kind, generator):
    """One picture (7, 7)."""

    def whole(low, high):
        return int(torch.randint(low, high + 1, (), generator=generator))

    picture = torch.zeros(7, 7)
    if kind == "bar":
        length = whole(3, 6)
        row, column = whole(0, 6), whole(0, 7 - length)
        picture[row, column : column + length] = 1
        picture = picture.T if whole(0, 1) else picture
    elif kind == "cross":
        arm = whole(1, 2)
        row, column = whole(arm, 6 - arm), whole(arm, 6 - arm)
        picture[row, column - arm : column + arm + 1] = 1
        picture[row - arm : row + arm + 1, column] = 1
    else:
        size = whole(3, 5)
        row, column = whole(0, 7 - size), whole(0, 7 - size)
        picture[row : row + size, column : column + size] = 1
        picture[row + 1 : row + size - 1, column + 1 : column + size - 1] = 0
    return picture + 0.1 * torch.randn(7, 7, generator=generator)


def draw_many(count, seed):
    """Pictures (count, 1, 7, 7) and their classes (count,), the three kinds in turn."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(count) % 3
    return torch.stack([draw(KINDS[kind], generator) for kind in classes]).unsqueeze(1), classes


x, y = draw_many(PICTURES, seed=0)
x_test, y_test = draw_many(300, seed=1)
figure, places = plt.subplots(3, 8, figsize=(8, 3.2))
for number, axes in enumerate(places.T.flat):
    axes.imshow(x[number, 0], cmap="gray_r", vmin=0, vmax=1)
    axes.axis("off")
plt.show()

# %% [markdown]
# ## The network
#
# | layer | what comes out | what it says |
# |---|---|---|
# | convolution, four filters of 3 x 3 | 4 maps of 5 x 5 | how well each filter fits at each place |
# | ReLU | 4 maps of 5 x 5 | where it does not fit, nothing |
# | max pooling over the whole map | 4 numbers | how well it fits at its best place |
# | convolution of 1 x 1 | 3 numbers | what each filter's word counts for each kind |
#
# The pooling forgets where a filter fitted. That is on purpose: a cross is a cross wherever it is.


# %%
def network(implementation, filters=4):
    return Sequential(
        {
            "conv": Conv2d(1, filters, 3, implementation=implementation),
            "relu": ReLU(),
            "pool": MaxPool2d(5, implementation=implementation),
            "mix": Conv2d(filters, 3, 1, implementation=implementation),
            "flatten": Flatten(),
        }
    )


def train(model):
    """One look at each picture; the loss of each step."""
    criterion, optimizer, losses = CrossEntropyLoss(), Adam(model.parameters(), lr=0.05), []
    for pictures, classes in zip(x.split(BATCH), y.split(BATCH), strict=True):
        optimizer.zero_grad()
        with record():
            losses.append(criterion(model(pictures), classes).item())
            model.backward(criterion.backward(), input_gradient=False)
        optimizer.step()
    return losses


def share_right(model, count):
    return (model(x_test[:count]).argmax(1) == y_test[:count]).double().mean().item()


torch.manual_seed(2)
model = network("loops")
untrained = share_right(model, TESTED)
start = time.perf_counter()
losses = train(model)
print(f"{len(losses)} steps of {BATCH} pictures in {time.perf_counter() - start:.0f} s")
print(f"loss: {losses[0]:.3f} in the first step, {sum(losses[-5:]) / 5:.3f} in the mean of the last five")
print(f"right of {TESTED} new pictures: {untrained:.0%} before, {share_right(model, TESTED):.0%} after")

# %%
figure, axes = plt.subplots(figsize=(6, 2.8))
axes.plot(losses)
axes.axhline(torch.tensor(3.0).log().item(), linestyle=":", color="gray")
axes.set(xlabel="step", ylabel="loss", title="dotted: the loss of guessing")
plt.show()

# %% [markdown]
# ## What it learned
#
# A filter is nine numbers, so we can look at all that it knows. Red wants ink, blue wants none. The table on the right
# holds the last layer's weights: red speaks for a kind, blue against it.

# %%
kernels = model.conv.weight[:, 0].detach()
says = model.mix.weight[:, :, 0, 0].detach()


def numbers(axes, matrix, title, limit):
    """A matrix in colours, its numbers in the cells."""
    axes.imshow(matrix, cmap="coolwarm", vmin=-limit, vmax=limit)
    for row, values in enumerate(matrix.tolist()):
        for column, value in enumerate(values):
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=9)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])


figure, places = plt.subplots(1, 5, figsize=(11, 2.6), width_ratios=(1, 1, 1, 1, 1.4), layout="constrained")
for number, axes in enumerate(places[:4]):
    numbers(axes, kernels[number], f"filter {number}", kernels.abs().max())
numbers(places[4], says, "last layer", says.abs().max())
places[4].set_xticks(range(4), [f"filter {number}" for number in range(4)], fontsize=7)
places[4].set_yticks(range(3), KINDS)
plt.show()

# %% [markdown]
# Nobody drew these filters, but two of them can be read. Filter 2 has become a small cross: four arms, and white
# corners. The last layer takes its word for crosses, against the two others. Filter 0 holds two corners of a square,
# one above the other at the right.
#
# ## Where the filters fit
#
# The feature maps of three pictures. The frame marks the best place of each map, the only one that the pooling lets
# through; a map without a frame is zero everywhere.

# %%
figure, places = plt.subplots(3, 5, figsize=(8, 5), layout="constrained")
shown = [int((y_test == kind).nonzero()[0]) for kind in range(3)]
maps = model.relu(model.conv(x_test[shown])).detach()
brightest = maps.max().item()
for row, (number, of_picture) in enumerate(zip(shown, maps, strict=True)):
    places[row, 0].imshow(x_test[number, 0], cmap="gray_r", vmin=0, vmax=1)
    places[row, 0].set_title(KINDS[row], fontsize=10)
    for column, one in enumerate(of_picture):
        axes = places[row, column + 1]
        axes.imshow(one, cmap="viridis", vmin=0, vmax=brightest)
        axes.set_title(f"filter {column}: {one.max():.1f}", fontsize=9)
        if one.max() > 0:
            best_row, best_column = divmod(int(one.argmax()), 5)
            frame = (best_column - 0.5, best_row - 0.5)
            axes.add_patch(Rectangle(frame, 1, 1, fill=False, color="white", linewidth=2))
for axes in places.flat:
    axes.axis("off")
plt.show()

# %% [markdown]
# ## A filter takes a walk
#
# The filter that says most for the cross walks over a cross, window by window. `convolution_steps` is the loop itself:
# it yields every product, and nine of them are one frame. Watch the sum rise when the middle of the cross comes under
# the middle of the filter.

# %%
walker = int(says[1].argmax())
picture = x_test[shown[1] : shown[1] + 1]
of_one = model.conv.weight[walker : walker + 1].detach(), model.conv.bias[walker : walker + 1].detach()
steps = list(convolution_steps(picture, *of_one))
totals = torch.tensor([step.total for step in steps[8::9]]).view(5, 5)


def walk():
    """One frame for each window."""
    figure = Figure(figsize=(8, 2.7), dpi=70, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    output = torch.full((5, 5), float("nan"))
    for (row, column), window in itertools.groupby(steps, key=lambda step: step.at_y[2:]):
        last = list(window)[-1]
        output[row, column] = last.total
        for axes in (left, middle, right):
            axes.clear()
            axes.axis("off")
        left.imshow(picture[0, 0], cmap="gray_r", vmin=0, vmax=1)
        left.add_patch(Rectangle((column - 0.5, row - 0.5), 3, 3, fill=False, color="red", linewidth=2))
        left.set_title("the picture", fontsize=9)
        numbers(middle, last.window[0] * last.kernel[0], f"window times filter {walker}", 2)
        right.imshow(output, cmap="coolwarm", vmin=-totals.abs().max(), vmax=totals.abs().max())
        right.set_title(f"the map; this window: {last.total:.1f}", fontsize=9)
        yield figure


display(Image(animated_png(walk(), seconds=0.5), format="png"))

# %% [markdown]
# ## Was that luck?
#
# In part. The same training from other first weights, now with the fast implementation of the same layers, which takes
# the same steps; then with eight filters instead of four.


# %%
for filters in (4, 8):
    shares, silent = [], []
    for seed in range(2 if os.environ.get("DS_FAST") else 20):
        torch.manual_seed(seed)
        other = network("vectorized", filters)
        train(other)
        shares.append(share_right(other, len(x_test)))
        silent.append(int((other.pool(other.relu(other.conv(x_test))) == 0).all(0).sum()))
    print(f"{filters} filters, {len(shares)} trainings, right of {len(x_test)} new pictures:")
    print("  ", *[f"{share:.0%}" for share in sorted(shares)])
    print(f"   the worst has {silent[shares.index(min(shares))]} filters that fit nowhere in any picture")

# %% [markdown]
# ReLU passes no gradient where nothing fits. A filter that fits nowhere gets none at all and stays as it is: it is
# dead, and the others have to do its work. With four filters there is nothing to spare; eight leave more that live.
