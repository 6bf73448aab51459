"""The switch that compiles pure functions, and one pair run compiled."""

import shutil
import threading
import warnings
from collections.abc import Iterator

import ds_core.speed.compiled as compiled
import pytest
import torch
from ds_core import GELU, CrossEntropyLoss, LayerNorm, Softmax, compilable, compile_pairs, no_record, record
from ds_core.speed.compiled import can_compile, has_compiler


@pytest.fixture(autouse=True)
def switched_off() -> Iterator[None]:
    yield
    compile_pairs(False)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which functions were compiled, and in which order; nothing really is."""
    names: list[str] = []

    def compile_nothing(function, **options):  # type: ignore[no-untyped-def]
        if function is can_compile:  # asks whether it would be refused
            return function
        assert options == {"dynamic": True}
        names.append(function.__name__)
        return function

    monkeypatch.setattr(torch, "compile", compile_nothing)
    monkeypatch.setattr(shutil, "which", lambda command: f"/usr/bin/{command}")
    return names


def test_a_function_is_compiled_once_and_only_when_called(counted: list[str]) -> None:
    @compilable
    def doubled(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    with no_record():
        assert doubled(torch.ones(2)).tolist() == [2, 2]
        assert counted == []
        assert compile_pairs(True)
        assert counted == []
        for _ in range(2):
            assert doubled(torch.ones(2)).tolist() == [2, 2]
        assert counted == ["doubled"]
        assert not compile_pairs(False)
        doubled(torch.ones(2))
    assert counted == ["doubled"]
    assert doubled.__name__ == "doubled"


def test_autograds_engine_runs_what_is_written(counted: list[str]) -> None:
    compile_pairs(True)
    layer = LayerNorm(4)
    layer(torch.randn(2, 4)).sum().backward()
    assert counted == []
    with record():
        layer.backward(layer(torch.randn(2, 4)))
    assert counted == ["layer_norm", "layer_norm_backward"]


def test_a_step_that_is_compiled_itself_runs_what_is_written() -> None:
    def tripled(x: torch.Tensor) -> torch.Tensor:
        return x * 3

    marked = compilable(tripled)

    def step(x: torch.Tensor) -> torch.Tensor:
        with record():
            return marked(x) + 1

    compile_pairs(True)
    whole = torch.compile(step, fullgraph=True, backend="eager")
    assert whole(torch.ones(2)).tolist() == [4, 4]
    assert compiled._Switch.compiled == {}


def test_the_marked_functions_are_those_that_run_long_in_eager(counted: list[str]) -> None:
    compile_pairs(True)
    x = torch.randn(3, 4)
    for layer in (LayerNorm(4), GELU(), GELU("tanh"), Softmax(-1)):
        with record():
            layer.backward(layer(x))
    criterion = CrossEntropyLoss()
    for target in (torch.tensor([0, 1, 2]), torch.full((3, 4), 0.25)):
        with record():
            criterion(x, target)
            criterion.backward()
    with no_record():
        GELU()(x)
    expected = {"layer_norm", "layer_norm_backward", "gelu", "gelu_with_slope", "softmax", "softmax_backward"}
    expected |= {"probability_cross_entropy", "probability_cross_entropy_backward"}
    assert set(counted) == expected


def test_without_a_compiler_one_warning_and_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda command: None)
    monkeypatch.setattr(compiled._Switch, "warned", False)
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.warns(UserWarning, match=r"no C\+\+ compiler found \(looked for 'no-such-compiler'\)"):
        assert not compile_pairs(True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not compile_pairs(True)
    layer = LayerNorm(4)
    with record():
        layer.backward(layer(torch.randn(2, 4)))


def test_the_switch_holds_in_every_thread(counted: list[str]) -> None:
    compile_pairs(True)
    layer = LayerNorm(4)

    def work() -> None:
        with no_record():
            layer(torch.randn(2, 4))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(counted) <= 1


@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")
def test_a_compiled_pair_agrees_with_eager() -> None:
    torch.manual_seed(0)
    layer = LayerNorm(24)
    results = []
    for enabled in (False, True):
        assert compile_pairs(enabled) is enabled
        generator = torch.Generator().manual_seed(1)
        for rows in (8, 5):  # another size, the same code
            x, dy = (torch.randn(rows, 24, generator=generator) for _ in range(2))
            layer.zero_grad()
            with record():
                y = layer(x)
                dx = layer.backward(dy)
            results.append((y, dx, layer.weight.grad, layer.bias.grad))
    for eager, fast in zip(results[:2], results[2:], strict=True):
        torch.testing.assert_close(fast, eager)
