"""Nested state survives as JSON plus tensors."""

import json
import math

import pytest
import torch
from ds_core.training.state_json import StateEncoder, all_finite, decode, tensor_names
from hypothesis import given, settings
from hypothesis import strategies as st

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.lists(st.integers(-5, 5), max_size=3).map(torch.tensor),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(
            st.text(max_size=8) | st.integers() | st.sampled_from(["$tensor", "$float"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_round_trip(value):
    encoder = StateEncoder()
    text = json.dumps(encoder.encode(value, "x"), allow_nan=False)
    assert same(value, decode(json.loads(text), encoder.tensors))
    assert set(tensor_names(json.loads(text))) == set(encoder.tensors)


def test_nan_and_infinity():
    encoded = json.loads(json.dumps(StateEncoder().encode([math.nan, -math.inf], "x"), allow_nan=False))
    restored = decode(encoded, {})
    assert math.isnan(restored[0])
    assert restored[1] == -math.inf


def test_names_are_paths_and_one_memory_is_kept_once():
    weight = torch.randn(3, 2)
    encoder = StateEncoder()
    encoded = encoder.encode({"a": weight, "b": {"c": [weight.detach()]}, "d": weight[:1], "e": weight.t()}, "model")
    assert list(encoder.tensors) == ["model.a", "model.d", "model.e"]
    restored = decode(encoded, encoder.tensors)
    assert restored["b"]["c"][0] is restored["a"]


def test_empty_tensors_are_kept_apart():
    encoder = StateEncoder()
    encoder.encode([torch.empty(0), torch.empty(0)], "x")
    assert len(encoder.tensors) == 2


def test_what_cannot_be_saved_is_named():
    with pytest.raises(TypeError, match=r"x\.schedule\.1: a function cannot be saved"):
        StateEncoder().encode({"schedule": [1, lambda: 0]}, "x")


def test_all_finite():
    assert all_finite([torch.ones(2), torch.ones(2, dtype=torch.int64)])
    assert not all_finite([torch.ones(2), torch.tensor([1.0, math.inf])])
    assert not all_finite([torch.tensor(math.nan)])
