"""as_torch: the compiler ends its graph before a wrapped layer, begins another behind it, and stays out of our code."""

import inspect

import pytest
import torch
from bridged_layers import network
from ds_core import Linear
from ds_core.interop import as_torch


def test_torch_compile_breaks_its_graph_and_goes_on():
    module = as_torch(Linear(2, 2))
    compiled = torch.compile(lambda x: module(x * 2).sum(), backend="eager")
    x = torch.ones(1, 2, requires_grad=True)
    torch.testing.assert_close(compiled(x), module(x * 2).sum())
    compiled(x).backward()
    torch.testing.assert_close(x.grad, 2 * module.weight.detach().sum(0, keepdim=True))


class Between(torch.nn.Module):
    """A module between two that the compiler can look into."""

    def __init__(self, inner):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.inner, self.last = torch.nn.Linear(4, 4), inner, torch.nn.Linear(2, 2)

    def forward(self, x):
        return self.last(torch.relu(self.inner(torch.relu(self.first(x)))))


class Untouched(torch.nn.Module):
    """What torch itself offers to end a graph at a module."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    @torch.compiler.disable
    def forward(self, x):
        return self.inner(x)


def compiled_graphs(run, *inputs):
    """What `run` gives when compiled, called three times, and the operations of each graph."""
    torch._dynamo.reset()
    graphs = []

    def backend(graph, _):
        graphs.append([node.name for node in graph.graph.nodes])
        return graph.forward

    compiled = torch.compile(run, backend=backend)
    results = [compiled(*inputs) for _ in range(3)]
    return results, graphs


def test_two_graphs_and_right_gradients():
    model, x = Between(as_torch(network())), torch.randn(3, 4)
    outputs, graphs = compiled_graphs(model, x)
    assert len(graphs) == 2
    assert torch._dynamo.explain(model)(x).graph_break_count == 1
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    for y in outputs:
        found = torch.autograd.grad(y.square().sum(), list(model.parameters()))
        torch.testing.assert_close(found, expected)


def test_backward_inside_the_compiled_function_compiles_nothing_of_ours():
    def step(model):
        def run(x):
            loss = model(x).square().sum()
            loss.backward()
            return loss

        return run

    x, graphs, gradients = torch.randn(3, 4), [], []
    for model in (Between(as_torch(network())), Between(Untouched(as_torch(network())))):
        graphs.append(compiled_graphs(step(model), x)[1])
        gradients.append([p.grad / 3 for p in model.parameters()])
    assert graphs[0] == graphs[1]
    model = Between(as_torch(network()))
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    torch.testing.assert_close(gradients[0], list(expected))


def test_fullgraph_says_why_not():
    torch._dynamo.reset()
    compiled = torch.compile(Between(as_torch(network())), backend="eager", fullgraph=True)
    takes_reason = "reason" in inspect.signature(torch.compiler.disable).parameters  # an older torch cannot say why
    reason = "as_torch runs a handwritten backward" if takes_reason else None
    with pytest.raises(torch._dynamo.exc.Unsupported, match=reason):
        compiled(torch.randn(3, 4))
