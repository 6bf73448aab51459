"""A gradient that does not fit, and tensors that PyTorch refuses: one message, with the layer's name."""

import functools
import inspect
import re
import weakref
from contextlib import nullcontext

import ds_core
import pytest
import torch
from ds_core import (
    GELU,
    CrossEntropyLoss,
    GroupNorm,
    LayerNorm,
    Linear,
    Module,
    MSELoss,
    Parallel,
    ReLU,
    Residual,
    Sequential,
    ShapeError,
    Tanh,
    TraceError,
    record,
)
from ds_core.engine.guard import guard
from ds_core.engine.trace import save, take_saved

X = torch.tensor([[0.3, -1.2, 0.7], [1.1, 0.4, -0.6]])
WRONG = {
    "the loss itself": torch.ones(()),
    "a row": torch.ones(3),
    "a column": torch.ones(2, 1),
    "another batch": torch.ones(1, 3),
    "transposed": torch.ones(3, 2),
    "one dimension more": torch.ones(1, 2, 3),
    "float64": torch.ones(2, 3, dtype=torch.float64),
    "bfloat16": torch.ones(2, 3, dtype=torch.bfloat16),
    "integers": torch.ones(2, 3, dtype=torch.int64),
    "a number": 1.0,
}


def activations():
    found = [getattr(ds_core, name) for name in ds_core.__all__]
    return [c for c in found if inspect.isclass(c) and c.__module__.startswith("ds_core.activations")]


@pytest.mark.parametrize("dy", WRONG.values(), ids=list(WRONG))
def test_a_gradient_that_does_not_fit_is_refused(dy):
    layer = GELU()
    given = f"{tuple(dy.shape)} in {dy.dtype}" if isinstance(dy, torch.Tensor) else "1.0"
    with record() as trace:
        layer(X)
        with pytest.raises(ShapeError) as caught:
            layer.backward(dy)
        assert len(trace) == 1
        layer.backward(None)
    assert str(caught.value) == (
        f"backward of GELU(approximate='none'): given the gradient {given}, expected (2, 3) in torch.float32, as its "
        "output is; of several calls of one layer the last comes first"
    )


@pytest.mark.parametrize(
    "layer",
    [
        *[c() for c in activations() if c.__name__ != "GLU"],
        Linear(3, 3),
        LayerNorm(3),
        Residual(Tanh()),
        Sequential(ReLU()),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_every_layer_refuses_a_scalar(layer):
    with record() as trace:
        layer(X)
        with pytest.raises(ShapeError, match=r"backward of \w+\(.*given the gradient \(\) in torch.float32, expected"):
            layer.backward(torch.ones(()))
        trace.take()


def test_the_gradient_of_a_loss_has_the_shape_of_the_loss():
    for reduction, shape in (("mean", ()), ("none", (2, 3))):
        loss = MSELoss(reduction=reduction)
        with record() as trace:
            loss(X, torch.zeros(2, 3))
            with pytest.raises(ShapeError, match=rf"backward of MSELoss.*expected {re.escape(str(shape))}"):
                loss.backward(torch.ones(2))
            with pytest.raises(ShapeError, match=r"given the gradient \(2,\)"):
                loss.backward(grad=torch.ones(2))
            loss.backward(torch.ones(shape))
            assert len(trace) == 0


def test_several_outputs_each_have_theirs():
    class Two(Module):
        def forward(self, x):
            self.save()
            return x, {"sum": x.sum(-1)}

        def backward(self, dx, dsum=None):
            self.saved()
            return dx

    layer = Two()
    with record() as trace:
        layer(X)
        for wrong in (
            lambda: layer.backward(X, {"sum": X}),
            lambda: layer.backward(X, dsum={"sum": X}),
        ):
            with pytest.raises(ShapeError, match=r"as gradient 2 of 2 \(2, 3\) in torch.float32, expected \(2,\)"):
                wrong()
        with pytest.raises(TypeError, match=r"backward of Two\(\): gradients for a tuple of 2: given a tuple of 3"):
            layer.backward(X, None, X)
        assert len(trace) == 1
        layer.backward(X)


def test_a_gradient_in_a_container_or_without_one_is_named_by_its_class():
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3, 2), torch.ones(1, 2)])

    class Packed(Module):
        def forward(self, x):
            self.save()
            return packed, x

        def backward(self, dpacked, dx=None):
            self.saved()
            return dx

    layer = Packed()
    with record() as trace:
        layer(X)
        for wrong in (torch.ones(4, 2), 1.0, packed.data):
            message = (
                rf"backward of Packed\(\): gradients for a PackedSequence: given a {type(wrong).__name__}, "
                "expected a gradient built like the output$"
            )
            with pytest.raises(TypeError, match=message):
                layer.backward(wrong)
        for wrong, given in (
            (packed, r"a PackedSequence that holds tensors of shape \(4, 2\), \(3,\)"),
            ((X, [X[0]]), r"a tuple that holds tensors of shape \(2, 3\), \(3,\)"),
            ({"x": None}, "a dict that holds no tensor"),
        ):
            with pytest.raises(ShapeError, match=rf"given as gradient \d of \d {given}, expected \(2, 3\) in torch"):
                layer.backward(packed, wrong)
        assert len(trace) == 1
        layer.backward(packed, X)


