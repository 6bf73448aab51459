"""SyncBatchNorm against BatchNorm of the joined batch, in threads that stand for processes, and in two by gloo."""

import copy
import itertools
from functools import partial
from typing import Any

import joined_batches
import pytest
import torch
from ds_core import ShapeError, SyncBatchNorm
from ds_core.layers import sync_batch_norm
from ds_core.layers.batch_norm import batch_norm_backward
from ds_core.layers.sync_batch_norm import batch_moments, joined_moments
from ds_core.testing import check_layer, check_twin_grid
from ds_core.testing.signature import takes_argument
from hypothesis import given, settings
from hypothesis import strategies as st
from several_processes import together
from torch import Tensor

HOWS = ["handwritten", "autograd", "recomputed", "parameters"]
Case = tuple[SyncBatchNorm, list[Tensor], list[Tensor | None], str]


def make_case(sizes: tuple[int, ...], trailing: tuple[int, ...], how: str, **arguments: Any) -> Case:
    """In float64; the parts differ in mean and deviation, so that it shows whose statistics are taken."""
    layer = SyncBatchNorm(3, **arguments).double()
    with torch.no_grad():
        for tensor in [*layer.parameters(), *layer.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(torch.rand(3))
    parts = [(k + 1) * torch.randn(n, 3, *trailing, dtype=torch.float64) + 5 * k for k, n in enumerate(sizes)]
    return layer, parts, [torch.randn_like(part) for part in parts], how


def in_threads(monkeypatch: pytest.MonkeyPatch, case: Case) -> joined_batches.Threads:
    """Pass by pass in threads, held against the joined batch."""
    threads = joined_batches.Threads(len(case[1]))
    monkeypatch.setattr(sync_batch_norm, "dist", threads)
    found = threads.run(partial(joined_batches.passes, *case))
    joined_batches.compare(found, joined_batches.joined_pass(*case[:3]), case[3])
    return threads


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("sizes", [(3, 3), (2, 5), (1, 1), (4, 0), (0, 3), (2, 1, 4)])
@pytest.mark.parametrize("trailing", [(), (2,), (2, 3)])
def test_the_batches_of_all_processes_are_one(
    sizes: tuple[int, ...], trailing: tuple[int, ...], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_threads(monkeypatch, make_case(sizes, trailing, how))


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    "arguments", [{"momentum": None}, {"affine": False}, {"track_running_stats": False}, {"eps": 1.0}]
)
def test_every_argument_does_what_it_does_in_batch_norm(
    arguments: dict[str, Any], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "parameters" and arguments.get("affine") is False:
        how = "handwritten"
    in_threads(monkeypatch, make_case((2, 5), (), how, **arguments))


@pytest.mark.parametrize("how", ["handwritten", "autograd"])
@pytest.mark.parametrize("frozen", [("weight",), ("bias",), ("weight", "bias")])
def test_frozen_parameters_get_no_gradient(frozen: tuple[str], how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, parts, dys, _ = case = make_case((2, 3), (), how)
    for name in frozen:
        getattr(layer, name).requires_grad_(False)
    threads = joined_batches.Threads(2)
    monkeypatch.setattr(sync_batch_norm, "dist", threads)
    found = threads.run(partial(joined_batches.passes, *case))
    expected = joined_batches.joined_pass(layer, parts, dys)
    for mine, right in zip(found, expected, strict=True):
        assert all(mine[f"d{name}"] is None for name in frozen)
        torch.testing.assert_close(mine["dx"], right["dx"])


def test_none_in_one_process_is_zeros_for_which_the_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, parts, dys, how = make_case((2, 5), (), "handwritten")
    case = (layer, parts, [None, dys[1]], how)
    threads = joined_batches.Threads(2)
    monkeypatch.setattr(sync_batch_norm, "dist", threads)
    found = threads.run(partial(joined_batches.passes, *case))
    assert (found[0]["dweight"], found[0]["dbias"]) == (None, None)
    joined_batches.compare(found, joined_batches.joined_pass(*case[:3]), how)


def test_one_number_in_all_processes_is_its_own_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which one process alone refuses. Nothing can be said of the variance: that in the running average is 0."""
    layer, parts, dys, how = make_case((1, 0), (), "handwritten", momentum=1.0)
    threads = joined_batches.Threads(2)
    monkeypatch.setattr(sync_batch_norm, "dist", threads)
    first, second = threads.run(partial(joined_batches.passes, layer, parts, dys, how))
    torch.testing.assert_close(first["y"][0], layer.bias.detach())
    torch.testing.assert_close(first["dx"], torch.zeros_like(parts[0]))
    assert second["dx"].shape == (0, 3)
    for found in (first, second):
        torch.testing.assert_close(found["running_mean"], parts[0][0])
        assert found["running_var"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_precision_is_joined_in_float32(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, parts, dys, how = make_case((200, 500), (), "handwritten")
    case = (layer.to(dtype), [part.to(dtype) for part in parts], [dy.to(dtype) for dy in dys], how)
    threads = joined_batches.Threads(2)
    monkeypatch.setattr(sync_batch_norm, "dist", threads)
    found = threads.run(partial(joined_batches.passes, *case))
    exact = joined_batches.joined_pass(copy.deepcopy(layer).double(), *([x.double() for x in xs] for xs in case[1:3]))
    near = {"rtol": 1e-2, "atol": 2e-2} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    for mine, right in zip(found, exact, strict=True):
        for name in ("y", "dx", "running_mean", "running_var"):
            assert mine[name].dtype == dtype
            torch.testing.assert_close(mine[name].double(), right[name], **near)


def test_collectives_run_in_the_given_group(monkeypatch: pytest.MonkeyPatch) -> None:
    group = "a group"
    threads = in_threads(monkeypatch, make_case((2, 5), (), "handwritten", process_group=group))
    assert threads.asked == [group] * 4  # of each of two processes one in forward and one in backward
    threads = in_threads(monkeypatch, make_case((2, 5), (), "parameters", process_group=group))
    assert threads.asked == [group] * 2


@pytest.mark.parametrize("track", [True, False])
def test_nothing_is_joined_in_evaluation(track: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, parts, dys, _ = make_case((2, 5), (), "handwritten", track_running_stats=track)
    layer.eval()
    threads = joined_batches.Threads(2)
    monkeypatch.setattr(sync_batch_norm, "dist", threads)
    for rank in (0, 1):
        found = joined_batches.passes(layer, parts, dys, "handwritten", rank)
        joined_batches.compare([found], joined_batches.joined_pass(layer, [parts[rank]], [dys[rank]]), "handwritten")
    assert threads.asked == []


def test_one_process_is_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = in_threads(monkeypatch, make_case((4,), (), "handwritten"))
    assert threads.asked == []
    with pytest.raises(ShapeError, match="more than 1 value per channel"):
        SyncBatchNorm(3)(torch.randn(1, 3))


@pytest.fixture(scope="module")
def gloo_passes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Case, list[joined_batches.Found]]]:
    """Every case in two real processes."""
    torch.manual_seed(0)
    cases = [make_case(*given) for given in itertools.product([(2, 5), (0, 3), (1, 1)], [(), (2, 3)], HOWS)]
    found = together(2, joined_batches.gloo_process, cases, folder=tmp_path_factory.mktemp("gloo"))
    return list(zip(cases, map(list, zip(*found, strict=True)), strict=True))


@pytest.mark.parametrize("number", range(24))
def test_two_processes_by_gloo(number: int, gloo_passes: list[tuple[Case, list[joined_batches.Found]]]) -> None:
    case, found = gloo_passes[number]
    joined_batches.compare(found, joined_batches.joined_pass(*case[:3]), case[3])


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    trailing=st.lists(st.integers(1, 3), max_size=2),
    offset=st.sampled_from([0.0, 1e4]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    seed=st.integers(0, 99),
)
def test_moments_are_joined_without_cancellation(
    sizes: list[int], trailing: list[int], offset: float, dtype: torch.dtype, seed: int
) -> None:
    """Also of a mean far larger than the deviation: what rounding does to x is done before."""
    generator = torch.Generator().manual_seed(seed)
    parts = [(torch.randn(n, 3, *trailing, generator=generator) + k + offset).to(dtype) for k, n in enumerate(sizes)]
    mean, var, count = joined_moments(torch.stack([batch_moments(part) for part in parts]))
    flat = torch.cat(parts).double().movedim(1, 0).reshape(3, -1)
    assert int(count) == flat.shape[1]
    if flat.shape[1] == 0:
        assert (mean.tolist(), var.tolist()) == ([0] * 3, [0] * 3)
        return
    right, exact = flat.mean(1), flat.var(1, correction=0)
    torch.testing.assert_close(mean.double(), right, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(var.double(), exact, rtol=1e-5, atol=1e-6)
    assert float(var.min()) >= 0


def test_worked_example() -> None:
    first, second = torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0]])
    moments = torch.stack([batch_moments(first), batch_moments(second)])
    assert moments.tolist() == [[2.0, 0.0, 2.0, 2.0], [5.0, 0.0, 0.0, 1.0]]
    mean, var, count = joined_moments(moments)
    near = {"rtol": 0, "atol": 5e-5}
    assert int(count) == 3
    torch.testing.assert_close(mean, torch.tensor([3.0]))
    torch.testing.assert_close(var, torch.tensor([2.6667]), **near)
    rstd = torch.tensor([0.5])  # 1 / sqrt(var + 1.3333)
    torch.testing.assert_close((var + 1.3333).rsqrt(), rstd, **near)
    dys = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0]])
    local = [
        batch_norm_backward(dy, x, mean, rstd, None, 1 / 3, (False, True, True))
        for dy, x in zip(dys, (first, second), strict=True)
    ]
    assert [(float(dweight), float(dbias)) for _, dweight, dbias in local] == [(-1.0, 3.0), (3.0, 3.0)]
    totals = (torch.tensor([2.0]), torch.tensor([6.0]))
    dxs = [
        batch_norm_backward(dy, x, mean, rstd, None, 1 / 3, (True, False, False), totals)[0]
        for dy, x in zip(dys, (first, second), strict=True)
    ]
    torch.testing.assert_close(torch.cat(dxs), torch.tensor([[-0.1667], [0.0], [0.1667]]), **near)


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2), (2, 3, 2, 2)])
def test_alone_it_is_right_and_the_twin(shape: tuple[int, ...]) -> None:
    check_layer(SyncBatchNorm(3), torch.randn(shape), skip=["batch of one"] if len(shape) == 2 else [])
    check_layer(SyncBatchNorm(3).eval(), torch.randn(shape))
    grid = {
        "num_features": [3],
        "eps": [1e-5, 0.1],
        "momentum": [0.1, None],
        "affine": [True, False],
        "track_running_stats": [True, False],
        "bias": [True, False],
    }
    compared = check_twin_grid(SyncBatchNorm, torch.nn.SyncBatchNorm, grid, [torch.randn(shape)], newer=["bias"])
    knows_bias = takes_argument(torch.nn.SyncBatchNorm, "bias")
    assert compared == (32 if knows_bias else 16)
    shown = repr(SyncBatchNorm(3)) if knows_bias else repr(SyncBatchNorm(3)).replace(", bias=True", "")
    assert shown == repr(torch.nn.SyncBatchNorm(3))


def test_impossible_inputs_are_refused_as_by_the_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    for joined in (False, True):
        if joined:
            monkeypatch.setattr(sync_batch_norm, "dist", joined_batches.Threads(2))
        with pytest.raises(
            ShapeError, match=r"SyncBatchNorm\(3, .*given input of shape \(3,\), expected \(N, C, \.\.\.\)"
        ):
            SyncBatchNorm(3)(torch.randn(3))
        with pytest.raises(ValueError, match="given no channels"):
            SyncBatchNorm(0)(torch.randn(2, 0))
