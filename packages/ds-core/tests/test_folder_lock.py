"""A run folder belongs to one run at a time, whatever becomes of the process that has it."""

import errno
import os
import signal
import subprocess
import sys

import pytest
import torch
from ds_core import Callback, Trainer, UserError
from ds_core.training import folder_lock
from ds_core.training.folder_lock import LOCK_FILE, hold_folder, release_folder
from ds_core.training.run_folder import folder_of_a_run, open_run_folder
from ds_core.training.run_options import RunOptions

HOLDER = """
import os, sys, time
from ds_core.training.folder_lock import hold_folder
hold_folder(sys.argv[1])
child = os.fork() if len(sys.argv) > 2 else None
if child != 0:
    print(child, flush=True)
time.sleep(1000)
"""


@pytest.fixture
def holder():
    """Starts a process that holds a folder; with `child`, one that has forked another which outlives it."""
    started, children = [], []

    def start(folder, *child):
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder), *child], stdout=subprocess.PIPE)
        started.append(process)
        line = process.stdout.readline()
        assert line
        if child:
            children.append(int(line))
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    for child in children:
        os.kill(child, signal.SIGKILL)


class During(Callback):
    """Calls a function after the second step, and keeps what it raises."""

    def __init__(self, call):
        self.call, self.raised = call, None

    def on_step_end(self, trainer, metrics):
        if trainer.step == 2:
            try:
                self.call()
            except UserError as error:
                self.raised = str(error)


@pytest.mark.parametrize("child", [(), ("child",)])
def test_another_process_is_refused_until_the_first_is_gone_however_it_ends(small, tmp_path, holder, child):
    if child and not hasattr(os, "fork"):
        pytest.skip("needs fork")
    process = holder(tmp_path, *child)
    (tmp_path / ".checkpoint.safetensors.1.tmp").mkdir()
    trainer = small.make(tmp_path)
    message = rf"{tmp_path.name} is in use: process {process.pid} on .* trains in it now; wait until that has ended"
    for call in (lambda: trainer.fit(small.Points(), 2), trainer.resume, trainer.save):
        with pytest.raises(UserError, match=message) as refused:
            call()
        assert "\n" not in str(refused.value)
    assert (tmp_path / ".checkpoint.safetensors.1.tmp").exists()  # which may be the other one's
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (tmp_path / LOCK_FILE).exists()  # the file of a killed process is in nobody's way
    trainer.fit(small.Points(), 2)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.safetensors", "log.jsonl"]


def test_another_trainer_of_the_same_process(small, tmp_path):
    others = [
        During(lambda: small.make(tmp_path).fit(small.Points(), 4)),
        During(lambda: small.make(tmp_path).resume()),
        During(lambda: open_run_folder("line", RunOptions(out=tmp_path, overwrite=True))),
    ]
    trainer = small.make(tmp_path, callbacks=others)
    trainer.fit(small.Points(), 4)
    for other in others:
        assert "is in use: another Trainer of this process trains in it now" in other.raised
    trainer.fit(small.Points(), 6)
    other = small.make(tmp_path)
    other.resume()
    other.fit(small.Points(), 8)
    assert [record["step"] for record in other.history.training][-4:] == [5, 6, 7, 8]


def test_a_trainer_that_has_failed_gives_the_folder_back(small, tmp_path):
    def fails():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        small.make(tmp_path, callbacks=[During(fails)]).fit(small.Points(), 4)
    (tmp_path / "log.jsonl").unlink()
    small.make(tmp_path).fit(small.Points(), 4)


def test_a_run_lets_its_trainer_in_and_nobody_else(small, tmp_path, holder):
    options = RunOptions(out=tmp_path / "run")
    with folder_of_a_run(options):
        open_run_folder("line", options)
        small.make(options.out).fit(small.Points(), 2)
        assert (options.out / LOCK_FILE).exists()  # results are still to be written
        with pytest.raises(subprocess.CalledProcessError) as refused:
            subprocess.run([sys.executable, "-c", HOLDER, str(options.out)], check=True, capture_output=True, text=True)
        assert f"is in use: process {os.getpid()} on" in refused.value.stderr
    assert not (options.out / LOCK_FILE).exists()
    holder(options.out)
    for more in ({"resume": True}, {"overwrite": True}, {}):
        with pytest.raises(UserError, match="is in use"), folder_of_a_run(RunOptions(out=options.out, **more)):
            pass
        with pytest.raises(UserError, match="is in use"):
            open_run_folder("line", RunOptions(out=options.out, **more))


