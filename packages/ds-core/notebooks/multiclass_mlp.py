# %% [markdown]
# # Ten classes: a multilayer perceptron reads digits
#
# From images to a trained network, with everything that `ds train mlp` does written out: data, network, loss,
# optimizer, training loop, and what to look at afterwards.

# %%
import os

import torch
from ds_core import AdamW, CrossEntropyLoss, EarlyStopping, Trainer, WarmupCosineLR, evaluate, predict
from ds_core.data import Loader, load
from ds_core.metrics import Accuracy, ConfusionMatrix
from ds_core.plotting import new_figure
from ds_core.recipes.mlp_model import mlp
from ds_core.testing import report
from IPython.display import display
from matplotlib import pyplot as plt

EPOCHS = 2 if os.environ.get("DS_FAST") else 40
torch.manual_seed(0)
data = load("digits", seed=0)
x, y = data.train.tensors
print(data.train, len(data.validation), len(data.test))

# %%
figure, places = plt.subplots(2, 8, figsize=(9, 2.6))
for axes, image, label in zip(places.flat, x, y, strict=False):
    axes.imshow(image[0], cmap="gray_r")
    axes.set_title(int(label), fontsize=8)
    axes.axis("off")
plt.show()

# %% [markdown]
# ## The network
#
# 64 numbers go in, one logit for each digit comes out. The weights begin with He's variance, for half of a ReLU's
# inputs are lost.

# %%
model = mlp(64, (128, 64), 10, dropout=0.2)
print(model)

# %% [markdown]
# Before anything is trained: is every gradient right? `report` holds the handwritten backward of each layer against
# autograd and against finite differences, on a few rows.

# %%
small = mlp(64, (8,), 10, dropout=0.2)
print(report(small, x[:4], CrossEntropyLoss(), y[:4]))

# %% [markdown]
# ## Training
#
# A `Loader` shuffles the rows anew in each epoch and is a pure function of its seed, so that a run can be repeated, and
# taken up after a crash. The `Trainer` takes the steps; after each epoch it measures the validation rows, and stops
# when they no longer become better.

# %%
criterion = CrossEntropyLoss(label_smoothing=0.05)
loader = Loader(data.train, 32, seed=0)
steps = EPOCHS * loader.steps_per_epoch
optimizer = AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
validation, test = (Loader(part, None) for part in (data.validation, data.test))
trainer = Trainer(
    model,
    criterion,
    optimizer,
    schedule=WarmupCosineLR(optimizer, 50, steps),
    evaluate=lambda model: evaluate(model, validation, criterion, {"accuracy": Accuracy()}),
    evaluate_every=loader.steps_per_epoch,
    callbacks=[EarlyStopping(patience=15, restore_best=True)],
    progress=False,
)
history = trainer.fit(loader, steps)
best = max(record["accuracy"] for record in history.evaluations)
print(f"{trainer.step} steps in {trainer.seconds:.1f} s, best validation accuracy {best:.4f}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5))
left.plot([record["step"] for record in history.training], [record["loss"] for record in history.training], alpha=0.4)
left.plot([record["step"] for record in history.evaluations], [record["loss"] for record in history.evaluations])
left.set(xlabel="step", ylabel="loss", title="training (every step) and validation")
right.plot([record["step"] for record in history.evaluations], [record["accuracy"] for record in history.evaluations])
right.set(xlabel="step", ylabel="validation accuracy", ylim=(0.8, 1))
plt.show()

# %% [markdown]
# ## What it gets wrong

# %%
confusion = ConfusionMatrix(10)
found = evaluate(model, test, criterion, {"accuracy": Accuracy(), "confusion": confusion})
print(f"test accuracy {found['accuracy']:.4f}")
figure = new_figure(6, 6)
confusion.draw(figure.add_subplot())
display(figure)

# %%
images, labels = data.test.tensors
logits = predict(model, images.split(64))
wrong = (logits.argmax(1) != labels).nonzero().flatten()
print(f"{len(wrong)} of {len(labels)} test images are wrong")
figure, places = plt.subplots(1, 8, figsize=(9, 1.6))
for axes in places:
    axes.axis("off")
for axes, number in zip(places, wrong, strict=False):
    axes.imshow(images[number, 0], cmap="gray_r")
    axes.set_title(f"{int(logits[number].argmax())}, is {int(labels[number])}", fontsize=8)
plt.show()
