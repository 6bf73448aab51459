"""A run of several processes that fails ends on all of them, soon, and with one message."""

import re

import pytest
from distributed_recipe import ds
from distributed_workers import script
from ds_core.training.checkpoint import describe_checkpoint
from several_processes import Started


def run(tmp_path, mishap, world_size=2, *words, **environment):
    """The processes that have ended, and every message of any of them."""
    given = ("train", "points", "--out", str(tmp_path / "run"), "--mishap", mishap, *words)
    ended = Started(world_size, ds, *given, folder=tmp_path, **environment).wait(30)
    text = "\n".join(one.err for one in ended)
    return ended, re.findall(r"^(?:ds: .*|Traceback.*|\w*(?:Error|Exception|Interrupt)\b.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed(tmp_path, rank, world_size):
    ended, messages = run(tmp_path, f"kill-{rank}-5", world_size)
    assert [one.code for one in ended] == [-9 if other == rank else 1 for other in range(world_size)]
    assert max(one.seconds for one in ended) < 15
    (message,) = messages
    assert message.startswith(
        f"ds: error: rank {rank} is gone without a word (killed, or out of memory?); to continue: "
    )
    assert message.endswith(
        f"torchrun --nproc-per-node {world_size} -m ds_core.cli train points --out {tmp_path}/run --resume"
    )


@pytest.mark.parametrize("rank", ["0", "1", "all"])
def test_a_mistake_of_the_user(tmp_path, rank):
    ended, messages = run(tmp_path, f"mistake-{rank}-5")
    assert messages == ["ds: error: a mistake"]
    assert [one.code for one in ended] == [2 if rank in (other, "all") else 1 for other in ("0", "1")]
    assert max(one.seconds for one in ended) < 15


@pytest.mark.parametrize("rank", ["1", "all"])
def test_a_bug_shows_one_traceback(tmp_path, rank):
    ended, messages = run(tmp_path, f"bug-{rank}-5", 3)
    assert messages == ["Traceback (most recent call last):", "RuntimeError: a bug"]
    assert [one.code for one in ended] == [1, 1, 1]
    assert max(one.seconds for one in ended) < 15


@pytest.mark.parametrize("mishap", ["in a step", "at the end"])
def test_in_a_program_without_ds_each_process_has_its_error(tmp_path, mishap):
    ended = Started(2, script, mishap, folder=tmp_path).wait(30)
    assert [one.code for one in ended] == [1, 1]
    assert max(one.seconds for one in ended) < 15
    assert "PeerError: rank 1 has failed: RuntimeError: a bug" in ended[0].err
    assert ended[1].err.rstrip().endswith("RuntimeError: a bug")


def test_a_process_that_leaves_before_the_end(tmp_path):
    ended = Started(2, script, "without a word", folder=tmp_path).wait(30)
    assert [one.code for one in ended] == [1, 0]
    assert "PeerError: rank 1 is gone without a word" in ended[0].err


def test_options_that_no_process_can_use(tmp_path):
    ended, messages = run(tmp_path, "", 2, "--stpes", "3")
    assert messages == ["ds: error: unknown option --stpes; did you mean --steps? (see ds train points --help)"]
    assert [one.code for one in ended] == [2, 2]


def test_a_folder_that_holds_a_run(tmp_path):
    run(tmp_path, "", 2, "--steps", "1")
    ended, messages = run(tmp_path, "", 2, "--steps", "1")
    assert len(messages) == 1
    assert "already holds a run of points: --resume continues it" in messages[0]
    assert [one.code for one in ended] == [2, 1]


def test_a_loss_that_is_not_finite_on_one_rank(tmp_path):
    ended, messages = run(tmp_path, "infinite-1-5")
    (message,) = messages
    assert message == (
        "ds: error: step 6: the loss is inf; on rank 1 every layer's output is finite, the loss Squares() is not; "
        f"the last good checkpoint is {tmp_path}/run/checkpoint.safetensors"
    )
    assert [one.code for one in ended] == [1, 1]
    assert describe_checkpoint(tmp_path / "run" / "checkpoint.safetensors").step == 3


def to_continue(tmp_path):
    return f"ds: to continue: torchrun --nproc-per-node 2 -m ds_core.cli train points --out {tmp_path}/run --resume"


@pytest.mark.parametrize("mishap", ["SIGINT-0-5", "SIGINT-1-5", "SIGTERM-all-5"])
def test_ctrl_c_stops_all_after_the_same_step(tmp_path, mishap):
    ended, messages = run(tmp_path, mishap)
    assert [one.code for one in ended] == [130, 130]
    assert messages == [
        f"ds: stopped after step 6 of 12; saved in {tmp_path}/run/checkpoint.safetensors",
        to_continue(tmp_path),
    ]
    assert describe_checkpoint(tmp_path / "run" / "checkpoint.safetensors").step == 6


def test_ctrl_c_twice_stops_at_once(tmp_path):
    ended, messages = run(tmp_path, "twice-all-5")
    assert [one.code for one in ended] == [130, 130]
    assert messages == ["ds: stopped", to_continue(tmp_path)]
    assert describe_checkpoint(tmp_path / "run" / "checkpoint.safetensors").step == 3


def test_a_process_that_hangs(tmp_path):
    ended, messages = run(tmp_path, "hang-1-5", DS_TIMEOUT="2")
    (message,) = messages
    assert message.startswith("ds: error: rank 1 is there, but has not come to where the others wait for it (")
    assert [one.code for one in ended] == [1, 1]
    assert max(one.seconds for one in ended) < 15


def test_weights_that_drift_apart_are_noticed_before_a_checkpoint(tmp_path):
    ended, messages = run(tmp_path, "drift-1-5")
    (message,) = messages
    assert message.startswith("ds: error: the weights of rank 1 are no longer those of rank 0: something has changed")
    assert [one.code for one in ended] == [1, 1]
    assert describe_checkpoint(tmp_path / "run" / "checkpoint.safetensors").step == 3


def test_one_callback_stops_all(tmp_path):
    ended, messages = run(tmp_path, "stop-1-5")
    assert messages == []
    assert [one.code for one in ended] == [0, 0]
    found = describe_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    assert found.step == 5
    assert found.extra["trainer"]["stopped"] == "enough"
    assert [one.out for one in ended] == ["training\ndone\n", ""]
