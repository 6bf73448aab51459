"""The real thing: `torchrun ... ds train`, and Ctrl-C, which reaches torchrun alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ds_core.training.checkpoint import describe_checkpoint

RECIPE = str(Path(__file__).parent / "distributed_recipe.py")


def start(tmp_path, *words):
    # --standalone: a free port, so that runs at the same time do not meet
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, RECIPE, "train", "points", "--out", str(tmp_path / "run"), *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def test_it_trains_and_rank_0_alone_writes(tmp_path):
    process = start(tmp_path, "--steps", "4")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out == "training\ndone\n"
    assert err.count("step 4: loss") == 1
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoint.safetensors",
        "log.jsonl",
        "recipe.json",
    ]
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c(tmp_path, number):
    process = start(tmp_path, "--steps", "1000", "--mishap", "slow-all-0")
    log = tmp_path / "run" / "log.jsonl"
    while not log.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    step = describe_checkpoint(tmp_path / "run" / "checkpoint.safetensors").step
    assert process.returncode != 0
    assert err.count("ds: ") == 2
    assert f"ds: stopped after step {step} of 1000; saved in {tmp_path}/run/checkpoint.safetensors\n" in err
    assert "ds: to continue: torchrun --nproc-per-node 2 -m ds_core.cli train points --out " in err
    assert len(log.read_text().splitlines()) >= step