def test_calls_of_one_layer_in_the_wrong_order_are_seen_where_their_shapes_differ():
    """Two towers that share a layer, as a siamese network has."""
    tower = Linear(3, 4)
    with record() as trace:
        first, second = tower(torch.ones(2, 3)), tower(torch.ones(5, 3))
        with pytest.raises(ShapeError, match=r"given the gradient \(2, 4\).*of several calls of one layer the last"):
            tower.backward(first)
        tower.backward(second)
        tower.backward(first)
        assert len(trace) == 0


def test_a_composite_that_saves_before_it_calls_others():
    class Outer(Module):
        def __init__(self):
            self.inner = Tanh()

        def forward(self, x):
            self.save()
            return self.inner.forward(x)[:1]

        def backward(self, dy):
            dx = self.inner.backward(torch.cat([dy, torch.zeros_like(dy)]))
            self.saved()
            return dx

    outer = Outer()
    with record() as trace:
        outer(X)
        assert [entry.outputs.shape for entry in trace.entries] == [(1, 3), (2, 3)]
        outer.backward(torch.ones(1, 3))


def test_the_second_output_of_a_composite_that_saves_before_it_calls_others():
    class Both(Module):
        def __init__(self):
            self.inner = Tanh()

        def forward(self, x):
            self.save()
            return self.inner.forward(x), x.sum(0)

        def backward(self, dy, dsum=None):
            dx = self.inner.backward(dy)
            self.saved()
            return dx

    layer = Both()
    with record() as trace:
        layer(X)
        for wrong in (torch.ones(1), torch.ones(3, dtype=torch.float64)):
            with pytest.raises(ShapeError, match=r"backward of Both\(\): given as gradient 2 of 2 "):
                layer.backward(torch.ones(2, 3), wrong)
        layer.backward(torch.ones(2, 3), torch.ones(3))
        assert len(trace) == 0


def test_a_layer_that_calls_itself():
    class Halves(Module):
        def forward(self, x):
            self.save()
            return x * 2 if len(x) == 1 else torch.cat([self.forward(x[:1]), self.forward(x[1:])])

        def backward(self, dy):
            if len(dy) == 1:
                self.saved()
                return dy * 2
            second = self.backward(dy[1:])
            dx = torch.cat([self.backward(dy[:1]), second])
            self.saved()
            return dx

    layer = Halves()
    with record() as trace:
        layer(X)
        assert layer.backward(torch.ones(2, 3)).tolist() == [[2.0] * 3] * 2
        assert len(trace) == 0


