# %% [markdown]
# # From loops to Winograd
#
# One convolution, five ways. All of them compute the same sums,
#
# $$y_{nop} = \sum_{c,k} x_{ncs}\, w_{ock}, \qquad
# s = p \cdot \text{stride} - \text{padding} + k \cdot \text{dilation},$$
#
# and differ in what they ask of a processor. We take the idea of each apart, then hold them against PyTorch's own
# convolution: in time, and in rounding. The pages derive what is only shown here:
# [loops](../docs/plain_convolution.md), [im2col](../docs/im2col.md), [pointwise](../docs/pointwise.md),
# [depthwise](../docs/depthwise.md), [Winograd](../docs/winograd.md), and [the choice](../docs/techniques.md).

# %%
import os
import time

import torch
from ds_cnn import TECHNIQUES, Conv2d, choose_technique, plain_convolution, plain_weight_gradient
from ds_cnn.convolutions.im2col import im2col, weight_matrix, windows
from ds_cnn.convolutions.winograd_transforms import winograd_matrices
from ds_core import record
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

torch.manual_seed(0)
torch.set_num_threads(1)  # for all that is timed below, PyTorch's own too
ROUNDS = 2 if os.environ.get("DS_FAST") else 15
WINDOW = (1, 1), (0, 0), (1, 1), 1  # stride, padding, dilation, groups

# %% [markdown]
# ## 1. Loops
#
# The definition, product by product. Nothing else in this package is so slow or so easy to believe, so the others are
# tested against it.

# %%
x, weight = torch.randn(1, 2, 8, 8), torch.randn(3, 2, 3, 3)
start = time.process_time()
y = plain_convolution(x, weight, None, *WINDOW)
seconds = time.process_time() - start
products = y.numel() * weight[0].numel()
print(f"{products} products, {1e6 * seconds / products:.0f} microseconds each")

# %% [markdown]
# A processor does some billions of products in a second, if it is handed them in the right order. All that follows is
# about handing them over.
#
# ## 2. im2col: every window becomes a row
#
# An image of 5 x 5 has nine windows of 3 x 3. Write each as a row of nine numbers. A filter is a column of nine
# numbers, and the convolution is a matrix product, which is what processors are best at.

# %%
image = torch.arange(25.0).view(1, 5, 5, 1)  # channels last: (N, H, W, C)
seen = windows(image, (3, 3), (3, 3), (1, 1), (1, 1), groups=1)
columns = im2col(seen)[0]  # one group

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for axes, matrix in ((left, image[0, :, :, 0]), (right, columns)):
    axes.imshow(matrix, cmap="viridis", alpha=0.7)
    for row, values in enumerate(matrix.tolist()):
        for column, value in enumerate(values):
            axes.text(column, row, f"{value:g}", ha="center", va="center", fontsize=9)
    axes.axis("off")
for number, color in ((0, "red"), (5, "black")):
    corner = number % 3 - 0.5, number // 3 - 0.5
    left.add_patch(Rectangle(corner, 3, 3, fill=False, edgecolor=color, linewidth=3))
    right.add_patch(Rectangle((-0.5, number - 0.5), 9, 1, fill=False, edgecolor=color, linewidth=3))
left.set_title("the image, two windows framed")
right.set_title("each window as a row")
plt.show()

# %% [markdown]
# Each pixel is there up to nine times. `windows` shows all of them without copying anything, by strides alone; only
# `im2col` writes them out. Here are the real thing and its product:

# %%
last = x.movedim(1, -1).contiguous()
columns = im2col(windows(last, (6, 6), (3, 3), (1, 1), (1, 1), groups=1))[0]
matrix = weight_matrix(weight, groups=1)[0]
by_product = (columns @ matrix).view(1, 6, 6, 3).movedim(-1, 1)
print(
    f"{tuple(columns.shape)} times {tuple(matrix.shape)}: differs from the loops by",
    (by_product - y).abs().max().item(),
)

# %% [markdown]
# The gradients come along for nothing, for they are those of a linear layer. The weight's is $X_{col}^\top\, dY$:

# %%
dy = torch.randn_like(y)
dmatrix = columns.T @ dy.movedim(1, -1).reshape(-1, 3)
by_loops = plain_weight_gradient(dy, x, (3, 3), *WINDOW)
print("differs from the loops by", (dmatrix - weight_matrix(by_loops, groups=1)[0]).abs().max().item())

# %% [markdown]
# ## 3. Pointwise: a window of one pixel
#
# If the kernel has one position, the rows of windows are the pixels themselves. There is nothing to write out, the
# image is already the matrix.

