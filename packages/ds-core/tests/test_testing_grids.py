"""Grids that are thinned hold every pair of values; a function that is compiled more often than it may is found."""

import itertools

import pytest
import torch
from ds_core import GroupNorm, Linear, record
from ds_core.testing import CheckFailed, check_twin_grid, full_grids, one_graph, pairwise
from ds_core.testing.grids import FULL_GRIDS, combinations
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(autouse=True)
def thinned(monkeypatch):
    monkeypatch.delenv(FULL_GRIDS, raising=False)


def pairs(chosen):
    return {pair for one in chosen for pair in itertools.combinations([f"{k}={v!r}" for k, v in one.items()], 2)}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(sizes=st.lists(st.integers(1, 4), min_size=2, max_size=5))
def test_every_pair_of_values_is_there(sizes):
    grid = {f"argument{index}": list(range(size)) for index, size in enumerate(sizes)}
    chosen = pairwise(grid)
    assert pairs(chosen) == pairs(combinations(grid))
    assert all(one in combinations(grid) for one in chosen)
    largest, next_largest = sorted(sizes)[-1], sorted(sizes)[-2]
    assert largest * next_largest <= len(chosen) <= len(combinations(grid))


def test_worked_example():
    """Of two values each, four combinations hold all pairs of three arguments, and eight those of ten."""
    yes_or_no = {name: [False, True] for name in "abcdefghij"}
    assert pairwise({name: yes_or_no[name] for name in "abc"}) == [
        {"a": False, "b": False, "c": False},
        {"a": False, "b": True, "c": True},
        {"a": True, "b": False, "c": True},
        {"a": True, "b": True, "c": False},
    ]
    assert len(pairwise(yes_or_no)) <= 10


def test_of_given_combinations_only_the_possible_ones_are_taken():
    possible = [
        chosen for chosen in combinations({"a": [0, 1], "b": [0, 1], "c": [[], [1]]}) if chosen["a"] or chosen["b"]
    ]
    chosen = pairwise(possible)
    assert pairs(chosen) == pairs(possible)
    assert all(one in possible for one in chosen)
    assert pairwise({"a": [1, 2, 3]}) == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert pairwise([]) == []


@pytest.mark.parametrize(("value", "full"), [("1", True), ("0", False), ("", False)])
def test_the_environment_asks_for_all(monkeypatch, value, full):
    monkeypatch.setenv(FULL_GRIDS, value)
    assert full_grids() == full
    grid = {name: [False, True] for name in "abc"}
    assert (pairwise(grid) == combinations(grid)) == full


def test_a_thinned_grid_builds_all_and_compares_some(monkeypatch):
    grid = {"in_features": [3, -1], "out_features": [1, 2], "bias": [True, False], "dtype": [None, torch.float64]}
    built = []

    class Counted(Linear):
        def __init__(self, *args, **kwargs):
            built.append(kwargs)
            super().__init__(*args, **kwargs)

    def compared(**options):
        built.clear()
        return check_twin_grid(Counted, torch.nn.Linear, grid, [torch.randn(2, 3)], check_arguments=False, **options)

    assert compared() == 8
    assert compared(thinned=True) == len(pairwise({**grid, "in_features": [3]})) == 5
    assert len(built) == 16 + 5
    monkeypatch.setenv(FULL_GRIDS, "1")
    assert compared(thinned=True) == 8


def test_a_fault_of_two_values_together_is_found_in_a_thinned_grid():
    class Wrong(Linear):
        def __init__(self, in_features, out_features, bias, dtype):
            super().__init__(in_features, out_features, bias, dtype=dtype)
            self.wrong = out_features == 2 and not bias

        def forward(self, input):
            return -super().forward(input) if self.wrong else super().forward(input)

    grid = {"in_features": [3], "out_features": [1, 2], "bias": [True, False], "dtype": [None, torch.float64]}
    with pytest.raises(CheckFailed, match="out_features=2, bias=False"):
        check_twin_grid(Wrong, torch.nn.Linear, grid, [torch.randn(2, 3)], check_arguments=False, thinned=True)


def test_one_graph_serves_all_sizes_and_all_that_is_a_tensor():
    layer = Linear(3, 2)

    def step(x, scale):
        layer.zero_grad()
        with record():
            return layer.backward(layer(x) * scale)

    compiled = one_graph(step, dynamic=True)
    for rows, scale in ((2, 1.0), (5, 3.0)):
        x = torch.randn(rows, 3)
        torch.testing.assert_close(compiled(x, torch.tensor(scale)), step(x, torch.tensor(scale)))


def test_a_function_that_is_compiled_again_is_found():
    def scaled(x, scale):
        return x * scale

    compiled = one_graph(scaled, graphs=2)
    assert compiled(torch.ones(2), 2).tolist() == [2, 2]
    assert compiled(torch.ones(3), 2).tolist() == [2, 2, 2]
    with pytest.raises(CheckFailed, match=r"(?s)scaled.*compiled 3 times up to this call, expected 2"):
        compiled(torch.ones(3), 3)


def test_what_looks_at_values_is_no_graph():
    def looks(x):
        return x if x.sum() > 0 else -x

    with pytest.raises(torch._dynamo.exc.Unsupported):
        one_graph(looks)(torch.ones(2))


def test_an_argument_that_an_older_torch_lacks_is_left_out_if_it_is_named():
    class Older(torch.nn.GroupNorm):
        def __init__(self, num_groups, num_channels):
            super().__init__(num_groups, num_channels)

    grid = {"num_groups": [1, 3], "num_channels": [6], "bias": [True, False]}
    with pytest.raises(CheckFailed, match="unexpected keyword argument 'bias'"):
        check_twin_grid(GroupNorm, Older, grid, [torch.randn(2, 6)], check_arguments=False)
    assert check_twin_grid(GroupNorm, Older, grid, [torch.randn(2, 6)], check_arguments=False, newer=["bias"]) == 2
