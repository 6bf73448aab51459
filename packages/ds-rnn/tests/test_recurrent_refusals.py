"""What RNN, LSTM and GRU refuse, and the words for it."""

import pytest
import torch
from ds_core import ShapeError, record
from ds_rnn import GRU, LSTM, RNN
from random_cases import in_pairs

CLASSES = pytest.mark.parametrize("layer_class", [RNN, LSTM, GRU])


REFUSED = [
    ({"input_size": 0}, ValueError, "input_size=0, expected 1 or more"),
    ({"hidden_size": 0}, ValueError, "hidden_size=0, expected 1 or more"),
    ({"hidden_size": 2.0}, TypeError, r"hidden_size=2\.0, expected a whole number"),
    ({"num_layers": 0}, ValueError, "num_layers=0, expected 1 or more"),
    ({"dropout": 1.5}, ValueError, r"dropout=1\.5, expected a probability"),
    ({"dropout": -0.1}, ValueError, r"dropout=-0\.1, expected a probability"),
]


@CLASSES
@pytest.mark.parametrize(("given", "error", "message"), REFUSED, ids=str)
def test_arguments_that_the_twin_refuses(layer_class, given, error, message):
    arguments = {"input_size": 2, "hidden_size": 3, "num_layers": 2, **given}
    with pytest.raises(error):
        getattr(torch.nn, layer_class.__name__)(**arguments)
    with pytest.raises(error, match=f"{layer_class.__name__}: given {message}"):
        layer_class(**arguments)


@CLASSES
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"dropout": "a"}, TypeError, "dropout='a', expected a number"),
        ({"dropout": True}, TypeError, "dropout=True, expected a number"),
        ({"implementation": "fast"}, ValueError, r"implementation='fast', expected one of \['loops', 'vectorized'\]"),
    ],
    ids=str,
)
def test_impossible_arguments(layer_class, given, error, message):
    with pytest.raises(error, match=f"{layer_class.__name__}: given {message}"):
        layer_class(2, 3, 2, **given)


@CLASSES
@pytest.mark.parametrize("shape", [(), (2,), (4, 3, 5), (4, 3), (1, 4, 3, 2), (0, 3, 2), (0, 2)])
def test_inputs_that_the_twin_refuses(layer_class, shape):
    x = torch.zeros(shape)
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        getattr(torch.nn, layer_class.__name__)(2, 3)(x)
    with pytest.raises(ShapeError, match=rf"{layer_class.__name__}\(2, 3\): given input of shape .*, expected"):
        layer_class(2, 3)(x)


@CLASSES
@pytest.mark.parametrize(
    ("x", "state"),
    [((4, 3, 2), (1, 2, 3)), ((4, 3, 2), (2, 3, 3)), ((4, 3, 2), (1, 3, 2)), ((4, 3, 2), (1, 3)), ((4, 2), (1, 1, 3))],
)
def test_states_that_the_twin_refuses(layer_class, x, state):
    layer = layer_class(2, 3)
    states = in_pairs([torch.zeros(state) for _ in layer.state_names])
    with pytest.raises((RuntimeError, ValueError)):
        getattr(torch.nn, layer_class.__name__)(2, 3)(torch.zeros(x), states)
    with pytest.raises(ShapeError, match=rf"{layer_class.__name__}\(2, 3\): given hx.* of shape .*, expected"):
        layer(torch.zeros(x), states)


@CLASSES
def test_states_that_are_no_tensors(layer_class):
    """The pair of an LSTM given to a GRU, above all."""
    state = (1.0, torch.zeros(1, 3, 3)) if layer_class is LSTM else (torch.zeros(1, 3, 3), torch.zeros(1, 3, 3))
    with pytest.raises(TypeError, match=r"\(2, 3\): given .* as hx.*, expected a tensor"):
        layer_class(2, 3)(torch.zeros(4, 3, 2), state)


@CLASSES
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64])
def test_states_of_another_dtype(layer_class, dtype):
    layer = layer_class(2, 3)
    states = in_pairs([torch.zeros(1, 3, 3, dtype=dtype) for _ in layer.state_names])
    with pytest.raises(RuntimeError):
        getattr(torch.nn, layer_class.__name__)(2, 3)(torch.zeros(4, 3, 2), states)
    with pytest.raises(ShapeError, match=rf"given hx.* in {dtype} beside input in torch.float32: convert one"):
        layer(torch.zeros(4, 3, 2), states)


@CLASSES
def test_states_on_another_device(layer_class):
    layer = layer_class(2, 3)
    states = in_pairs([torch.zeros(1, 3, 3, device="meta") for _ in layer.state_names])
    with pytest.raises(ShapeError, match=r"given hx.* on meta beside input on cpu"):
        layer(torch.zeros(4, 3, 2), states)


@CLASSES
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64])
def test_inputs_of_another_dtype(layer_class, dtype):
    x = torch.zeros(4, 3, 2, dtype=dtype)
    with pytest.raises(ValueError, match="does not match weight dtype"):
        getattr(torch.nn, layer_class.__name__)(2, 3)(x)
    with pytest.raises(ShapeError, match=rf"{layer_class.__name__}\(2, 3\): .*{dtype}"):
        layer_class(2, 3)(x)


@CLASSES
def test_gradients_of_another_shape(layer_class):
    layer = layer_class(2, 3)
    with record():
        layer(torch.zeros(4, 3, 2))
        with pytest.raises(ShapeError, match=rf"backward of {layer_class.__name__}.*\(4, 3, 4\)"):
            layer.backward(torch.zeros(4, 3, 4))
        layer.backward(None)
