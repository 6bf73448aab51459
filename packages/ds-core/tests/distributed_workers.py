"""What each process does in the tests of several processes, one function a test."""

import functools
import os

import ds_core.training.trainer
import torch
from distributed_models import (
    SMALL,
    STEPS,
    Mean,
    Plain,
    Points,
    Switch,
    build,
    copies,
    no_processes,
    outcome,
    train,
    trainer,
)
from ds_core import (
    SGD,
    Callback,
    DataParallel,
    EarlyStopping,
    Embedding,
    Linear,
    Processes,
    Sequential,
    TokenCrossEntropy,
    Trainer,
    UserError,
    accumulate,
    record,
)
from ds_core.distributed.buckets import Reduction
from ds_core.distributed.failure import PeerError
from ds_core.distributed.processes import current
from ds_core.training.checkpoint import describe_checkpoint
from ds_core.training.gradients import backpropagate, step_denominator
from squared_error import Squares


class Even(Points):
    """Batches of 4 rows."""

    def batch(self, index):
        return super().batch(3 * index + 2)


class Rows(Points):
    """Batches of 1 and of 2 rows: some processes have none."""

    def batch(self, index):
        x, y = super().batch(index)
        return x[: 1 + index % 2], y[: 1 + index % 2]


def train_compiled(options):
    """As `train`, with graphs that are traced but not made into machine code, which would take long."""
    torch.compile = functools.partial(torch.compile, backend="aot_eager")
    return train({**options, "compile": True}, kind=Plain, points=Even, steps=3)


class Sentences:
    """Batches of 3 and of 5 sentences of 6 tokens, filled up with 0. In every third batch, the first two are empty."""

    VOCABULARY = 7

    def batch(self, index):
        generator = torch.Generator().manual_seed(index)
        shape = (3 + 2 * (index % 2), 6)
        tokens = torch.randint(1, self.VOCABULARY, shape, generator=generator)
        lengths = torch.randint(1, 7, shape[:1], generator=generator)
        if index % 3 == 0:
            lengths[:2] = 0
        return tokens, torch.where(torch.arange(6) < lengths[:, None], tokens.roll(-1, 1), 0)

    @staticmethod
    def build():
        torch.manual_seed(0)
        return Sequential(Embedding(Sentences.VOCABULARY, 4), Linear(4, Sentences.VOCABULARY)).double()


def train_sentences(accumulate, compile=False):
    """Weights and losses of three steps; compiled, with graphs that are not made into machine code."""
    if compile:
        torch.compile = functools.partial(torch.compile, backend="aot_eager")
    with Processes() if "RANK" in os.environ else no_processes() as processes:
        model = Sentences.build()
        made = Trainer(
            model,
            TokenCrossEntropy(ignore_index=0),
            SGD(model.parameters(), lr=0.5),
            accumulate=accumulate,
            compile=compile,
            parallel=DataParallel(model, processes=processes, **SMALL),
            progress=False,
        )
        made.fit(Sentences(), 3)
        return copies(model), [record["loss"] for record in made.history.training]


def own_loop():
    """The loop of docs/distributed.md that counts tokens."""
    with Processes() if "RANK" in os.environ else no_processes() as processes:
        model, criterion = Sentences.build(), TokenCrossEntropy(ignore_index=0)
        optimizer = SGD(model.parameters(), lr=0.5)
        parallel = DataParallel(model, processes=processes)
        batches = parallel.share(Sentences())
        for index in range(3):
            x, y = batches.batch(index)
            denominator = parallel.total(criterion.denominator(y))
            with parallel.reducing(scale=1.0), record():
                criterion(model(x), y, denominator=denominator)
                model.backward(criterion.backward())
            optimizer.step()
            optimizer.zero_grad()
        return copies(model)


def other_models(kind):
    """The messages with which models are refused that are not alike on all processes."""
    with Processes() as processes:
        sizes = {"shape": (5, 5 + processes.rank), "names": (5, 5)}[kind]
        model = Linear(*sizes)
        if kind == "names" and processes.rank == 1:
            model = Sequential(model)
        try:
            DataParallel(model, processes=processes)
        except UserError as error:
            return str(error)


