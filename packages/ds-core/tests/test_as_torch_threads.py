"""as_torch: one layer in several threads, through one wrapper or several."""

import sys
import threading

import pytest
import torch
from bridged_layers import network
from ds_core import Linear, Recompute, Sequential
from ds_core.interop import as_torch, from_torch
from torch.utils.checkpoint import checkpoint


@pytest.fixture
def eager_switching():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def layer():
    return Sequential(network(), Recompute(Linear(2, 2)), from_torch(torch.nn.Linear(2, 2)))


def one_wrapper(whole):
    return [as_torch(whole)] * 4


def a_wrapper_each(whole):
    return [as_torch(whole) for _ in range(4)]


def a_part_within(whole):
    return [as_torch(whole), as_torch(Sequential(whole[0], whole[1])), as_torch(whole), as_torch(whole[0])]


@pytest.mark.usefixtures("eager_switching")
@pytest.mark.parametrize("wrappers", [one_wrapper, a_wrapper_each, a_part_within])
def test_gradients_in_four_threads(wrappers):
    modules = wrappers(layer())
    inputs = [torch.randn(3, 4) for _ in modules]

    def gradients(number, run=None):
        module = modules[number]
        y = module(inputs[number]) if run is None else run(module, inputs[number])
        return torch.autograd.grad(y.square().sum(), list(module.parameters()))

    def checkpointed(module, x):
        return checkpoint(module, x, use_reentrant=False)

    expected = [gradients(number) for number in range(4)]
    wrong, errors = [], []
    start = threading.Barrier(4)

    def work(number):
        start.wait()
        try:
            for turn in range(20):
                found = gradients(number, checkpointed if turn % 4 == 3 else None)
                if not all(torch.equal(a, b) for a, b in zip(found, expected[number], strict=True)):
                    wrong.append(number)
        except Exception as error:  # to be shown in the thread of the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert wrong == []
    assert all(p.grad is None for p in modules[0].parameters())


def test_no_thread_enters_a_layer_while_another_is_inside():
    inside, most, waiting = [], [], threading.Event()

    class Watched(Linear):
        def forward(self, input):
            inside.append(1)
            waiting.wait(0.05)  # long enough for the others to come in, if they could
            most.append(len(inside))
            inside.pop()
            return super().forward(input)

    shared = Watched(2, 2)
    modules = [as_torch(shared), as_torch(Sequential(shared))]
    threads = [threading.Thread(target=module, args=(torch.ones(1, 2),)) for module in modules * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


def test_a_wrapped_layer_inside_a_wrapped_layer_does_not_wait_for_itself():
    inner = torch.nn.Sequential(torch.nn.Linear(2, 2), as_torch(Linear(2, 2)))
    module = as_torch(Sequential(Linear(2, 2), from_torch(inner)))
    x = torch.randn(3, 2, requires_grad=True)
    expected = torch.autograd.grad(module(x).square().sum(), [x, *module.parameters()])
    for reentrant in (False, True):
        module.zero_grad()
        x.grad = None
        checkpoint(module, x, use_reentrant=reentrant).square().sum().backward()
        torch.testing.assert_close([x.grad, *[p.grad for p in module.parameters()]], list(expected))