def test_a_folder_that_is_to_be_resumed_is_not_made(tmp_path):
    with folder_of_a_run(RunOptions(out=tmp_path / "none", resume=True)):
        assert not (tmp_path / "none").exists()


def test_the_file_of_a_run_that_ends_just_now_is_no_lock(tmp_path, monkeypatch):
    """Opened before that run deleted it, and locked after: whoever comes next would make, and lock, another file."""
    try_lock, calls = folder_lock._try_lock, []

    def ends_meanwhile(handle):
        try_lock(handle)
        calls.append(handle)
        if len(calls) == 1:
            (tmp_path / LOCK_FILE).unlink()

    monkeypatch.setattr(folder_lock, "_try_lock", ends_meanwhile)
    hold_folder(tmp_path)
    assert len(calls) == 2
    assert (tmp_path / LOCK_FILE).exists()
    release_folder(tmp_path)
    assert os.listdir(tmp_path) == []


def test_many_at_once_only_one_has_it(tmp_path):
    """Each takes the folder and gives it back, file and all, many times, and nobody is inside with another."""
    program = """
import os, sys
from ds_core.errors import UserError
from ds_core.training.folder_lock import hold_folder, release_folder
folder, taken = sys.argv[1], 0
while taken < 50:
    try:
        hold_folder(folder)
    except UserError:
        continue
    os.close(os.open(f"{folder}/inside", os.O_CREAT | os.O_EXCL))  # fails if another is inside
    os.unlink(f"{folder}/inside")
    release_folder(folder)
    taken += 1
print(taken)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        out, err = process.communicate()
        assert (out, err) == (b"50\n", b"")
    assert os.listdir(tmp_path) == []


def test_a_file_system_without_locks_is_said_and_no_more(small, tmp_path, monkeypatch, capsys):
    def unsupported(handle):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(folder_lock, "_try_lock", unsupported)
    small.make(tmp_path, progress=True).fit(small.Points(), 2)
    assert f"{tmp_path} cannot be locked (No locks available): see that no second run" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_no_matter_of_locks(small, tmp_path, monkeypatch):
    """Root may write anywhere, so the system's refusal is made here."""
    small.make(tmp_path).fit(small.Points(), 2)

    def refused(path, *arguments):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(folder_lock.os, "open", refused)
    assert hold_folder(tmp_path) is None
    release_folder(tmp_path)
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.safetensors", "log.jsonl"]


def test_the_same_folder_by_another_path(small, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    hold_folder(tmp_path / "run", "one")
    with pytest.raises(UserError, match="is in use"):
        hold_folder(tmp_path / "link", "another")
    hold_folder(tmp_path / "link", "one")
    release_folder(tmp_path / "run", "one")
    release_folder(tmp_path / "run", "a stranger")
    with pytest.raises(UserError, match="is in use"):
        hold_folder(tmp_path / "run", "another")
    release_folder(tmp_path / "run", "one")
    hold_folder(tmp_path / "run", "another")
    release_folder(tmp_path / "run", "another")
    assert os.listdir(tmp_path / "run") == []


def test_using_a_run_asks_for_no_lock(small, tmp_path, holder):
    trainer = small.make(tmp_path)
    trainer.fit(small.Points(), 2)
    holder(tmp_path)
    again = Trainer(trainer.model, small.Squares(), trainer.optimizer, progress=False)
    again.resume(tmp_path / "checkpoint.safetensors")  # a Trainer without a folder only reads
    assert again.step == 2
    assert torch.equal(small.weights(again), small.weights(trainer))
