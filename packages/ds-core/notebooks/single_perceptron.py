# %% [markdown]
# # A single perceptron
#
# One unit, one rule, and a proof that it ends. We learn the gate AND by hand, mistake by mistake, and then with the
# pieces of ds-core, which do the same.

# %%
import torch
from ds_core import SGD, Linear, PerceptronLoss, record
from matplotlib import pyplot as plt

x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
t = torch.tensor([-1.0, -1.0, -1.0, 1.0])  # 1 where both inputs are 1

# %% [markdown]
# ## The rule
#
# The unit says 1 where $w \cdot x + b > 0$ and $-1$ elsewhere. Rosenblatt's rule (1958) goes through the rows one by
# one and changes nothing where the answer is right. Where it is wrong, it adds the row to the weights, with the sign of
# the target:
#
# $$w \leftarrow w + t\,x, \qquad b \leftarrow b + t$$
#
# Afterwards this row's own output is larger by $t \, (x \cdot x + 1)$ in the direction of its target, whatever that
# does to the others.

# %%
w, b = torch.zeros(2), torch.zeros(())
mistakes, lines = [], []
for epoch in range(1, 20):
    wrong = 0
    for row, target in zip(x, t, strict=True):
        if target * (w @ row + b) <= 0:
            w, b = w + target * row, b + target
            wrong += 1
    mistakes.append(wrong)
    lines.append((w, b))
    print(f"epoch {epoch}: {wrong} mistakes, w = {w.tolist()}, b = {float(b)}")
    if wrong == 0:
        break

# %% [markdown]
# The line $w \cdot x + b = 0$ after each epoch, darker as the epochs go on. It turns until (1, 1) is alone on its side.

# %%
figure, axes = plt.subplots(figsize=(5, 5))
places = torch.tensor([-0.5, 1.5])
for number, (weight, bias) in enumerate(lines):
    if weight[1] != 0:
        heights = -(weight[0] * places + bias) / weight[1]
        axes.plot(places, heights, color="black", alpha=(number + 1) / len(lines), linewidth=1)
axes.scatter(x[:, 0], x[:, 1], c=t, cmap="bwr", s=80, edgecolors="black")
axes.set(xlim=(-0.5, 1.5), ylim=(-0.5, 1.5), xlabel="first input", ylabel="second input")
plt.show()

# %% [markdown]
# ## Why it ends
#
# Let $\tilde x = (x, 1)$ and $\tilde w = (w, b)$, and let some unit vector $u$ have every row on the right side with a
# margin: $t \, u \cdot \tilde x \ge \gamma > 0$. Let $R$ be the length of the longest row. After $k$ mistakes
# (Novikoff, 1962):
#
# - each mistake adds $t \, u \cdot \tilde x \ge \gamma$ to $u \cdot \tilde w$, so $u \cdot \tilde w \ge k \gamma$;
# - each mistake adds $2 t \, \tilde w \cdot \tilde x + |\tilde x|^2 \le R^2$ to $|\tilde w|^2$, for the first term is
#   not positive: it was a mistake. So $|\tilde w|^2 \le k R^2$.
#
# A length is at least any of its projections, hence $k \gamma \le |\tilde w| \le \sqrt{k} R$, and $k \le R^2 /
# \gamma^2$.
#
# For AND the line $x_1 + x_2 = 1.5$ has a margin; here is the bound beside what happened.

# %%
rows = torch.cat([x, torch.ones(4, 1)], 1)
u = torch.tensor([1.0, 1.0, -1.5])
u = u / u.norm()
margin = float((t * (rows @ u)).min())
longest = float(rows.norm(dim=1).max())
print(f"at most R^2 / gamma^2 = {longest**2 / margin**2:.1f} mistakes; there were {sum(mistakes)}")
assert sum(mistakes) <= longest**2 / margin**2

# %% [markdown]
# ## The same with ds-core
#
# The rule is gradient descent, one row at a time with learning rate 1, on the loss $\max(-t\,y, 0)$
# ([docs/perceptron.md](../docs/perceptron.md)). `Linear` computes $y = w \cdot x + b$, `PerceptronLoss` its gradient,
# `SGD` takes the step.

# %%
layer, criterion = Linear(2, 1), PerceptronLoss()
for parameter in layer.parameters():
    parameter.data.zero_()
optimizer = SGD(layer.parameters(), lr=1.0)
for _ in mistakes:
    for row, target in zip(x, t, strict=True):
        with record():
            criterion(layer(row), target.view(1))
            layer.backward(criterion.backward())
        optimizer.step()
        optimizer.zero_grad()
print(layer.weight.tolist(), layer.bias.tolist())
assert layer.weight.flatten().tolist() == w.tolist()
assert layer.bias.tolist() == [float(b)]

# %% [markdown]
# ## The learning rate does not matter
#
# From zero, every number in $w$ and $b$ is a sum of rows times the learning rate $\eta$. With another $\eta$ all of
# them are scaled, no sign changes, and the same mistakes are made in the same order. That is peculiar to this loss and
# this start, and holds to the last digit only where rounding does not move a row off the boundary: take a rate that
# binary numbers hold exactly.

# %%
for lr in (0.25, 7.0):
    scaled, bias, wrong = torch.zeros(2), torch.zeros(()), 0
    for _ in mistakes:
        for row, target in zip(x, t, strict=True):
            if target * (scaled @ row + bias) <= 0:
                scaled, bias, wrong = scaled + lr * target * row, bias + lr * target, wrong + 1
    print(f"lr {lr}: {wrong} mistakes, w / lr = {(scaled / lr).tolist()}")

# %% [markdown]
# `ds train perceptron --dataset and` is this notebook as a command; what a single perceptron cannot learn is in
# [perceptron_limits](perceptron_limits.ipynb).
