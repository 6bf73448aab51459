# %% [markdown]
# # Average pooling, there and back
#
# A pooling window takes a mean on the way forward. On the way back, every place it looked at gets an equal share of its
# gradient. We shrink a small picture, then watch a single gradient travel back to the places it came from.

# %%
import torch
from ds_cnn import AvgPool2d
from ds_core import record
from matplotlib import pyplot as plt

# %% [markdown]
# A picture of 12 x 12: two bright spots on a slope.

# %%
rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
spots = [torch.exp(-((rows - a) ** 2 + (columns - b) ** 2) / width) for a, b, width in [(3, 3, 4), (8, 7, 8)]]
picture = (spots[0] + spots[1] + columns / 24)[None]  # (1, 12, 12): one channel

# %% [markdown]
# Windows of 4 x 4 that overlap by half. The gradient that arrives is 1 at three outputs and 0 elsewhere.

# %%
pool = AvgPool2d(4, stride=2)
with record():
    small = pool(picture)
    arriving = torch.zeros_like(small)
    arriving[0, 1, 1] = arriving[0, 3, 3] = arriving[0, 3, 4] = 1
    going_back = pool.backward(arriving)

figure, axes = plt.subplots(1, 4, figsize=(12, 3.2))
shown = {"picture": picture, "pooled": small, "gradient that arrives": arriving, "gradient of the picture": going_back}
for axis, (title, image) in zip(axes, shown.items(), strict=True):
    axis.imshow(image[0], cmap="viridis")
    axis.set_title(title)
    axis.axis("off")
figure.tight_layout()

# %% [markdown]
# Each of the three windows spread its 1 over 16 places, 1/16 each; where two windows overlap, their shares add up.

# %%
print(f"shares: {sorted({round(value, 4) for value in going_back.flatten().tolist()})}")
print(f"sum of the gradient: arriving {arriving.sum():g}, of the picture {going_back.sum():g}")

# %% [markdown]
# The same layer gives the same gradient when autograd differentiates its forward, and when PyTorch's own layer does.

# %%
leaf = picture.clone().requires_grad_()
pool(leaf).backward(arriving)
theirs = picture.clone().requires_grad_()
torch.nn.AvgPool2d(4, stride=2)(theirs).backward(arriving)
print("largest difference from autograd:", (leaf.grad - going_back).abs().max().item())
print("largest difference from PyTorch: ", (theirs.grad - going_back).abs().max().item())
