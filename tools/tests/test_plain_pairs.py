import ast

import check_docs
import plain_pairs
import pytest

GOOD = """\
from ds_core.losses.mse import plain_error
from ds_core.speed.elementwise import elementwise


def plain_gelu(x):
    return x * phi(x)


def plain_gelu_backward(dy, x):
    return dy * slope(x, out=None)


@fast_form(plain_gelu)
@compilable
def gelu(x):
    return elementwise(_value, x)


@fast_form(plain_gelu_backward)
def gelu_backward(dy, x):
    return torch.mul(dy, x, out=reuse(dy))


@fast_form(plain_error)
def error(x):
    return _value(x)


def _value(x, out):
    return torch.mul(x, x, out=out)


def relu(x):
    return clamp_min(x)


def relu_backward(dy, y):
    return torch.sign(y).mul_(dy)


def geglu_backward(dy, x):
    return gelu_backward(dy, x)


def count(x):
    return widened(x)


class Base:
    def direction(self):
        raise NotImplementedError


class Adam(Base):
    def update(self, parameter):
        plain_adam(parameter)

    def direction(self):
        return adam_direction()
"""


def faults(code):
    return [fault for _, fault in plain_pairs.faults(ast.parse(code))]


def test_lets_through_what_is_linked_and_what_is_not_fast():
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("@fast_form(plain_gelu)\n", "", "gelu is compilable and has no plain form"),
        ("@fast_form(plain_gelu_backward)\n", "", "gelu_backward has out= (line 20) and no plain form"),
        ("@fast_form(plain_gelu)\n@compilable\n", "", "gelu has elementwise (line 14) and no plain form"),
        ("return torch.sign(y).mul_(dy)", "return _value(y)", "relu_backward has out= (line 30) and no plain form"),
        ("return torch.sign(y).mul_(dy)", "return count(y)", "relu_backward has widened (line 46) and no plain form"),
        ("relu_backward(dy", "relu_with_slope(chunks", None),
        ("clamp_min(x)", "torch.exp(x, out=y)", "relu has out= (line 34) and no plain form"),
        ("return x * phi(x)", "return reuse(x)", "plain_gelu is a plain function and has reuse"),
        ("slope(x, out=None)", "slope(x, out=dy)", "plain_gelu_backward is a plain function and has out="),
        ("import plain_error", "import plain_other", "plain_error, the plain form of error, does not stand above it"),
        ("def plain_gelu(", "def plain_gelu_once(", "plain_gelu, the plain form of gelu, does not stand above it"),
        ("@fast_form(plain_error)", "@fast_form(relu)", "error is linked to relu, expected the name of a plain"),
        ("        plain_adam(parameter)", "        adam(parameter)", "Adam has a fast direction and no update"),
        ("    def update(self, parameter):\n        plain_adam(parameter)\n\n", "", "Adam has a fast direction and no"),
    ],
)
def test_catches(before, after, fault):
    assert before in GOOD
    found = faults(GOOD.replace(before, after, 1))
    assert len(found) == (fault is not None)
    assert fault is None or fault in found[0]


def test_a_plain_function_below_the_fast_one():
    code = "@fast_form(plain_f)\ndef f(x):\n    return x\n\n\ndef plain_f(x):\n    return x\n"
    assert faults(code) == ["plain_f, the plain form of f, does not stand above it"]


def test_the_docs_tool_demands_them_but_not_of_speed_itself(plant):
    code = "@compilable\ndef f(x):\n    return x\n"
    files = {f"ds-core/src/ds_core/{folder}/a.py": code for folder in ("speed", "testing", "layers")}
    (found,) = check_docs.check(plant(files))
    assert found.startswith("packages/ds-core/src/ds_core/layers/a.py:2: f is compilable")
