# %% [markdown]
# # What a perceptron can tell apart, and what it cannot
#
# A single unit divides space by one flat boundary. For some flowers that is enough, for others it is not, and for XOR
# it can be proved that it never will be. One hidden layer lifts the limit.

# %%
import torch
from ds_core import SGD, Adam, CrossEntropyLoss, Linear, PerceptronLoss, Sequential, Tanh, no_record, record
from ds_core.data import Loader
from ds_core.plotting import new_figure
from ds_core.recipes.perceptron import gate, iris, mistakes, perceptron
from ds_core.recipes.plots import draw_decision_boundary
from IPython.display import display
from matplotlib import pyplot as plt

torch.manual_seed(0)


def learn(task, epochs):
    """The mistakes on the training rows after each epoch of Rosenblatt's rule, and the perceptron."""
    model, criterion = perceptron(len(task.features)), PerceptronLoss()
    optimizer = SGD(model.parameters(), lr=1.0)
    loader = Loader(task.train, 1, seed=0)
    left = []
    for _ in range(epochs):
        for x, target in loader:
            with record():
                criterion(model(x), target)
                model.backward(criterion.backward())
            optimizer.step()
            optimizer.zero_grad()
        left.append(mistakes(model, task.train))
        if left[-1] == 0:
            break
    return left, model


def side(model):
    """Which side of the boundary each place is on."""

    def predict(places):
        with no_record():
            return (model(places)[:, 0] > 0).long()

    return predict


# %% [markdown]
# ## Flowers
#
# Setosa has small petals. One line tells it from the two others. Versicolor lies between them: no line has it alone on
# one side.

# %%
figure = new_figure(11, 4.5)
curves = {}
for place, species in enumerate(("setosa", "versicolor")):
    task = iris(species, "petal", 0.2, 0)
    curves[species], model = learn(task, 30)
    x, target = task.train.tensors
    axes = figure.add_subplot(1, 2, place + 1)
    draw_decision_boundary(axes, side(model), x, (target[:, 0] > 0).long(), task.classes, task.features)
    print(f"{species}: {curves[species][-1]} mistakes of {len(x)} after {len(curves[species])} epochs")
display(figure)
assert curves["setosa"][-1] == 0 < min(curves["versicolor"])

# %% [markdown]
# Where rows can be divided the rule stops. Where they cannot it goes on changing its mind for ever: each mistake moves
# the line, and makes another.

# %%
plt.figure(figsize=(7, 3))
for species, left in curves.items():
    plt.plot(range(1, len(left) + 1), left, marker="o", markersize=3, label=species)
plt.xlabel("epoch")
plt.ylabel("mistakes")
plt.legend()
plt.show()

# %% [markdown]
# ## XOR
#
# XOR is 1 where exactly one input is. Let $f(x) = w \cdot x + b$ be positive at $(0, 1)$ and $(1, 0)$ and negative at
# $(0, 0)$ and $(1, 1)$. Then
#
# $$f(0, 1) + f(1, 0) > 0 > f(0, 0) + f(1, 1) .$$
#
# But both sides are $w_1 + w_2 + 2b$. There is no such $f$ (Minsky and Papert, *Perceptrons*, 1969).

# %%
for name in ("and", "or", "xor"):
    left, _ = learn(gate(name), 50)
    print(f"{name}: mistakes by epoch {left[:12]}{' ...' if len(left) > 12 else ''}")

# %% [markdown]
# ## A hidden layer
#
# Two hidden units draw two lines; the output looks at which side of both a place is. A smooth activation lets gradients
# through, and the handwritten backward of every layer carries them.

# %%
x, target = gate("xor").train.tensors
classes = (target[:, 0] > 0).long()
model = Sequential(Linear(2, 8), Tanh(), Linear(8, 2))
criterion, optimizer = CrossEntropyLoss(), Adam(model.parameters(), lr=0.05)
losses = []
for _ in range(200):
    with record():
        losses.append(float(criterion(model(x), classes)))
        model.backward(criterion.backward())
    optimizer.step()
    optimizer.zero_grad()
with no_record():
    found = model(x).argmax(1)
print(f"loss {losses[0]:.3f} -> {losses[-1]:.5f}, predictions {found.tolist()}, targets {classes.tolist()}")
assert torch.equal(found, classes)


# %%
def predict(places):
    with no_record():
        return model(places).argmax(1)


figure = new_figure(5, 4.5)
names = ("first input", "second input")
draw_decision_boundary(figure.add_subplot(), predict, x, classes, ("0", "1"), names)
display(figure)