def test_a_decorated_method_is_guarded_and_a_static_one_left_alone():
    def decorated(method):
        @functools.wraps(method)
        def around(self, *values):
            return method(self, *values)

        return around

    class Decorated(GELU):
        forward, backward = decorated(GELU.forward), decorated(GELU.backward)

    class Negative(Module):
        @staticmethod
        def forward(x):
            return -x

        @staticmethod
        def backward(dy):
            return -dy

    layer = Decorated()
    with record() as trace:
        layer(X)
        with pytest.raises(ShapeError, match=r"given the gradient \(\)"):
            layer.backward(torch.ones(()))
        trace.take()
    assert torch.equal(Negative()(X), -X)
    assert torch.equal(Negative().backward(X), -X)


def test_a_class_without_base_can_be_guarded():
    class Doubled:
        def parameters(self):
            return []

        def forward(self, x):
            save(self)
            return x * 2

        def backward(self, dy):
            take_saved(self)
            return dy * 2

    guard(Doubled)
    layer = Doubled()
    with record():
        layer.forward(X)
        with pytest.raises(ShapeError, match=r"backward of Doubled\(\): given the gradient \(\)"):
            layer.backward(torch.ones(()))
        assert torch.equal(layer.backward(torch.ones(2, 3)), torch.full((2, 3), 2.0))


def test_super_is_part_of_the_layer_that_calls_it():
    class Halved(Linear):
        def forward(self, input):
            return super().forward(input)[:1]

        def backward(self, dy, *, input_gradient=True):
            return super().backward(torch.cat([dy, torch.zeros_like(dy)]), input_gradient=input_gradient)

    layer = Halved(3, 4)
    with record() as trace:
        layer(X)
        with pytest.raises(ShapeError, match=r"given the gradient \(2, 4\) in torch.float32, expected \(1, 4\)"):
            layer.backward(torch.ones(2, 4))
        assert layer.backward(torch.ones(1, 4)).shape == (2, 3)
        assert len(trace) == 0


def test_a_method_of_a_mixin_is_guarded_and_keeps_its_name():
    class Mixin:
        def forward(self, x):
            """Says what it does."""
            self.save()
            return x

    class Mixed(Mixin, Module):
        def backward(self, dy):
            self.saved()
            return dy

    assert Mixed.forward.__doc__ == "Says what it does."
    assert list(inspect.signature(Mixed.forward).parameters) == ["self", "x"]
    assert "forward" not in vars(Mixin).get("forward").__dict__
    layer = Mixed()
    with record() as trace:
        layer(X)
        with pytest.raises(ShapeError):
            layer.backward(torch.ones(2))
        trace.take()


@pytest.mark.parametrize("base", [object, Module], ids=["unguarded", "guarded"])
def test_a_gradient_is_not_held_while_the_layers_below_run(base):
    """The largest gradients of a model are those of its logits: they must be free once the head has used them.

    Once something has been compiled, Python's own calls hold their arguments, guarded or not.
    """
    alive = []

    class Model(base):
        def backward(self, dy):
            dx = dy.clone()
            del dy
            alive.append(reference() is not None)
            return dx

    gradients = [torch.ones(2, 3)]
    reference = weakref.ref(gradients[0])
    Model().backward(gradients.pop())
    assert alive == [calls_hold_their_arguments()]


def test_what_was_kept_is_free_once_backward_has_used_it():
    alive = []

    class Keeps(Module):
        def forward(self, x):
            kept = x.clone()
            references.append(weakref.ref(kept))
            self.save(kept)
            return x * 2

        def backward(self, dy):
            (kept,) = self.saved()
            del kept
            alive.append(references[0]() is not None)
            return dy * 2

    references = []
    layer = Keeps()
    with record():
        layer(X)
        layer.backward(torch.ones(2, 3))
    assert alive == [False]


def calls_hold_their_arguments():
    found = []

    def called(tensor):
        del tensor
        found.append(reference() is not None)

    tensors = [torch.ones(2, 3)]
    reference = weakref.ref(tensors[0])
    called(tensors.pop())
    return found[0]


