"""The list of primitives, the guard that lets nothing else run, and the same check on compiled graphs."""

import inspect
from collections import Counter

import pytest
import torch
from ds_core import BlackBoxError, Linear, Module, Sequential, linear, linear_backward, primitives_only, record
from ds_core.primitives import COMPOSED, PRIMITIVES, check_graph, is_primitive
from torch import fx
from torch._dynamo.backends.common import aot_autograd


class HiddenSoftmax(Module):
    def forward(self, x):
        y = torch.softmax(x, -1)
        self.save(y)
        return y

    def backward(self, dy):
        (y,) = self.saved()
        return y * (dy - (dy * y).sum(-1, keepdim=True))


def test_every_name_on_the_list_is_an_aten_operation_and_stands_once():
    names = [name for group in PRIMITIVES.values() for name in group.operations]
    for name in names:
        assert hasattr(torch.ops.aten, name) or hasattr(torch.ops.aten, name + "_"), name
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert all(group.reason for group in PRIMITIVES.values())


def test_every_composed_function_is_one_of_torch():
    assert all(callable(getattr(torch, name)) for name in COMPOSED.operations)


@pytest.mark.parametrize("name", ["mul", "mul_", "_foreach_mul_", "_foreach_sqrt", "mm", "_to_copy", "index_add_"])
def test_primitive_names(name):
    assert is_primitive(name)


HIDDEN = [
    *("_softmax", "_log_softmax", "sigmoid", "tanh", "relu", "gelu", "silu", "softplus", "logsumexp"),
    *("native_layer_norm", "native_batch_norm", "var", "std", "var_mean", "norm", "linalg_vector_norm", "linalg_qr"),
    *("convolution", "im2col", "col2im", "avg_pool2d", "max_pool2d_with_indices", "upsample_bilinear2d"),
    *("native_dropout", "embedding", "embedding_dense_backward", "_scaled_dot_product_flash_attention"),
    *("nll_loss_forward", "mse_loss", "reflection_pad2d", "_fused_adamw_", "_foreach_norm", "_foreach_sigmoid"),
]


@pytest.mark.parametrize("name", HIDDEN)
def test_names_that_are_not_primitive(name):
    assert not is_primitive(name)


BLACK_BOXES = {
    "softmax": lambda x: torch.softmax(x, -1),
    "log_softmax": lambda x: torch.log_softmax(x, -1),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "var": torch.var,
    "std": torch.std,
    "logsumexp": lambda x: torch.logsumexp(x, -1),
    "norm": torch.linalg.vector_norm,
    "layer_norm": lambda x: torch.nn.functional.layer_norm(x, (4,)),
    "conv": lambda x: torch.nn.functional.conv1d(x[None], x[None]),
    "unfold": lambda x: torch.nn.functional.unfold(x[None, None], 2),
    "pool": lambda x: torch.nn.functional.avg_pool1d(x, 2),
    "embedding": lambda x: torch.nn.functional.embedding(torch.tensor([1]), x),
    "attention": lambda x: torch.nn.functional.scaled_dot_product_attention(x, x, x),
    "cross_entropy": lambda x: torch.nn.functional.cross_entropy(x, torch.tensor([0, 1, 2])),
    "mse_loss": lambda x: torch.nn.functional.mse_loss(x, x),
    "interpolate": lambda x: torch.nn.functional.interpolate(x[None], scale_factor=2.0),
    "pad": lambda x: torch.nn.functional.pad(x[None], (1, 1), mode="reflect"),
    "clip": lambda x: torch._foreach_norm([x]),
    "qr": torch.linalg.qr,
    "composed: dropout": lambda x: torch.dropout(x, 0.5, True),
    "composed: rms_norm": lambda x: torch.rms_norm(x, (4,)),
    "composed: functional dropout": lambda x: torch.nn.functional.dropout(x, 0.5),
    "composed: l1_loss": lambda x: torch.nn.functional.l1_loss(x, x),
    "composed: softsign": torch.nn.functional.softsign,
    "composed: module": torch.nn.Softsign(),
}


@pytest.mark.parametrize("name", BLACK_BOXES)
def test_black_boxes_do_not_run(name):
    x = torch.randn(3, 4)
    with pytest.raises(BlackBoxError, match="ran at"), primitives_only():
        BLACK_BOXES[name](x)


def test_the_error_names_operation_line_and_layer():
    model = Sequential(Linear(3, 3), HiddenSoftmax())
    with pytest.raises(BlackBoxError) as caught, record(), primitives_only():
        model(torch.randn(2, 3))
    line = inspect.unwrap(HiddenSoftmax.forward).__code__.co_firstlineno + 1
    assert "aten._softmax" in str(caught.value)
    assert f"test_primitives.py:{line} in forward, layer HiddenSoftmax()" in str(caught.value)