# %%
point = torch.randn(3, 2, 1, 1)
by_product = (point.flatten(1) @ x.flatten(2)).view(1, 3, 8, 8)
print("differs from the loops by", (by_product - plain_convolution(x, point, None, *WINDOW)).abs().max().item())

# %% [markdown]
# ## 4. Depthwise: shifted images
#
# If every filter sees one channel only, there is no sum over channels, and a matrix product of matrices one column wide
# gains nothing. Turn the loops inside out: for each of the nine kernel positions, shift the whole image, multiply it by
# one number, and add. Nine steps of long, even work in the place of many short sums.

# %%
rows, across = torch.meshgrid(torch.arange(26.0), torch.arange(26.0), indexing="ij")
distance = ((rows - 12) ** 2 + (across - 12) ** 2).sqrt()
picture = ((distance > 5) & (distance < 9)).float()
kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])  # Sobel's: dark left, bright right
total = torch.zeros(24, 24)
after = [total.clone()]
for i in range(3):
    for j in range(3):
        total += kernel[i, j] * picture[i : i + 24, j : j + 24]
        after.append(total.clone())

figure, places = plt.subplots(1, 8, figsize=(11, 1.8), layout="constrained")
places[0].imshow(picture, cmap="gray_r")
places[0].set_title("image", fontsize=9)
for axes, count in zip(places[1:], (1, 3, 4, 6, 7, 9), strict=False):
    axes.imshow(after[count], cmap="coolwarm", vmin=-4, vmax=4)
    axes.set_title(f"{count} added", fontsize=9)
exact = plain_convolution(picture.view(1, 1, 26, 26), kernel.view(1, 1, 3, 3), None, *WINDOW)[0, 0]
places[7].imshow(exact, cmap="coolwarm", vmin=-4, vmax=4)
places[7].set_title("the loops", fontsize=9)
for axes in places:
    axes.axis("off")
plt.show()
print("differs from the loops by", (total - exact).abs().max().item())

# %% [markdown]
# ## 5. Winograd: fewer multiplications
#
# So far the products were the same, in another order. Winograd leaves some out. Multiply two polynomials, $d(z)$ of two
# coefficients and $g(z)$ of three: that takes six products of numbers. But the result has four coefficients, and four
# values fix it. At a point $z$ the value is $d(z) \cdot g(z)$, a single multiplication. The points 0, 1 and -1 give
# three; the fourth is the leading coefficient, the value "at infinity".

# %%
d, g = (1.0, 2.0), (0.5, -1.0, 2.0)
z = torch.linspace(-1.3, 1.3, 100)
curve = {"d": d[0] + d[1] * z, "g": g[0] + g[1] * z + g[2] * z**2}
figure, axes = plt.subplots(figsize=(6, 3.2))
axes.plot(z, curve["d"], "--", label="d, two coefficients")
axes.plot(z, curve["g"], "--", label="g, three")
axes.plot(z, curve["d"] * curve["g"], label="d times g, four")
for point in (-1.0, 0.0, 1.0):
    value = (d[0] + d[1] * point) * (g[0] + g[1] * point + g[2] * point**2)
    axes.plot(point, value, "ko")
    axes.annotate(f"{value:g}", (point, value), xytext=(6, -12), textcoords="offset points")
axes.legend(fontsize=8)
axes.set(xlabel="z", title=f"three points, and {d[1] * g[2]:g} at infinity, fix the product")
plt.show()

# %% [markdown]
# A convolution is this, read backwards (the page shows why), and the detour over points becomes three small matrices:
#
# $$y = A^\top \big[(G w) \odot (B^\top x)\big].$$
#
# Two neighbouring outputs of three products each, from four multiplications:

# %%
matrices = winograd_matrices(2)
inputs, of_kernel, outputs = map(torch.tensor, matrices)
print("B^T =", inputs.tolist(), "\nG   =", of_kernel.tolist(), "\nA^T =", outputs.T.tolist())
part, taps = torch.tensor([1.0, 2.0, 0.0, 3.0]), torch.tensor(g)
four = (of_kernel @ taps) * (inputs @ part)
print("four products", four.tolist(), "-> y =", (outputs.T @ four).tolist())
print("by the definition         y =", [(part[:3] @ taps).item(), (part[1:] @ taps).item()])

# %% [markdown]
# The matrices hold only 0, 1 and halves, so multiplying by them is adding. In two dimensions the transforms are applied
# along both axes, and the saving is squared. The kernel's is done once, and the sum over channels is taken between, as
# a matrix product at every point.