MISMATCHES = {
    "float64 into float32": (
        lambda: Linear(3, 4)(X.double()),
        r"Linear\(.*input is in torch.float64, but weight in torch.float32: convert one of them with .to\(dtype\)",
    ),
    "integers": (
        lambda: Linear(3, 4)(torch.ones(2, 3, dtype=torch.int64)),
        r"Linear\(.*given input in torch.int64, expected torch.float32, as its weight is",
    ),
    "meta beside cpu": (
        lambda: Linear(3, 4)(X.to("meta")),
        r"Linear\(.*input is on meta, but weight on cpu: move one of them with .to\(device\)",
    ),
    "a layer on meta": (
        lambda: Sequential(ReLU(), Linear(3, 4, device="meta"))(X),
        r"^Linear\(.*input is on cpu, but weight on meta",
    ),
    "targets on meta": (
        lambda: CrossEntropyLoss()(X, torch.zeros(2, dtype=torch.int64, device="meta")),
        r"CrossEntropyLoss\(.*input is on cpu, but target on meta",
    ),
}


@pytest.mark.parametrize(("wrong", "message"), MISMATCHES.values(), ids=list(MISMATCHES))
@pytest.mark.parametrize("recorded", [False, True])
def test_wrong_dtypes_and_devices_name_the_layer(wrong, message, recorded):
    with pytest.raises(ShapeError, match=message) as caught, record() if recorded else nullcontext():
        wrong()
    assert type(caught.value.__cause__) in (RuntimeError, NotImplementedError)
    assert "(PyTorch: " in str(caught.value)
    assert "\n" not in str(caught.value)


WHOLE = torch.ones(2, 3, dtype=torch.int64)
SILENT = {
    "layer norm": (
        lambda: LayerNorm(3)(X.double()),
        r"LayerNorm\(.*input in torch.float64, but its weight is in torch",
    ),
    "group norm": (lambda: GroupNorm(1, 3)(X.double()), r"GroupNorm\(.*input in torch.float64, but its weight"),
    "prelu": (
        lambda: ds_core.PReLU()(X.double()),
        r"PReLU\(.*input in torch.float64, but its weight is in torch.float32",
    ),
    "mse": (lambda: MSELoss()(WHOLE, WHOLE), r"MSELoss\(.*given input in torch.int64, expected a floating dtype"),
    "hinge": (lambda: ds_core.HingeEmbeddingLoss()(WHOLE, X), r"HingeEmbeddingLoss\(.*given input in torch.int64"),
    "cross-entropy": (
        lambda: CrossEntropyLoss()(WHOLE, WHOLE[:, 0]),
        r"CrossEntropyLoss\(.*given input in torch.int64",
    ),
    "nll": (lambda: ds_core.NLLLoss()(WHOLE, WHOLE[:, 0]), r"NLLLoss\(.*given input in torch.int64"),
    "multi-margin": (lambda: ds_core.MultiMarginLoss()(WHOLE, WHOLE[:, 0]), r"MultiMarginLoss\(.*given input in torch"),
    "ranking": (lambda: ds_core.MarginRankingLoss()(X, WHOLE, X), r"MarginRankingLoss\(.*given input2 in torch.int64"),
    "cosine": (lambda: ds_core.CosineEmbeddingLoss()(WHOLE, X, X[:, 0]), r"CosineEmbeddingLoss.*given input1 in torch"),
}


@pytest.mark.parametrize(("wrong", "message"), SILENT.values(), ids=list(SILENT))
def test_dtypes_that_no_operation_would_refuse_are_refused_as_by_the_twin(wrong, message):
    with pytest.raises(ShapeError, match=message):
        wrong()