def test_the_error_skips_frames_of_torch_itself():
    with pytest.raises(BlackBoxError, match=r"test_primitives\.py:\d+ in test_the_error_skips"), primitives_only():
        torch.nn.Tanh()(torch.randn(3))


def test_a_handwritten_step_runs_and_is_counted():
    layer, x = Linear(3, 4), torch.randn(2, 3)
    with primitives_only() as ran, record():
        layer.backward(layer(x))
        layer(x)
        layer.backward(layer.forward(x))
        layer.backward(None)
    assert ran["addmm"] == 3
    assert ran["mm"] == 4
    assert ran["sum"] == 2
    assert "add" in ran  # the second gradient is added in place


def test_foreach_arithmetic_counts_as_elementwise_and_profiler_labels_as_nothing():
    parameter = torch.randn(3, requires_grad=True)
    parameter.grad = torch.randn(3)
    with primitives_only() as ran:
        torch.optim.SGD([parameter], lr=0.1, momentum=0.9, foreach=True).step()
    assert ran["_foreach_add"] > 0
    assert not any("record_function" in name for name in ran)


def test_autograd_backward_of_a_black_box_does_not_run():
    x = torch.randn(3, requires_grad=True)
    y = torch.sigmoid(x).sum()
    with pytest.raises(BlackBoxError, match="sigmoid_backward"), primitives_only():
        y.backward()


def test_nothing_is_watched_after_the_block_even_after_an_error():
    with pytest.raises(BlackBoxError), primitives_only():
        torch.tanh(torch.zeros(1))
    torch.tanh(torch.zeros(1))


def test_refused_under_inference_mode():
    with torch.inference_mode(), pytest.raises(RuntimeError, match="no_record"), primitives_only():
        pass


def graphs_of(function, *inputs, dynamic=False):
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    torch.compile(function, backend=aot_autograd(fw_compiler=keep), fullgraph=True, dynamic=dynamic)(*inputs)
    return graphs


def test_a_recorded_linear_step_compiled_whole_passes():
    layer = Linear(3, 4)

    def step(x, dy):
        with record():
            return layer(x), layer.backward(dy), layer.weight.grad, layer.bias.grad

    (graph,) = graphs_of(step, torch.randn(2, 3), torch.randn(2, 4))
    assert check_graph(graph)["mm"] == 2


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_compiled_pair_passes(dynamic):
    def step(x, dy, weight, bias):
        return linear(x, weight, bias), linear_backward(dy, x, weight)

    inputs = torch.randn(2, 3), torch.randn(2, 4), torch.randn(4, 3), torch.randn(4)
    (graph,) = graphs_of(step, *inputs, dynamic=dynamic)
    found = check_graph(graph)
    assert found["addmm"] == 1
    assert found["mm"] == 2


def test_a_black_box_in_a_compiled_graph_is_found_with_its_line():
    layer = HiddenSoftmax()

    def step(x, dy):
        with record():
            layer(x)
            return layer.backward(dy)

    (graph,) = graphs_of(step, torch.randn(2, 3), torch.randn(2, 3))
    with pytest.raises(BlackBoxError, match=r"aten\._softmax at node .*in forward y = torch\.softmax"):
        check_graph(graph)


def test_a_black_box_in_an_inner_graph_is_found():
    inner = fx.Graph()
    inner.output(inner.call_function(torch.ops.aten.tanh.default, (inner.placeholder("x"),)))
    outer = fx.Graph()
    outer.output(outer.placeholder("x"))
    module = fx.GraphModule({"inner": fx.GraphModule({}, inner)}, outer)
    module.inner = fx.GraphModule({}, inner)
    with pytest.raises(BlackBoxError, match=r"aten\.tanh"):
        check_graph(module)


def test_python_functions_on_sizes_are_let_through():
    graph = fx.Graph()
    x = graph.placeholder("x")
    rows = graph.call_function(torch.ops.aten.sym_size.int, (x, 0))
    graph.output(graph.call_function(torch.sym_max, (graph.call_function(max, (rows, 2)), 3)))
    assert check_graph(fx.GraphModule({}, graph)) == {"sym_size": 1}


@pytest.mark.parametrize("function", [lambda x: torch.softmax(x, -1), lambda x: x.softmax(-1)])
def test_a_graph_of_torch_functions_or_methods_is_refused(function):
    with pytest.raises(TypeError, match="no aten graph"):
        check_graph(fx.symbolic_trace(function))


def test_a_fused_multiplication_and_addition_is_primitive_in_a_graph():
    (graph,) = graphs_of(lambda x, y, z: torch.addcmul(x, y, z, value=-1), *torch.randn(3, 4))
    assert sum(check_graph(graph).values()) >= 1