def different_beginnings():
    """Weights, a buffer and a random number of a process whose seed is its rank."""
    with Processes() as processes:
        torch.manual_seed(processes.rank)
        model = Sequential(Linear(2, 2), Mean(), Linear(600, 600))
        model[1].mean.fill_(processes.rank)
        torch.manual_seed(7)
        DataParallel(model, processes=processes)
        return copies(model), torch.rand(3)


def frozen_and_thawed():
    """A layer is frozen for two steps, then trained: the buckets are made anew."""
    with Processes() if "RANK" in os.environ else no_processes() as processes:
        model, optimizer = build()
        parallel = DataParallel(model, processes=processes, **SMALL)
        batches = parallel.share(Points())
        for index in range(5):
            model.layers[6].requires_grad_(index >= 2)
            pairs = [batches.batch(index)]
            denominator = parallel.total(step_denominator(Squares(), pairs))
            with parallel.reducing(scale=1.0):
                backpropagate(model, Squares(), pairs, denominator)
            optimizer.step()
            optimizer.zero_grad()
        return copies(model)


def kept_gradients(dtype):
    """Gradients that were there before, with accumulation by hand, in `dtype`; and how they were before averaging."""
    with Processes() as processes:
        torch.manual_seed(processes.rank)
        model = Linear(3, 2).to(dtype)
        parallel = DataParallel(model, processes=processes)
        model.weight.grad = torch.full((2, 3), float(processes.rank), dtype=dtype)
        with parallel.reducing() as reduction:
            accumulate(model.weight, torch.full((2, 3), 2.0, dtype=dtype))
            reduction.sums = [1.5, float(processes.rank)]
        return model.weight.grad, model.bias.grad, reduction.sums


def evaluated(folder):
    """What `evaluate` gives, its argument being rank-dependent, and callbacks that run on one rank or on all."""
    seen = []

    class Everywhere(Callback):
        def on_evaluate(self, trainer, metrics):
            seen.append(metrics["loss"])

    class OnFirst(Everywhere):
        everywhere = False

    with Processes() as processes:
        if not processes.first:
            ds_core.training.trainer.save_checkpoint = None  # rank 0's alone
        model, optimizer = build()
        made = trainer(
            model,
            optimizer,
            folder=folder,
            evaluate=lambda model: {"loss": 10.0 + processes.rank},
            evaluate_every=3,
            callbacks=[Everywhere(), OnFirst(), EarlyStopping(patience=1)],
        )
        made.write("written")
        made.fit(Points(), STEPS)
        return seen, made.step, made.best, outcome(made)[1]


def orders(folder):
    """The order of the buckets in the checkpoint of step 6, and when the run has gone on; batch 6 has another one."""
    found = []
    with Processes():
        for steps in (6, 8):
            model, optimizer = build(Switch)
            made = trainer(model, optimizer, folder=folder)
            if steps == 8:
                made.resume()
            made.fit(Points(), steps)
            found.append(describe_checkpoint(folder / "checkpoint.safetensors").extra["parallel"]["order"])
    return found


def exchanged():
    """What the processes tell each other; a failure of rank 0's function is everybody's, and need not be the end."""
    with Processes() as processes:
        found = [processes.same(processes.rank + 5), processes.gather(processes.rank), current() is processes]
        found.append(processes.on_first(lambda: f"rank {processes.rank}"))
        try:
            processes.on_first(lambda: 1 // processes.rank)
        except (ZeroDivisionError, PeerError) as error:
            found.append(repr(error))
    return [*found, current().world_size]


def sent_in_backward(options):
    """Of each step of a Trainer how many buckets were on their way when backward ended."""
    sent, finish = [], Reduction.finish

    def counting(self, plan):
        sent.append(len(self._sent))
        finish(self, plan)

    Reduction.finish = counting
    train(options, points=Even)
    return sent


def script(mishap):
    """A program of the user's own, in which rank 1 fails in its third step, or at the end."""
    with Processes() as processes:
        model, optimizer = build()
        parallel = DataParallel(model, processes=processes, **SMALL)
        batches = parallel.share(Points())
        for index in range(4):
            with parallel.reducing():
                backpropagate(model, Squares(), [batches.batch(index)])
                if (mishap, processes.rank, index) == ("in a step", 1, 2):
                    raise RuntimeError("a bug")
            optimizer.step()
            optimizer.zero_grad()
        if (mishap, processes.rank) == ("at the end", 1):
            raise RuntimeError("a bug")
        if (mishap, processes.rank) == ("without a word", 1):
            os._exit(0)
