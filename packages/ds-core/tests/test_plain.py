"""Every fast form of ds-core against the plain one it is linked to, and the switch between them."""

import importlib
import pkgutil

import ds_core
import plain_cases_activations
import plain_cases_layers
import plain_cases_losses
import plain_cases_optimizers
import pytest
import torch
from ds_core import fast_form, is_plain, plain, plain_form
from ds_core.speed.plain import plain_pairs
from ds_core.testing import CheckFailed, check_plain

for module in pkgutil.walk_packages(ds_core.__path__, "ds_core."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)

# name of the fast form -> its cases, each a tuple of arguments, or a tuple of arguments and a dict of named ones
CASES = {
    **plain_cases_activations.CASES,
    **plain_cases_layers.CASES,
    **plain_cases_losses.CASES,
    **plain_cases_optimizers.CASES,
}


@pytest.mark.parametrize("pair", plain_pairs("ds_core"), ids=lambda pair: pair.fast.__qualname__)
def test_plain_and_fast_agree(pair):
    cases = CASES.get(pair.fast.__qualname__, ())
    assert cases, f"{pair.name} has no case in the plain_cases files"
    for case in cases:
        arguments, named = case if len(case) == 2 and isinstance(case[1], dict) else (case, {})
        check_plain(pair.fast, *arguments, **named)


def test_every_case_is_of_a_pair():
    assert set(CASES) == {pair.fast.__qualname__ for pair in plain_pairs("ds_core")}


def plain_double(x):
    return x + x


def plain_split(x, y):
    return x + 1, y + 2


@pytest.fixture
def registry(monkeypatch):
    """Pairs linked in a test are forgotten after it."""
    monkeypatch.setattr("ds_core.speed.plain._pairs", [])


def test_the_switch_holds_inside_the_block_and_nests(registry):
    double = fast_form(plain_double)(lambda x: 2 * x + 0.5)
    x = torch.ones(2)
    assert double(x).tolist() == [2.5, 2.5]
    with plain():
        assert is_plain()
        with plain():
            assert double(x).tolist() == [2, 2]
        assert double(x=x).tolist() == [2, 2]
        with pytest.raises(ZeroDivisionError), plain():
            raise ZeroDivisionError
        assert is_plain()
    assert not is_plain()
    assert double(x).tolist() == [2.5, 2.5]


def test_results_that_are_not_needed_are_none(registry):
    @fast_form(plain_split)
    def split(x, y, needs=(True, True), out=None):
        raise AssertionError("not this one")

    with plain():
        assert split(1, 2) == (2, 4)
        assert split(1, 2, needs=(False, True)) == (None, 4)
        assert split(1, y=2, needs=(True, False), out=torch.empty(1)) == (2, None)
    assert plain_form(split)(1, 2, needs=(False, True)) == (None, 4)


def test_arguments_that_the_plain_form_lacks_are_refused(registry):
    with pytest.raises(TypeError, match="plain_double does not take scale of faster"):

        @fast_form(plain_double)
        def faster(x, scale):
            return scale * x


@pytest.mark.parametrize("engine", ["handwritten", "autograd"])
def test_a_fault_in_the_fast_form_is_found(engine, registry):
    @fast_form(plain_double)
    def double(x):
        wrong = torch.is_grad_enabled() == (engine == "autograd")
        return x + x + 1e-9 * wrong

    with pytest.raises(CheckFailed, match=f"double.*\n.*{engine}.*result 0: fast and plain form differ"):
        check_plain(double, torch.ones(3))
