"""The pairing of timings and the peak of memory, on work whose cost is known."""

import time
from types import SimpleNamespace

import paired
import pytest
import torch
from paired import compare, peak_bytes, print_table

MEGABYTE = 1 << 20


def megabytes(count: int) -> torch.Tensor:
    return torch.zeros(count * MEGABYTE // 4)


def test_the_peak_counts_what_is_alive_at_one_time() -> None:
    def call() -> None:
        first = megabytes(2)
        del first
        second = megabytes(3)
        third = megabytes(4)
        del second, third

    assert 7 * MEGABYTE <= peak_bytes(call) < 7.1 * MEGABYTE


def test_the_peak_counts_what_autograd_keeps() -> None:
    x = megabytes(1).requires_grad_()

    def call() -> None:
        x.exp().exp().exp().sum()

    assert 3 * MEGABYTE <= peak_bytes(call) < 3.1 * MEGABYTE


def test_the_peak_does_not_count_what_was_alive_before() -> None:
    held = [megabytes(8)]

    def call() -> None:
        held.clear()
        held.append(megabytes(1))

    assert MEGABYTE <= peak_bytes(call) < 1.1 * MEGABYTE
    assert MEGABYTE <= peak_bytes(call) < 1.1 * MEGABYTE


def test_the_ratio_is_ours_over_theirs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only the two move: a busy machine stretches every real second differently."""
    now = [0.0]
    monkeypatch.setattr(paired, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def ours() -> torch.Tensor:
        now[0] += 0.012
        return megabytes(4)

    def theirs() -> torch.Tensor:
        now[0] += 0.003
        return megabytes(2)

    row = compare("sleep", ours, theirs, pairs=5)
    assert row.pairs == 5
    assert row.low == row.high == row.ratio == pytest.approx(4)
    assert row.memory_ratio == pytest.approx(2, rel=0.01)
    assert (row.ours_seconds, row.theirs_seconds) == pytest.approx((0.012, 0.003))
    print_table([row])
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 2
    assert table[1].startswith("sleep ")
    assert f"{row.ratio:.2f}" in table[1]


def test_both_sides_take_turns() -> None:
    calls: list[str] = []

    def ours() -> None:
        calls.append("A")
        time.sleep(0.003)

    def theirs() -> None:
        calls.append("B")
        time.sleep(0.003)

    compare("turns", ours, theirs, pairs=4)
    assert "".join(calls).endswith("ABABABAB")
