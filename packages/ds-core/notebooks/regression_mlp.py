# %% [markdown]
# # A number instead of a class: regression
#
# How far diabetes has progressed after a year, from ten measurements (Efron et al., "Least Angle Regression", 2004). A
# linear model, a network, and the question whether the network is worth it.

# %%
import os

import torch
from ds_core import AdamW, EarlyStopping, MSELoss, Trainer, evaluate, predict
from ds_core.data import Loader, Standardise, TensorDataset, load
from ds_core.metrics import MeanAbsoluteError, R2Score
from ds_core.recipes.mlp_model import mlp
from matplotlib import pyplot as plt

EPOCHS = 5 if os.environ.get("DS_FAST") else 200
data = load("diabetes", seed=0)
print(data.feature_names)
x, y = data.train.tensors
print(f"{len(x)} rows to learn from; the target goes from {float(y.min()):.0f} to {float(y.max()):.0f}")

# %% [markdown]
# ## One scale for everything
#
# Ages are tens, blood pressures hundreds. Gradient descent has one learning rate for all, so each column is brought to
# mean 0 and variance 1, and so is the target. Mean and variance are those of the *training* rows; the others are scaled
# by the same numbers.

# %%
inputs, targets = Standardise().fit(x), Standardise().fit(y)


def scaled(part):
    x, y = part.tensors
    return TensorDataset(inputs.transform(x), targets.transform(y).unsqueeze(1))


train, validation, test = map(scaled, (data.train, data.validation, data.test))

# %% [markdown]
# ## Two models, one loop
#
# With no hidden layer `mlp` is a linear model, and least squares has a closed form to compare it with.

# %%
curves, models = {}, {}
for name, hidden in (("linear", ()), ("network", (64,))):
    torch.manual_seed(0)
    model = mlp(10, hidden, 1)
    loader = Loader(train, 32, seed=0)
    trainer = Trainer(
        model,
        MSELoss(),
        AdamW(model.parameters(), lr=3e-3, weight_decay=0.1),
        evaluate=lambda model: evaluate(model, Loader(validation, None), MSELoss()),
        evaluate_every=loader.steps_per_epoch,
        callbacks=[EarlyStopping(patience=20, restore_best=True)],
        progress=False,
    )
    curves[name] = trainer.fit(loader, EPOCHS * loader.steps_per_epoch).evaluations
    models[name] = model
    print(f"{name}: stopped after {trainer.step} steps, best validation loss {trainer.best['loss']:.3f}")

# %%
plt.figure(figsize=(7, 3.5))
for name, records in curves.items():
    plt.plot([record["step"] for record in records], [record["loss"] for record in records], label=name)
plt.xlabel("step")
plt.ylabel("validation loss")
plt.ylim(0, 1.5)
plt.legend()
plt.show()

# %% [markdown]
# ## Errors in the target's own unit

# %%
x, y = test.tensors
true = targets.inverse_transform(y.squeeze(1))
design = torch.cat([train.tensors[0], torch.ones(len(train), 1)], 1)
solution = torch.linalg.lstsq(design, train.tensors[1]).solution
guesses = {
    "mean of the training rows": torch.full_like(true, float(data.train.tensors[1].mean())),
    "least squares": targets.inverse_transform((torch.cat([x, torch.ones(len(x), 1)], 1) @ solution).squeeze(1)),
    **{name: targets.inverse_transform(predict(model, [x]).squeeze(1)) for name, model in models.items()},
}
for name, guess in guesses.items():
    error, score = MeanAbsoluteError(), R2Score()
    error.update(guess, true)
    score.update(guess, true)
    print(f"{name:26} mean absolute error {error.compute():6.2f}   R2 {score.compute():6.3f}")

# %% [markdown]
# On 400 rows a network is hardly better than a line, and two splits differ by more than the two models do. That is the
# lesson: look at a simple model first. On larger tables ([california_housing](california_housing.ipynb)) it is
# otherwise.

# %%
figure, places = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
for axes, name in zip(places, ("linear", "network"), strict=True):
    axes.scatter(true, guesses[name], s=12)
    axes.plot([50, 330], [50, 330], color="black", linewidth=0.8)
    axes.set(title=name, xlabel="true", ylabel="predicted")
plt.show()