# %%
print("multiplications for one output number, one pair of channels")
print("  definition           9")
for tile in (2, 4):
    print(f"  tiles of {tile} x {tile}       {(tile + 2) ** 2 / tile**2:g}")
print("B^T of the 4 x 4 tiles:", *map(list, winograd_matrices(4).inputs), sep="\n  ")

# %% [markdown]
# Larger tiles save more, and their matrices hold larger numbers: 5 here, and 8 in $A$. That is paid for in rounding,
# which is measured below.
#
# ## Against PyTorch, in time
#
# A layer forward and backward, each technique that fits, as a share of the time that `torch.nn.Conv2d` takes for the
# same: 0.8 is faster than PyTorch, 2 is half as fast. The technique takes its turn with PyTorch in every round, and the
# median of the ratios is taken. Images have their channels last in memory, as our layers hand them on. Both run on one
# core; with more of them, or on another processor, the numbers are others.


# %%
def seconds_of(step):
    """Of the processor, so that what else runs on the machine counts less."""
    start = time.process_time()
    step()
    return time.process_time() - start


def our_step(x, arguments, options):
    layer = Conv2d(*arguments, **options)

    def step():
        with record():
            layer.backward(torch.ones_like(layer(x)))

    return step


def their_step(x, arguments, options):
    layer, leaf = torch.nn.Conv2d(*arguments, **options), x.detach().clone().requires_grad_()

    def step():
        y = layer(leaf)
        y.backward(torch.ones_like(y))

    return step


