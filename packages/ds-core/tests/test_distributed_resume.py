"""Runs of several processes that are killed and resumed end bit for bit where an unbroken one ends."""

import json
import time

import pytest
import torch
from distributed_recipe import ds
from distributed_workers import orders
from safetensors import safe_open
from safetensors.torch import load_file
from several_processes import Started, together


def run(folder, world_size, *words, kill_after=None):
    """The exit codes and what all have printed on stderr; all may be killed some seconds after the first step."""
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    started = Started(world_size, ds, "train", "points", "--out", str(folder / "run"), *words, folder=folder / "logs")
    if kill_after is not None:
        while not (folder / "run" / "log.jsonl").exists():
            time.sleep(0.01)
        time.sleep(kill_after)
        for process in started.processes:
            process.kill()
    ended = started.wait()
    return [one.code for one in ended], "".join(one.err for one in ended)


def outcome(folder):
    """Everything that a run leaves, but for the clock."""
    path = folder / "run" / "checkpoint.safetensors"
    with safe_open(path, framework="pt") as file:
        state = json.loads(file.metadata()["state"])
    del state["extra"]["trainer"]["seconds"], state["extra"]["callbacks"]
    log = [{**json.loads(line), "seconds": 0} for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    return state, load_file(path), log, sorted(path.name for path in (folder / "run").iterdir())


def assert_equal(one, other):
    (state, tensors, log, files), (theirs, their_tensors, their_log, their_files) = one, other
    assert state == theirs
    assert tensors.keys() == their_tensors.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], their_tensors[name])] == []
    assert log == their_log
    assert files == their_files


@pytest.mark.parametrize(("world_size", "mishaps"), [(2, ["kill-all-8", "kill-1-7", "kill-0-2"]), (3, ["kill-all-8"])])
def test_killed_and_resumed(tmp_path, world_size, mishaps):
    assert run(tmp_path / "whole", world_size)[0] == [0] * world_size
    whole = outcome(tmp_path / "whole")
    assert whole[0]["step"] == 12
    assert whole[3] == ["checkpoint.safetensors", "log.jsonl", "recipe.json"]
    assert len(whole[0]["random_others"]) == world_size - 1
    for mishap in mishaps:
        folder = tmp_path / mishap
        codes, _ = run(folder, world_size, "--mishap", mishap)
        assert -9 in codes
        assert run(folder, world_size, "--resume", "--mishap", "")[0] == [0] * world_size
        assert_equal(outcome(folder), whole)


def test_killed_from_outside_at_any_moment(tmp_path):
    assert run(tmp_path / "whole", 2)[0] == [0, 0]
    words = ("--mishap", "slow-all-0")
    assert run(tmp_path / "parts", 2, *words, kill_after=0.4)[0] == [-9, -9]
    assert run(tmp_path / "parts", 2, *words, "--resume", kill_after=0.3)[0] == [-9, -9]
    assert run(tmp_path / "parts", 2, "--resume", "--mishap", "")[0] == [0, 0]
    assert_equal(outcome(tmp_path / "parts"), outcome(tmp_path / "whole"))


def test_dropout_masks_of_the_ranks_differ_and_come_again(tmp_path):
    """The processes have states of their own, but for Python's and NumPy's generators."""
    run(tmp_path, 2, "--steps", "3")
    state, tensors, _, _ = outcome(tmp_path)
    assert state["random"]["torch"] == {"$tensor": "random.torch"}
    assert not torch.equal(tensors["random.torch"], tensors["random_others.0.torch"])
    assert torch.equal(tensors["random.numpy.state.key"], tensors["random_others.0.numpy.state.key"])


@pytest.mark.parametrize(("before", "after"), [(2, 3), (2, 1)])
def test_another_number_of_processes_goes_on_with_the_same_batches(tmp_path, before, after):
    words = ("--dropout", "0")
    run(tmp_path / "whole", 1, *words)
    run(tmp_path / "parts", before, *words, "--steps", "5")
    codes, err = run(tmp_path / "parts", after, "--steps", "12", "--resume")
    assert codes == [0] * after
    assert f"{before} process(es) wrote it, {after} go on: with the same batches, but other rounding" in err
    whole, parts = outcome(tmp_path / "whole"), outcome(tmp_path / "parts")
    assert len({tuple(state.tolist()) for name, state in parts[1].items() if name.endswith("torch")}) == after
    names = [name for name in whole[1] if not name.startswith("random")]
    for name in names:
        torch.testing.assert_close(parts[1][name], whole[1][name], rtol=1e-11, atol=1e-13)
    losses = [[record["loss"] for record in log if record["kind"] == "train"] for log in (whole[2], parts[2])]
    assert losses[1] == pytest.approx(losses[0], rel=1e-11)


def test_the_order_of_sums_stays_what_it_was(tmp_path):
    (before, after), other = together(2, orders, tmp_path / "run", folder=tmp_path)
    assert before == after == [2, 0, 1, 3]
    assert other == [before, after]


def test_a_folder_that_one_process_does_not_see(tmp_path):
    run(tmp_path, 2, "--steps", "3")
    codes, err = run(tmp_path, 2, "--resume", "--steps", "5", "--mishap", "blind-1-0")
    assert codes == [1, 1]
    assert "they need a file system that all of them share" in err
