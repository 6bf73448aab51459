"""A model, its data and its training for the tests of several processes."""

import os

import torch
from ds_core import (
    AdamW,
    DataParallel,
    Dropout,
    Linear,
    Module,
    Processes,
    ReLU,
    Sequential,
    Trainer,
    accumulate,
    no_record,
    parameter,
    record,
)
from ds_core.distributed.batch_shard import BatchShard
from ds_core.distributed.processes import OneProcess
from ds_core.training.gradients import backpropagate
from squared_error import Squares

STEPS = 6
SMALL = {"bucket_mb": 2e-4, "first_bucket_mb": 1e-5}  # 210 and 10 bytes: several buckets


class Tied(Module):
    """Two layers share a weight, one is used twice, one gets no gradient at all."""

    def __init__(self, dropout=0.0, mean=False):
        self.unused = Linear(3, 3)
        shared = Linear(5, 5)
        self.layers = Sequential(
            Linear(5, 5), Mean() if mean else ReLU(), Linear(5, 5), shared, Dropout(dropout), shared, Linear(5, 2)
        )
        self.layers[2].weight = self.layers[0].weight

    def forward(self, x):
        return self.layers.forward(x)

    def backward(self, dy, *, input_gradient=True):
        return self.layers.backward(dy, input_gradient=input_gradient)


class Plain(Sequential):
    def __init__(self):
        super().__init__(Linear(5, 4), ReLU(), Linear(4, 2))


class Mean(Module):
    """x minus a running mean of what rank 0 sees, which is a buffer that changes the outputs."""

    def __init__(self):
        self.mean = torch.zeros((), dtype=torch.float64)

    def forward(self, x):
        if self.training:
            with no_record():
                self.mean.lerp_(x.mean(), 0.1)
        self.save()
        return x - self.mean

    def backward(self, dy):
        self.saved()
        return dy


class Switch(Module):
    """y = w_k^m x, k and m by the signs of two numbers: only one of two weights has a gradient, used once or twice."""

    def __init__(self):
        self.first = Linear(5, 5)
        self.weights = [Scale(0.5), Scale(2.0)]

    def forward(self, x):
        y = self.first.forward(x)
        k, uses = int(x[0, 0] > 0), 1 + int(x[0, 1] > 0)
        for _ in range(uses):
            y = self.weights[k].forward(y)
        self.save(k, uses)
        return y[:, :2]

    def backward(self, dy, *, input_gradient=True):
        k, uses = self.saved()
        dy = torch.cat([dy, dy.new_zeros(len(dy), 3)], dim=1)
        for _ in range(uses):
            dy = self.weights[k].backward(dy)
        return self.first.backward(dy, input_gradient=input_gradient)


class Scale(Module):
    def __init__(self, value):
        self.weight = parameter(torch.full((5,), value, dtype=torch.float64))

    def forward(self, x):
        self.save(x)
        return self.weight * x

    def backward(self, dy):
        (x,) = self.saved()
        accumulate(self.weight, (dy * x).sum(0))
        return dy * self.weight


class Points:
    """Batches of 7 rows, every third of 4; float64."""

    def batch(self, index):
        generator = torch.Generator().manual_seed(index)
        rows = 4 if index % 3 == 2 else 7
        x = torch.randn(rows, 5, generator=generator, dtype=torch.float64)
        return x, x[:, :2] * x[:, 2:4]


def build(kind=Tied, **options):
    torch.manual_seed(0)
    model = kind(**options).double()
    return model, AdamW(model.parameters(), lr=0.05, weight_decay=0.1)


def trainer(model, optimizer, parallel=None, **options):
    options = {"progress": False, "schedule": Falling(optimizer), **options}
    return Trainer(model, Squares(), optimizer, parallel=parallel, **options)


class Falling:
    """A schedule: a fifth less after every step."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self):
        for group in self.optimizer.param_groups:
            group["lr"] *= 0.8

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def outcome(made):
    """What is to be equal, of a trainer that has finished."""
    records = [{k: v for k, v in record.items() if k not in ("kind", "seconds")} for record in made.history.records]
    return copies(made.model), records


def copies(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def train(options, kind=Tied, sizes=SMALL, points=Points, steps=STEPS, **model_options):
    """Train with the processes that there are."""
    several = "RANK" in os.environ
    with Processes() if several else no_processes() as processes:
        model, optimizer = build(kind, **model_options)
        parallel = DataParallel(model, processes=processes, **sizes)
        made = trainer(model, optimizer, parallel, **options)
        made.fit(points(), steps)
        return outcome(made)


def loop(sizes=SMALL, first=0, world_size=None):
    """A training loop without the Trainer, and how often a gradient came after its bucket had gone.

    With a `world_size` one process does what so many are to do: it adds up what the shares of all give.
    """
    if world_size is not None:
        model, optimizer = build(Switch)
        for index in range(first, first + 8):
            shares = [BatchShard(Points(), rank, world_size) for rank in range(world_size)]
            for pair in [share.batch(index) for share in shares]:  # each mean counts 1 / W, whatever its rows
                backpropagate(model, Squares(), [pair], torch.tensor(world_size * len(pair[0])).double())
            optimizer.step()
            optimizer.zero_grad()
        return copies(model), 0
    with Processes() as processes:
        model, optimizer = build(Switch)
        parallel = DataParallel(model, processes=processes, **sizes)
        batches, late = parallel.share(Points()), 0
        for index in range(first, first + 8):
            x, y = batches.batch(index)
            with parallel.reducing() as reduction, record():
                criterion = Squares()
                criterion(model(x), y)
                model.backward(criterion.backward())
            late += len(reduction._late)
            optimizer.step()
            optimizer.zero_grad()
        return copies(model), late


class no_processes:
    def __enter__(self):
        return OneProcess()

    def __exit__(self, *error):
        pass
