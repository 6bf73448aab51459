"""Attention over the length: time and peak memory of our three implementations and of PyTorch's, both passes, causal.

    python benchmarks/attention_lengths.py --plot lengths.png

Each measurement is made in a process of its own, so that none finds another's memory or caches. An implementation that
would need more memory than `--limit-gb`, judged by what it needed before, is left out, and so are `loops` beyond
`--loops-up-to`.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from ds_core import no_record
from ds_core.plotting import new_figure, save_figure
from ds_transformers import (
    attention,
    attention_backward,
    plain_attention,
    plain_attention_backward,
    tiled_attention,
    tiled_attention_backward,
)
from torch.nn.functional import scaled_dot_product_attention, softmax

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import peak_bytes

OURS = {
    "loops": (plain_attention, plain_attention_backward),
    "vectorized": (attention, attention_backward),
    "tiled": (tiled_attention, tiled_attention_backward),
}
IMPLEMENTATIONS = [*OURS, "plain", "fused"]
SECONDS = 2.0  # how long a measurement is repeated, once it has been made
LENGTHS = [64 * 2**power for power in range(9)]


class Measured(NamedTuple):
    """One forward and backward pass: the median of the seconds, and the bytes beyond those of the inputs."""

    seconds: float
    peak: int


def passes(implementation: str, length: int, heads: int, width: int) -> Callable[[], object]:
    """A forward and backward pass over one example."""
    query, key, value, dout = torch.randn(4, 1, heads, length, width)
    if implementation in OURS:
        forward, backward = OURS[implementation]

        def ours() -> object:
            with no_record():
                output, kept = forward(query, key, value, causal=True)
                return backward(dout, query, key, value, output, kept, causal=True)

        return ours
    leaves = [tensor.requires_grad_() for tensor in (query, key, value)]
    call = scaled_dot_product_attention if implementation == "fused" else plain_attention

    def theirs() -> object:
        for leaf in leaves:
            leaf.grad = None
        call(*leaves, is_causal=True).backward(dout)
        return [leaf.grad for leaf in leaves]

    return theirs


def plain_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, is_causal: bool) -> torch.Tensor:
    """As attention is usually written in torch.nn.functional, for autograd to differentiate."""
    scores = query @ key.mT / math.sqrt(query.shape[3])
    if is_causal:
        later = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    return softmax(scores, -1) @ value


def measure(implementation: str, length: int, heads: int, width: int) -> Measured:
    """In this process."""
    torch.manual_seed(0)
    call = passes(implementation, length, heads, width)
    peak = peak_bytes(call)  # and a warm-up
    times: list[float] = []
    while not times or sum(times) < SECONDS:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return Measured(statistics.median(times), peak)


def measure_apart(implementation: str, length: int, options: argparse.Namespace) -> Measured:
    """In a process of its own."""
    sizes = [f"--{name}={getattr(options, name)}" for name in ("heads", "width", "threads")]
    command = [sys.executable, __file__, "--one", implementation, str(length), *sizes]
    finished = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return Measured(*json.loads(finished.stdout))


def left_out(implementation: str, length: int, before: dict[int, Measured], options: argparse.Namespace) -> str | None:
    """Why a measurement is not made, if it is not: no implementation needs more than quadratically growing memory."""
    if implementation == "loops" and length > options.loops_up_to:
        return f"left out, beyond --loops-up-to {options.loops_up_to}"
    if before:
        last = max(before)
        needed = before[last].peak * (length / last) ** 2 / 1e9
        if needed > options.limit_gb:
            return f"left out, may need {needed:.3g} GB, more than --limit-gb {options.limit_gb:g}"
    return None


def plot(found: dict[str, dict[int, Measured]], path: str) -> None:
    ticks = sorted(set().union(*found.values()))
    figure = new_figure(10, 4.5)
    times, memory = figure.subplots(1, 2)
    for implementation, lengths in found.items():
        style = {"label": implementation, "marker": "o", "linestyle": "-" if implementation in OURS else "--"}
        times.plot(list(lengths), [each.seconds * 1e3 for each in lengths.values()], **style)
        memory.plot(list(lengths), [each.peak / 1e6 for each in lengths.values()], **style)
    times.set(ylabel="ms, forward and backward", title="time")
    memory.set(ylabel="MB beyond the inputs", title="peak memory")
    for axis in (times, memory):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(ticks, [str(length) for length in ticks], rotation=45)
        axis.set_xlabel("length")
        axis.grid(alpha=0.3)
        axis.legend()
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--width", type=int, default=64, help="of a head")
    parser.add_argument("--implementations", nargs="+", choices=IMPLEMENTATIONS, default=IMPLEMENTATIONS)
    parser.add_argument("--plot", metavar="FILE", help="write a PNG")
    parser.add_argument("--limit-gb", type=float, default=8.0, help="memory that an implementation may need")
    parser.add_argument(
        "--loops-up-to", type=int, default=1024, help="the greatest length for the implementation of loops"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--one", nargs=2, metavar=("IMPLEMENTATION", "LENGTH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        implementation, length = options.one
        print(json.dumps(measure(implementation, int(length), options.heads, options.width)))
        return
    print(f"float32, {options.threads} thread(s), 1 example, {options.heads} heads of width {options.width}, causal")
    print(f"{'implementation':<12}{'length':>8}{'ms':>12}{'peak MB':>12}")
    found: dict[str, dict[int, Measured]] = {implementation: {} for implementation in options.implementations}
    for length in sorted(options.lengths):
        for implementation, before in found.items():
            reason = left_out(implementation, length, before, options)
            if reason is not None:
                print(f"{implementation:<12}{length:>8}  {reason}")
                continue
            before[length] = measure_apart(implementation, length, options)
            seconds, peak = before[length]
            print(f"{implementation:<12}{length:>8}{seconds * 1e3:>12.2f}{peak / 1e6:>12.2f}", flush=True)
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