@pytest.mark.parametrize("layer", [LayerNorm(3), GroupNorm(1, 3), ds_core.PReLU()])
def test_devices_that_are_looked_at_first(layer):
    with pytest.raises(ShapeError, match="^" + type(layer).__name__ + r"\(.*input is on meta, but weight on cpu: move"):
        layer(X.to("meta"))


NO_TENSORS = {
    "list": ([[1.0, 2.0, 3.0]], r"given input = \[\[1.0, 2.0, 3.0\]\], a list, expected a torch.Tensor"),
    "array": (torch.ones(40, 3).numpy(), r"given input = array\(\[\[1., 1.*, a ndarray, expected a torch.Tensor"),
    "nothing": (None, r"given input = None, expected a torch.Tensor"),
}


@pytest.mark.parametrize(("given", "message"), NO_TENSORS.values(), ids=list(NO_TENSORS))
@pytest.mark.parametrize("layer", [Linear(3, 4), ReLU(), Sequential(LayerNorm(3), ReLU())])
def test_what_is_no_tensor_is_named_with_the_layer_that_needs_one(layer, given, message):
    first = layer[0] if isinstance(layer, Sequential) else layer
    with pytest.raises(TypeError, match="^" + type(first).__name__ + r"\(.*" + message) as caught:
        layer(given)
    assert "\n" not in str(caught.value)


def test_other_type_errors_pass_unchanged():
    class Broken(Module):
        def forward(self, x: torch.Tensor, scale: float = 1.0):
            return x * len(scale)

    with pytest.raises(TypeError, match=r"^object of type 'float' has no len\(\)$"):
        Broken()(X)
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'x'"):
        Broken()()


def test_half_precision_beside_float32_and_whole_targets_are_taken():
    assert LayerNorm(3)(X.bfloat16()).dtype == torch.bfloat16
    assert MSELoss()(X, WHOLE).dtype == MSELoss()(WHOLE, X).dtype == torch.float32


def test_a_backward_outside_the_autocast_of_its_forward():
    layer = Linear(3, 4)
    with record() as trace:
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(X)
        with pytest.raises(
            ShapeError, match=r"the gradient is in torch.bfloat16, but weight in torch.float32: run back"
        ):
            layer.backward(y)
        assert len(trace) == 0


def test_a_target_that_requires_a_gradient_and_gets_none_is_named():
    target = torch.zeros(2, 3, requires_grad=True)
    loss = MSELoss()
    with record():
        loss(X, target)
        with pytest.raises(TypeError, match=r"the argument target of MSELoss\(.*requires a gradient.*: detach it"):
            loss.backward()
        loss(X, target)
        assert loss.backward(target_gradient=True)[1].shape == (2, 3)
        loss(X, target.detach())
        loss.backward()


def test_other_errors_pass_unchanged():
    class Broken(Module):
        def forward(self, x):
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match=r"^mine$"):
        Broken()(X)
    with pytest.raises(RuntimeError, match=r"^mine$"):
        Sequential(Broken())(X)
    whole = torch.ones(2, 3, dtype=torch.int64)
    with pytest.raises(RuntimeError, match=r"^mine$"):
        Broken()(whole)  # not taken for the fault of the dtype
    with pytest.raises(TraceError, match="outside record"):
        Linear(3, 4).double().backward(X)
    with pytest.raises(TypeError, match="argument"):
        Linear(3, 4)(X, X)


def test_parallel_sums_only_what_fits():
    layer = Parallel(Linear(3, 2), Linear(3, 4))
    with record() as trace:
        first, second = layer(X)
        with pytest.raises(ShapeError, match=r"given the gradient \(2, 2\) in torch.float32, expected \(2, 4\)"):
            layer.backward(second, first)
        trace.take()


def test_warnings_still_point_at_the_line_that_calls_the_layer():
    for call in (lambda: ds_core.Softmax()(X), lambda: MSELoss()(X, torch.zeros(3))):
        with pytest.warns(UserWarning, match="without dim|broadcast") as caught:
            call()
        assert [warning.filename for warning in caught] == [__file__]
