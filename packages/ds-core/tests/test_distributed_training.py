"""What several processes do with one model: how they begin, what they average, what each is given."""

import pytest
import torch
from distributed_models import Plain, train
from distributed_workers import (
    Even,
    Rows,
    different_beginnings,
    evaluated,
    exchanged,
    frozen_and_thawed,
    kept_gradients,
    other_models,
    sent_in_backward,
    train_compiled,
)
from ds_core import DataParallel, Linear, UserError
from several_processes import together

CLOSE = {"rtol": 1e-12, "atol": 1e-13}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_processes_without_rows(tmp_path, accumulate):
    options = {"accumulate": accumulate, "clip_norm": 0.5}
    weights, records = train(options, points=Rows)
    for their_weights, their_records in together(3, train, options, folder=tmp_path, kwargs={"points": Rows}):
        torch.testing.assert_close(their_weights, weights, **CLOSE)
        torch.testing.assert_close(their_records, records, **CLOSE)


def test_buffers_are_those_of_rank_0(tmp_path):
    (first, _), (second, _) = together(2, train, {}, folder=tmp_path, kwargs={"mean": True})
    assert first["layers.1.mean"] != 0
    torch.testing.assert_close(second, first, rtol=0, atol=0)


def test_compiled_steps(tmp_path):
    options = {"clip_norm": 0.3}
    weights, records = train(options, kind=Plain, points=Even, steps=3)
    for their_weights, their_records in together(2, train_compiled, options, folder=tmp_path, timeout=120):
        torch.testing.assert_close(their_weights, weights, **CLOSE)
        torch.testing.assert_close(their_records, records, **CLOSE)


def test_all_begin_with_the_weights_of_rank_0_and_a_random_state_of_their_own(tmp_path):
    (first, drawn), (second, *draws), (third, *more) = together(3, different_beginnings, folder=tmp_path)
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    torch.testing.assert_close(third, first, rtol=0, atol=0)
    torch.manual_seed(0)
    torch.testing.assert_close(first["0.weight"], Linear(2, 2).weight.detach(), rtol=0, atol=0)
    assert first["1.mean"] == 0
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(3))  # rank 0 goes on as one process would
    assert len({tuple(numbers.tolist()) for numbers in (drawn, *draws, *more)}) == 3


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("shape", r"weight is \(6, 5\) torch.float32, on rank 0 \(5, 5\) torch.float32"),
        ("names", r"weight is not there, on rank 0 \(5, 5\) torch.float32"),
    ],
)
def test_models_that_are_not_alike(tmp_path, kind, message):
    messages = together(2, other_models, kind, folder=tmp_path)
    assert messages[0] == messages[1]
    with pytest.raises(UserError, match=f"rank 1 holds another model than rank 0: {message}"):
        raise UserError(messages[0])


def test_layers_that_are_trained_later(tmp_path):
    expected = frozen_and_thawed()
    for weights in together(2, frozen_and_thawed, folder=tmp_path):
        torch.testing.assert_close(weights, expected, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_what_was_there_before_is_averaged_too(tmp_path, dtype):
    for weight, bias, sums in together(3, kept_gradients, dtype, folder=tmp_path):
        torch.testing.assert_close(weight, torch.full((2, 3), 3.0, dtype=dtype))  # (0 + 1 + 2) / 3 + 2
        assert bias is None
        assert sums == [4.5, 3.0]


def test_evaluations_and_callbacks(tmp_path):
    (seen, step, best, records), (other_seen, *same) = together(2, evaluated, tmp_path / "run", folder=tmp_path)
    assert same == [step, best, records]
    assert (step, best) == (6, {"step": 3, "loss": 10.0})
    assert seen == [10.0, 10.0, 10.0, 10.0]
    assert other_seen == [10.0, 10.0]
    assert [(tmp_path / f"rank{rank}.out").read_text() for rank in (0, 1)] == ["written\n", ""]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoint.safetensors", "log.jsonl"]
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 8


def test_what_they_tell_each_other(tmp_path):
    first, second = together(2, exchanged, folder=tmp_path)
    common = [5, [0, 1], True, "rank 0"]
    text = "integer division or modulo by zero"
    assert first == [*common, f"ZeroDivisionError('{text}')", 1]
    assert second == [*common, f"PeerError('rank 0 has failed: ZeroDivisionError: {text}')", 1]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_buckets_are_on_their_way_while_backward_runs(tmp_path, accumulate):
    for sent in together(2, sent_in_backward, {"accumulate": accumulate}, folder=tmp_path):
        assert sent == [0, 3, 3, 3, 3, 3]  # of four, the last of which waits; the first step only counts


def test_one_process_does_nothing():
    model = Linear(2, 2)
    parallel = DataParallel(model)
    before = torch.get_rng_state()
    with parallel.reducing() as reduction:
        reduction.sums.append(1.5)
        model.weight.grad = torch.ones(2, 2)
    assert reduction.sums == [1.5]
    assert torch.equal(model.weight.grad, torch.ones(2, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert parallel.agree("x") == "x"
    assert parallel.state_dict() == {}
    batches = Rows()
    assert parallel.share(batches) is batches


@pytest.mark.parametrize("sizes", [{"bucket_mb": 0}, {"first_bucket_mb": -1.0}])
def test_impossible_sizes(sizes):
    (name,) = sizes
    with pytest.raises(ValueError, match=f"DataParallel: given {name}="):
        DataParallel(Linear(1, 1), **sizes)