def ratio(x, arguments, options, implementation, rounds=ROUNDS):
    ours = our_step(x, arguments, {**options, "implementation": implementation})
    theirs = their_step(x, arguments, options)
    for step in (ours, theirs):
        step()
    found = sorted(seconds_of(ours) / seconds_of(theirs) for _ in range(rounds))
    return found[len(found) // 2]


# %% [markdown]
# First the loops, on a layer that they can manage. That is not the whole truth: on so small a layer PyTorch is busy
# with being called. So count products in a second as well, PyTorch's on a layer of ordinary size.

# %%
loops = ratio(torch.randn(1, 8, 6, 6), (8, 8, 3), {"padding": 1}, "loops", rounds=1)
print(f"8 to 8 channels, 6 x 6: the loops take {loops:,.0f} times as long as torch.nn")
step = their_step(torch.randn(8, 64, 28, 28), (64, 64, 3), {"padding": 1})
of_step = 3 * 8 * (28 * 28) * 64 * 64 * 9  # forward, and as many for each of two gradients
best = of_step / min(seconds_of(step) for _ in range(1 + ROUNDS))
print(f"products in a second: loops {products / seconds:,.0f}, torch.nn {best / 1e9:.1f} billion")

# %% [markdown]
# Then the others, each on the shapes that it fits.

# %%
GENERAL = ("im2col", "im2col_planes")
WINOGRAD = ("winograd_2x2", "winograd_4x4")
CASES = {
    "3 x 3, 1 to 32": ((8, 1, 28, 28), (1, 32, 3), {"padding": 1}, (*GENERAL, *WINOGRAD)),
    "3 x 3, 16 to 16": ((8, 16, 28, 28), (16, 16, 3), {"padding": 1}, (*GENERAL, *WINOGRAD)),
    "3 x 3, 64 to 64": ((8, 64, 28, 28), (64, 64, 3), {"padding": 1}, (*GENERAL, *WINOGRAD)),
    "3 x 3, 128 to 128": ((8, 128, 28, 28), (128, 128, 3), {"padding": 1}, (*GENERAL, *WINOGRAD)),
    "1 x 1, 64 to 128": ((8, 64, 28, 28), (64, 128, 1), {}, (*GENERAL, "pointwise")),
    "3 x 3, 64 depthwise": ((8, 64, 28, 28), (64, 64, 3), {"padding": 1, "groups": 64}, ("im2col", "depthwise")),
}
measured = {}
for name, (shape, arguments, options, techniques) in CASES.items():
    x = torch.randn(shape).to(memory_format=torch.channels_last)
    measured[name] = {technique: ratio(x, arguments, options, technique) for technique in techniques}
    print(f"{name:20}", "  ".join(f"{technique} {value:.2f}" for technique, value in measured[name].items()))

# %%
colors = dict(zip(TECHNIQUES, plt.colormaps["tab10"].colors, strict=False))
figure, axes = plt.subplots(figsize=(10, 3.8), layout="constrained")
for place, of_case in enumerate(measured.values()):
    for number, (technique, value) in enumerate(of_case.items()):
        axes.bar(place + 0.2 * (number - len(of_case) / 2 + 0.5), value, 0.18, color=colors[technique])
axes.axhline(1, color="black", linewidth=1)
axes.set_yscale("log")
axes.set_yticks([0.5, 1, 2, 4, 8, 16], ["0.5", "1", "2", "4", "8", "16"])
axes.set_xticks(range(len(measured)), measured, fontsize=8)
axes.set(ylabel="time, torch.nn = 1", title="forward and backward of one layer; below the line is faster than torch.nn")
used = {technique for of_case in measured.values() for technique in of_case}
for technique in TECHNIQUES:
    if technique in used:
        axes.bar(0, 0, color=colors[technique], label=technique)
axes.legend(fontsize=8, ncols=3)
plt.show()

# %% [markdown]
# No technique wins everywhere. With one channel a window is nine separate numbers, and planes, which copy whole rows of
# the image, are ahead. Winograd's transforms grow with the number of channels, its savings with the square: at 16
# channels it loses to im2col, at 128 its larger tiles win. For 1 x 1, pointwise saves the copy. And of a depthwise
# convolution, im2col makes many matrices one column wide.
#
# ## What Winograd costs in accuracy
#
# The same convolution in float32, against the definition's sums in float64: the root mean square of the error, as a
# share of the root mean square of the outputs.

# %%
x, weight = torch.randn(2, 64, 28, 28), torch.randn(64, 64, 3, 3)
arguments = (None, (1, 1), (1, 1), (1, 1), 1)
exact = torch.nn.functional.conv2d(x.double(), weight.double(), padding=1)


def error(y):
    return ((y - exact).square().mean().sqrt() / exact.square().mean().sqrt()).item()


errors = {"torch.nn": error(torch.nn.functional.conv2d(x, weight, padding=1))}
for technique in (*GENERAL, *WINOGRAD):
    errors[technique] = error(TECHNIQUES[technique].forward(x, weight, *arguments))
in_double = TECHNIQUES["winograd_4x4"].forward(x.double(), weight.double(), *arguments)
for name, value in {**errors, "winograd_4x4 in float64": error(in_double)}.items():
    print(f"{name:24} {value:.1e}")

figure, axes = plt.subplots(figsize=(6, 2.4), layout="constrained")
eps = torch.finfo(torch.float32).eps
axes.barh(list(errors), [value / eps for value in errors.values()])
axes.invert_yaxis()
axes.set(xlabel=f"relative error in float32, in steps from 1 to the next number, {eps:.1e}")
plt.show()

# %% [markdown]
# The tiles of 4 x 4 lose about one decimal digit of seven. Training does not notice, its gradients are noisier than
# that by far. Who asks for float64 wants the digits, and gets im2col.
#
# ## The choice
#
# One function decides, from shapes, dtype and device alone: the same model takes the same way in every run. A layer can
# be told otherwise, as above, by `implementation=`.

# %%
cpu = torch.device("cpu")
LIST = [
    ("the first layer of a network for digits", (64, 1, 28, 28), (32, 1, 3, 3), (1, 1), (1, 1), 1, torch.float32),
    ("the first layer of ResNet-50", (16, 3, 224, 224), (64, 3, 7, 7), (2, 2), (3, 3), 1, torch.float32),
    ("3 x 3 inside of ResNet-50", (16, 64, 56, 56), (64, 64, 3, 3), (1, 1), (1, 1), 1, torch.float32),
    ("the same in float64", (16, 64, 56, 56), (64, 64, 3, 3), (1, 1), (1, 1), 1, torch.float64),
    ("the same with a stride of 2", (16, 64, 56, 56), (64, 64, 3, 3), (2, 2), (1, 1), 1, torch.float32),
    ("3 x 3 on one small image", (1, 512, 7, 7), (512, 512, 3, 3), (1, 1), (1, 1), 1, torch.float32),
    ("1 x 1 inside of ResNet-50", (16, 256, 56, 56), (64, 256, 1, 1), (1, 1), (0, 0), 1, torch.float32),
    ("depthwise 3 x 3", (16, 64, 56, 56), (64, 1, 3, 3), (1, 1), (1, 1), 64, torch.float32),
    ("eight groups", (16, 64, 56, 56), (64, 8, 3, 3), (1, 1), (1, 1), 8, torch.float32),
]
PASSES = ("forward", "input_gradient", "weight_gradient")
print(f"{'':40}", *(f"{name:16}" for name in PASSES))
for name, shape, of_weight, stride, padding, groups, dtype in LIST:
    chosen = [choose_technique(shape, of_weight, stride, padding, (1, 1), groups, dtype, cpu, of=of) for of in PASSES]
    print(f"{name:40}", *(f"{technique:16}" for technique in chosen))
