# %% [markdown]
# # California housing
#
# Median house values of 20,640 districts in the census of 1990 (Pace and Barry, 1997), from eight numbers about each:
# large enough for a network to beat a linear model, and full of what real tables are full of, long tails and a target
# that is cut off.
#
# The data is downloaded once, checked against its SHA-256, and kept in a cache. Without network, and in CI, this
# notebook makes districts of its own *in the same file format*, with a formula in the place of a market. It says which
# of the two it shows.

# %%
import os
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch
from ds_core import AdamW, SmoothL1Loss, Trainer, UserError, WarmupCosineLR, predict
from ds_core.data import Loader, Standardise, TensorDataset, load
from ds_core.metrics import MeanAbsoluteError, R2Score
from ds_core.recipes.mlp_model import mlp
from matplotlib import pyplot as plt

EPOCHS = 1 if os.environ.get("DS_FAST") else 15


def made_up(folder, districts=8000):
    """`cal_housing.tgz` with invented districts: dear where incomes are high and the coast is near."""
    generator = np.random.default_rng(0)
    longitude, latitude = generator.uniform(-124, -115, districts), generator.uniform(33, 42, districts)
    income = generator.lognormal(1.2, 0.45, districts)
    households = generator.lognormal(6, 0.6, districts).round() + 1
    rooms = (households * generator.normal(5.3, 0.9, districts).clip(1)).round()
    bedrooms = (rooms * generator.normal(0.21, 0.02, districts).clip(0.05)).round() + 1
    people = (households * generator.lognormal(1.1, 0.25, districts)).round() + 1
    age = generator.integers(1, 53, districts)
    inland = (longitude + 0.9 * latitude + 87.5).clip(0)
    value = 60_000 * income * np.exp(-0.35 * inland) + 800 * age + 30_000 * generator.normal(size=districts)
    columns = [longitude, latitude, age, rooms, bedrooms, people, households, income, value.clip(15_000, 500_001)]
    path = folder / "cal_housing.data"
    np.savetxt(path, np.stack(columns, 1), delimiter=",", fmt="%.4f")
    with tarfile.open(folder / "cal_housing.tgz", "w:gz") as archive:
        archive.add(path, "CaliforniaHousing/cal_housing.data")
    path.unlink()


def districts():
    """The real districts where they can be had, else invented ones."""
    if not os.environ.get("DS_FAST"):
        try:
            return load("california_housing", progress=False), "the census of 1990"
        except UserError as error:
            print(f"no real data: {str(error).split(';')[0]}")
    with tempfile.TemporaryDirectory() as folder:
        made_up(Path(folder))
        return load("california_housing", folder=folder), "INVENTED districts"


torch.manual_seed(0)
data, source = districts()
print(f"{source}: {len(data.train)} rows to train on, {len(data.test)} to test on")

# %%
x, y = data.train.tensors
figure, places = plt.subplots(2, 4, figsize=(11, 4), layout="constrained")
for axes, name, column in zip(places.flat, data.feature_names, x.T, strict=True):
    axes.hist(column.clamp(max=float(column.sort().values[int(0.995 * len(column))])), bins=40)
    axes.set_title(name, fontsize=9)
plt.show()

# %%
plt.figure(figsize=(6, 4.5))
plt.scatter(x[:, 7], x[:, 6], c=y, s=2, cmap="viridis")
plt.colorbar(label="median value, 100,000 dollars")
plt.xlabel("longitude")
plt.ylabel("latitude")
plt.title(source)
plt.show()

# %% [markdown]
# ## Long tails
#
# A few districts have a hundred times the rooms of others (holiday homes). Standardised, they would sit fifty
# deviations away and pull at every weight. Their logarithm does not, and a loss that grows linearly for large errors
# (`SmoothL1Loss`) is not pulled by values that were cut off.

# %%
tails = [2, 3, 4, 5]


def tamed(x):
    x = x.clone()
    x[:, tails] = x[:, tails].log()
    return x


inputs, targets = Standardise().fit(tamed(x)), Standardise().fit(y)


def scaled(part):
    x, y = part.tensors
    return TensorDataset(inputs.transform(tamed(x)), targets.transform(y).unsqueeze(1))


train, test = scaled(data.train), scaled(data.test)


# %%
def fit(hidden, lr):
    """A trained network, or linear model, and its losses."""
    torch.manual_seed(0)
    model = mlp(8, hidden, 1, activation="silu")
    loader = Loader(train, 128, seed=0)
    optimizer = AdamW(model.parameters(), lr=lr, weight_decay=1e-3)
    steps = EPOCHS * loader.steps_per_epoch
    trainer = Trainer(
        model, SmoothL1Loss(), optimizer, schedule=WarmupCosineLR(optimizer, min(100, steps), steps), progress=False
    )
    return model, [record["loss"] for record in trainer.fit(loader, steps).training]


results = {"linear": fit((), 3e-3), "network 128-128": fit((128, 128), 3e-3)}
for _, losses in results.values():
    plt.plot(np.convolve(losses, np.ones(50) / 50, mode="valid"), linewidth=1)
plt.legend(results)
plt.xlabel("step")
plt.ylabel("training loss, mean of 50 steps")
plt.show()

# %%
true = targets.inverse_transform(test.tensors[1].squeeze(1))
guesses = {
    name: targets.inverse_transform(predict(model, test.tensors[0].split(1024)).squeeze(1))
    for name, (model, _) in results.items()
}
for name, guess in guesses.items():
    error, score = MeanAbsoluteError(), R2Score()
    error.update(guess, true)
    score.update(guess, true)
    print(f"{source}, {name:16} mean absolute error {1e5 * error.compute():8,.0f} dollars   R2 {score.compute():.3f}")

# %%
figure, places = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
for axes, (name, guess) in zip(places, guesses.items(), strict=True):
    axes.scatter(true, guess, s=2, alpha=0.4)
    axes.plot([0, 5], [0, 5], color="black", linewidth=0.8)
    axes.set(title=f"{name}, {source}", xlabel="true, 100,000 dollars", ylabel="predicted")
plt.show()
