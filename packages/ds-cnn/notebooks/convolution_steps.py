# %% [markdown]
# # Watching a convolution, there and back
#
# A convolution has one rule: products of numbers that meet, added up. This notebook plays it in slow motion, forward
# and backward, one product after the other. Nothing is drawn that the loops did not compute:
# [`plain_convolution.py`](../src/ds_cnn/convolutions/plain_convolution.py) yields the steps, and
# [its page](../docs/plain_convolution.md) derives the formulas, whose numbers are cited here.

# %%
import torch
from ds_cnn import Conv2d, animated_png, convolution_steps
from ds_cnn.convolutions.plain_convolution import products
from ds_core import record
from IPython.display import Image, display
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

# %% [markdown]
# An image of 4 x 4 with a bright diagonal, and a filter that answers to diagonals: 1 where it wants light, -1 where it
# wants none.

# %%
image = torch.tensor([[2.0, 0.0, 1.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 1.0, 2.0, 0.0], [1.0, 0.0, 0.0, 2.0]])
kernel = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
x, weight = image.view(1, 1, 4, 4), kernel.view(1, 1, 2, 2)

# %% [markdown]
# ## Forward
#
# Equation (1): the filter lies on a window of the image, the numbers that meet are multiplied, and their sum is one
# number of the output. `convolution_steps` yields each product with the sum so far.

# %%
steps = list(convolution_steps(x, weight))
for step in steps[:4]:
    print(f"output {step.at_y[2:]} += x{step.at_x[2:]} * w{step.at_w[2:]} = {step.product:g}, now {step.total:g}")


# %%
def draw(axes, numbers, title, marked=(), boxed=None, limit=4.0):
    """A matrix as coloured squares with their numbers, some marked, and a window round some."""
    axes.clear()
    axes.imshow(numbers, cmap="coolwarm", vmin=-limit, vmax=limit)
    cells = [(row, column) for row in range(numbers.shape[0]) for column in range(numbers.shape[1])]
    for (row, column), value in zip(cells, numbers.flatten().tolist(), strict=True):
        axes.text(column, row, "" if value != value else f"{value:g}", ha="center", va="center")
    for row, column in marked:
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, linewidth=3))
    if boxed is not None:
        (row, column), (height, width) = boxed
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), width, height, fill=False, linewidth=2, linestyle="--"))
    axes.set_title(title)
    axes.axis("off")


def forward_frames():
    """One frame for each product of the forward pass."""
    figure = Figure(figsize=(9, 3.4), dpi=80, layout="constrained")
    axes = figure.subplots(1, 3)
    output = torch.full((3, 3), float("nan"))
    for step in steps:
        output[step.at_y[2:]] = step.total
        draw(axes[0], image, "image", [step.at_x[2:]], (step.at_y[2:], (2, 2)))
        draw(axes[1], kernel, "filter", [step.at_w[2:]])
        draw(axes[2], output, "output so far", [step.at_y[2:]])
        figure.suptitle(f"{step.window[step.at_w[1:]]:g} x {step.kernel[step.at_w[1:]]:g}: the sum is {step.total:g}")
        yield figure


display(Image(animated_png(forward_frames(), seconds=0.6), format="png"))

# %% [markdown]
# The output is large where the image has a diagonal under the window.
#
# ## Backward
#
# Now the gradient of the output arrives: how much the loss would rise with each output number. Each product of the
# forward pass, once more, in the same order. It had two factors, so it hands two gradients back:
#
# - to the pixel, the arriving gradient times the weight that it met, equation (3);
# - to the weight, the arriving gradient times the pixel that it met, equation (4).
#
# Watch how a pixel in the middle collects from four windows, and how the filter, which was everywhere, collects from
# all of them.

# %%
arriving = torch.tensor([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.5, 0.0, 1.0]])


def backward_frames():
    """One frame for each product that a gradient arrives at."""
    figure = Figure(figsize=(11, 3.4), dpi=80, layout="constrained")
    axes = figure.subplots(1, 4)
    dimage, dkernel = torch.zeros(4, 4), torch.zeros(2, 2)
    for at_y, at_x, at_w in products((1, 1, 3, 3), x.shape, weight.shape, (1, 1), (0, 0), (1, 1), 1):
        dy = float(arriving[at_y[2:]])
        if dy == 0:
            continue
        dimage[at_x[2:]] += dy * float(weight[at_w])
        dkernel[at_w[2:]] += dy * float(x[at_x])
        draw(axes[0], arriving, "gradient that arrives", [at_y[2:]])
        draw(axes[1], kernel, "filter", [at_w[2:]])
        draw(axes[2], dimage, "gradient of the image", [at_x[2:]], (at_y[2:], (2, 2)))
        draw(axes[3], dkernel, "gradient of the filter", [at_w[2:]])
        pixel, number = float(x[at_x]), float(weight[at_w])
        figure.suptitle(f"the pixel gets {dy:g} x {number:g}, the weight gets {dy:g} x {pixel:g}")
        yield figure
    backward_frames.result = dimage, dkernel


display(Image(animated_png(backward_frames(), seconds=0.8), format="png"))

# %% [markdown]
# ## The layer does the same
#
# `Conv2d` runs the same sums by a fast technique; with `implementation="loops"` it runs these loops. Both give what the
# film showed.

# %%
for implementation in ("loops", "vectorized"):
    layer = Conv2d(1, 1, 2, bias=False, implementation=implementation)
    layer.load_state_dict({"weight": weight})
    with record():
        layer(x)
        dx = layer.backward(arriving.view(1, 1, 3, 3))
    dimage, dkernel = backward_frames.result
    print(
        f"{implementation}: largest difference",
        max((dx.view(4, 4) - dimage).abs().max().item(), (layer.weight.grad.view(2, 2) - dkernel).abs().max().item()),
    )
