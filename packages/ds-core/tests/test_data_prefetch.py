"""Batches drawn ahead are the same batches."""

import threading
import time

import pytest
import torch
from ds_core.data import Loader, Prefetch
from ds_core.data.batches import Batches


class Counted:
    """Batch i is (i, -i); notes what was asked for, and in which thread."""

    def __init__(self, end=10**9):
        self.asked = []
        self.threads = set()
        self.end = end

    def batch(self, index):
        self.asked.append(index)
        self.threads.add(threading.current_thread())
        if index >= self.end:
            raise KeyError(f"no batch {index}")
        return index, -index


def wait_for(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    assert condition()


def test_is_batches():
    assert isinstance(Prefetch(Counted()), Batches)


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_the_next_ones_are_drawn_and_no_more(ahead):
    source = Counted()
    with Prefetch(source, ahead) as batches:
        assert batches.batch(3) == (3, -3)
        wait_for(lambda: len(source.asked) == 1 + ahead)
        assert source.asked == list(range(3, 4 + ahead))
        assert batches.batch(4) == (4, -4)
        wait_for(lambda: len(source.asked) == 2 + ahead)
        time.sleep(0.02)
        assert source.asked == list(range(3, 5 + ahead))
    assert threading.current_thread() not in source.threads


def test_the_next_batch_is_drawn_while_the_caller_works():
    """The second is ready when it is asked for: it was drawn before."""
    second = threading.Event()

    class Source(Counted):
        def batch(self, index):
            if index == 1:
                second.set()
            return super().batch(index)

    with Prefetch(Source()) as batches:
        batches.batch(0)
        assert second.wait(10)


def test_the_same_batches_whatever_the_order():
    data = torch.arange(20.0), torch.arange(20)
    plain = Loader(data, 3, seed=1)
    with Prefetch(Loader(data, 3, seed=1)) as batches:
        for index in [0, 1, 2, 2, 2, 7, 8, 3, 4, 0, 40, 41, 6, 5]:
            for found, expected in zip(batches.batch(index), plain.batch(index), strict=True):
                assert torch.equal(found, expected)


def test_an_error_is_raised_where_its_batch_is_asked_for():
    source = Counted(end=2)
    with Prefetch(source) as batches:
        assert batches.batch(0) == (0, 0)
        wait_for(lambda: len(source.asked) == 3)
        assert batches.batch(1) == (1, -1)
        with pytest.raises(KeyError, match="no batch 2") as error:
            batches.batch(2)
        assert error.traceback[-1].name == "batch"  # where it happened, in the thread
        assert "test_data_prefetch" in str(error.traceback[-1].path)
        source.end = 5
        assert batches.batch(2) == (2, -2)


def test_a_jump_does_not_wait_for_what_was_due():
    release = threading.Event()

    class Slow(Counted):
        def batch(self, index):
            if index == 1:
                release.wait(10)
            return super().batch(index)

    source = Slow()
    with Prefetch(source, 2) as batches:
        batches.batch(0)
        threading.Timer(0.05, release.set).start()
        assert batches.batch(50) == (50, -50)
        assert 2 not in source.asked  # given up


def test_closing_ends_the_thread():
    source = Counted()
    batches = Prefetch(source)
    batches.close()
    batches.batch(0)
    (thread,) = source.threads
    assert thread.is_alive()
    batches.close()
    assert not thread.is_alive()
    batches.close()
    assert batches.batch(9) == (9, -9)
    batches.close()
    assert len(source.threads) == 2
    assert not any(thread.is_alive() for thread in source.threads)


def test_what_closing_gave_up_is_drawn_when_it_is_asked_for():
    begun, release = threading.Event(), threading.Event()

    class Slow(Counted):
        def batch(self, index):
            if index == 1:
                begun.set()
                release.wait(10)
            return super().batch(index)

    source = Slow()
    with Prefetch(source) as batches:
        batches.batch(0)
        assert begun.wait(10)
        threading.Timer(0.05, release.set).start()
    assert source.asked == [0, 1]
    assert batches.batch(2) == (2, -2)
    batches.close()


def test_the_thread_ends_when_the_block_fails():
    source = Counted()
    source.end = 0
    with pytest.raises(KeyError), Prefetch(source) as batches:
        batches.batch(0)
    assert not any(thread.is_alive() for thread in source.threads)


def test_a_trainer_takes_the_same_steps(small, tmp_path):
    plain, ahead = small.make(), small.make()
    data = torch.randn(12, 2, generator=torch.Generator().manual_seed(0)), torch.ones(12, 1)
    plain.fit(Loader(data, 5), 8)
    ahead = small.make()
    with Prefetch(Loader(data, 5)) as batches:
        ahead.fit(batches, 8)
    assert torch.equal(small.weights(plain), small.weights(ahead))


def test_a_resumed_run_ends_where_the_unbroken_one_does(small, tmp_path):
    data = torch.randn(12, 2, generator=torch.Generator().manual_seed(0)), torch.ones(12, 1)
    unbroken = small.make()
    unbroken.fit(Loader(data, 5, seed=1), 8)
    small.make(tmp_path).fit(Loader(data, 5, seed=1), 4)
    resumed = small.make(tmp_path)
    resumed.resume()
    with Prefetch(Loader(data, 5, seed=1)) as batches:
        resumed.fit(batches, 8)
    assert torch.equal(small.weights(unbroken), small.weights(resumed))


def test_ahead_of_none():
    with pytest.raises(ValueError, match="given ahead=0"):
        Prefetch(Counted(), 0)
