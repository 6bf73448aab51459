"""The whole step, record() and all, compiles as one graph. test_compile_step.py runs the generated code."""

import copy

import torch
from ds_core import Linear, Module, Recompute, Residual, Sequential, drawn, no_record, record, replaying
from torch._dynamo.testing import CompileCounterWithBackend


class HalfSquares(Module):
    def forward(self, input, target):
        self.save(input - target)
        return ((input - target) * (input - target)).sum() / 2

    def backward(self, grad=None):
        (difference,) = self.saved()
        return difference if grad is None else difference * grad


class NoisyScale(Module):
    """Random, with a buffer that changes each step: what a compiled step must get right."""

    def __init__(self, size):
        self.steps = torch.tensor(0)
        self.mean = torch.zeros(size)

    def forward(self, x):
        mask = drawn(lambda: torch.rand(x.shape, dtype=x.dtype)) if self.training else torch.ones_like(x)
        if self.training and not replaying():
            with no_record():
                self.steps += 1
                self.mean.mul_(0.9).add_(0.1 * x.mean(0))
        self.save(mask)
        return x * mask

    def backward(self, dy):
        (mask,) = self.saved()
        return None if dy is None else dy * mask


def build():
    torch.manual_seed(0)
    return Sequential(
        Linear(4, 6),
        Residual(Sequential(Linear(6, 6), Linear(6, 6, bias=False))),
        Recompute(Sequential(Linear(6, 6), NoisyScale(6), Recompute(Residual(Linear(6, 6))))),
        Linear(6, 2),
    ).double()


def step_of(model):
    criterion = HalfSquares()

    def step(x, target, lr):
        with record():
            loss = criterion(model(x), target)
            model.backward(criterion.backward(), input_gradient=False)
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.sub_(lr * tensor.grad)
                tensor.grad = None
        return loss

    return step


def run(step, model):
    """Ten steps with a falling learning rate: every loss, then the parameters and buffers."""
    torch.manual_seed(1)
    lr = torch.tensor(0.0, dtype=torch.float64)
    losses = []
    for index in range(10):
        lr.fill_(0.01 / (index + 1))
        losses.append(step(torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64), lr))
    return [torch.stack(losses), *model.parameters(), *model.buffers()]


def test_a_whole_step_is_one_graph_compiled_once():
    model = build()
    twin = copy.deepcopy(model)
    eager = run(step_of(model), model)
    # the tracer alone, with PyTorch's random numbers: the same draws as eager, and no C++ compiler
    counter = CompileCounterWithBackend("eager")
    torch._dynamo.reset()
    compiled = run(torch.compile(step_of(twin), fullgraph=True, backend=counter), twin)
    assert counter.frame_count == 1
    for first, second in zip(eager, compiled, strict=True):
        torch.testing.assert_close(first, second)
    assert twin[2].layer[1].steps.item() == 10
