"""The whole training step as one graph: the same numbers as eager, compiled once."""

import copy
import warnings

import pytest
import torch
from ds_core import (
    GELU,
    AdamW,
    CrossEntropyLoss,
    Dropout,
    LayerNorm,
    Linear,
    Recompute,
    Residual,
    Sequential,
    WarmupCosineLR,
    compile_pairs,
    compile_step,
    eager_step,
    whole_step,
)
from ds_core.speed.compiled import has_compiler
from ds_core.training.compile_step import compile_parts
from torch._dynamo.utils import counters


def build(dropout=0.0):
    torch.manual_seed(0)
    middle = (Recompute(Residual(Linear(8, 8))), LayerNorm(8), GELU(approximate="tanh"), Dropout(dropout))
    model = Sequential(Linear(5, 8), *middle, Linear(8, 3)).double()
    optimizer = AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    return model, CrossEntropyLoss(), optimizer


def batches(index, count=2):
    generator = torch.Generator().manual_seed(index)
    return [
        (torch.randn(4, 5, generator=generator, dtype=torch.float64), torch.randint(3, (4,), generator=generator))
        for _ in range(count)
    ]


def test_whole_step_is_the_step_written_out():
    model, criterion, optimizer = build()
    twin = copy.deepcopy(model)
    theirs = torch.optim.AdamW(twin.parameters(), lr=0.05, weight_decay=0.1)
    step = whole_step(model, criterion, optimizer, clip_norm=0.1)
    for index in range(3):
        loss, norm = step(batches(index))
        pairs = batches(index)
        expected = sum(torch.nn.functional.cross_entropy(twin(x), target) for x, target in pairs) / len(pairs)
        expected.backward()
        expected_norm = torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.1)
        theirs.step()
        theirs.zero_grad()
        torch.testing.assert_close(loss, expected.detach())
        torch.testing.assert_close(norm, expected_norm)
    for (name, given), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(given.detach(), other.detach(), msg=name)


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_whole_step_is_the_eager_step_for_several_batches(clip_norm):
    model, criterion, optimizer = build(dropout=0.5)
    twin, _, other = copy.deepcopy((model, criterion, optimizer))
    other = AdamW(twin.parameters(), lr=0.05, weight_decay=0.1)
    step = whole_step(twin, criterion, other, clip_norm=clip_norm)
    for index in range(3):
        (pair,) = batches(index, count=1)
        torch.manual_seed(index)
        loss = eager_step(model, criterion, optimizer, *pair, clip_norm=clip_norm)
        torch.manual_seed(index)
        assert torch.equal(loss, step([pair])[0])
        assert all(tensor.grad is None for tensor in model.parameters())
    for tensor, same in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(tensor, same)


def test_without_a_compiler_the_step_runs_eagerly_and_says_so(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr("ds_core.speed.compiled._Switch.warned", False)
    model, criterion, optimizer = build()
    with pytest.warns(UserWarning, match="no C\\+\\+ compiler found"):
        step = compile_step(model, criterion, optimizer)
    loss, norm = step(batches(0))
    assert torch.isfinite(loss)
    assert norm is None


@pytest.mark.parametrize("make", [compile_step, compile_parts])
def test_where_torch_cannot_compile_the_step_runs_eagerly_and_says_so_once(monkeypatch, make):
    def refuse(function, **options):
        raise RuntimeError("torch.compile is not supported on Python 3.99+")

    monkeypatch.setattr("ds_core.speed.compiled.has_compiler", lambda: True)
    monkeypatch.setattr("ds_core.speed.compiled._Switch.reported", False)
    monkeypatch.setattr(torch, "compile", refuse)
    model, criterion, optimizer = build()
    message = r"torch 2\S+ cannot compile on Python 3\.\d+ \(.*3\.99\+\): running uncompiled"
    with pytest.warns(UserWarning, match=message):
        step = make(model, criterion, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not compile_pairs(True)
    loss = step.gradients(batches(0)) if make is compile_parts else step(batches(0))[0]
    assert torch.isfinite(loss)


@pytest.mark.skipif(not has_compiler(), reason="torch.compile needs a C++ compiler")
def test_compiled_equals_eager_and_is_compiled_once():
    torch._dynamo.reset()
    counters.clear()
    model, criterion, optimizer = build()
    twin, _, other = copy.deepcopy((model, criterion, optimizer))
    other = AdamW(twin.parameters(), lr=0.05, weight_decay=0.1)
    eager = whole_step(twin, criterion, other, clip_norm=0.1)
    compiled = compile_step(model, criterion, optimizer, clip_norm=0.1)
    schedules = [WarmupCosineLR(own, 2, 8, 0.001) for own in (optimizer, other)]
    for index in range(6):
        loss, norm = compiled(batches(index))
        expected, expected_norm = eager(batches(index))
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(norm, expected_norm, rtol=1e-12, atol=1e-14)
        for schedule in schedules:
            schedule.step()
    for (name, given), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(given.detach(), theirs.detach(), rtol=1e-11, atol=1e-13, msg=name)
    assert counters["stats"]["unique_graphs"] == 1
