"""Every technique of convolution that fits, over a grid of shapes: time, memory, and what the choice function picks.

One block a shape. A line gives milliseconds of forward, input gradient and weight gradient, their sum against
torch.nn (below 1 is faster), and the peak memory against torch.nn. A star marks what `choose_technique` picks.
The last lines say by how much the picks are off the best of each pass, over the whole grid.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from ds_cnn import TECHNIQUES, choose_technique

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import peak_bytes

PASSES = ("forward", "input_gradient", "weight_gradient")
ROUNDS = 7


class Shape(NamedTuple):
    """A convolution of square images."""

    batch: int
    channels: int
    size: int
    filters: int
    kernel: int
    stride: int = 1
    groups: int = 1

    @property
    def arguments(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]:
        """Stride, padding, dilation and groups."""
        return (self.stride,) * 2, (self.kernel // 2,) * 2, (1, 1), self.groups


GRID = [
    *(Shape(16, channels, 32, channels, 3) for channels in (3, 8, 16, 32, 64)),
    *(Shape(16, 128, size, 128, 3) for size in (8, 16, 28)),
    *(Shape(16, 256, size, 256, 3) for size in (4, 8, 14)),
    Shape(64, 3, 32, 64, 3),
    Shape(64, 1, 28, 32, 3),
    Shape(1, 64, 56, 64, 3),
    Shape(1, 256, 14, 256, 3),
    Shape(64, 64, 8, 64, 3),
    *(Shape(16, channels, 32, 2 * channels, 3, stride=2) for channels in (3, 16, 64)),
    Shape(16, 128, 16, 256, 3, stride=2),
    *(Shape(16, channels, 28, 32, 5) for channels in (1, 3, 32)),
    Shape(16, 64, 14, 64, 5),
    Shape(16, 16, 28, 32, 5, stride=2),
    Shape(4, 3, 56, 64, 7, stride=2),
    Shape(4, 3, 56, 64, 7),
    Shape(4, 32, 28, 32, 7),
    *(Shape(16, channels, 28, 2 * channels, 1) for channels in (16, 64, 128)),
    Shape(64, 256, 8, 64, 1),
    Shape(16, 64, 28, 128, 1, stride=2),
    *(Shape(16, channels, 28, channels, 3, groups=channels) for channels in (16, 64, 128)),
    Shape(16, 128, 28, 128, 3, stride=2, groups=128),
    Shape(16, 64, 14, 64, 5, groups=64),
    Shape(16, 64, 28, 64, 3, groups=8),
]

Calls = dict[str, dict[str, Callable[[], object]]]  # technique -> pass -> call


def calls(shape: Shape) -> Calls:
    """One call for each technique that fits and each pass, and those of torch.nn."""
    layer = torch.nn.Conv2d(
        shape.channels, shape.filters, shape.kernel, shape.stride, shape.kernel // 2, 1, shape.groups
    )
    x = torch.randn(shape.batch, shape.channels, shape.size, shape.size).to(memory_format=torch.channels_last)
    weight, bias = layer.weight.detach(), layer.bias.detach()
    with torch.no_grad():
        dy = torch.randn_like(layer(x))
    kernel_size, arguments = (shape.kernel, shape.kernel), shape.arguments
    found: Calls = {"torch.nn": _torch_calls(layer, x, dy)}
    for name, technique in TECHNIQUES.items():
        try:
            technique.forward(x, weight, bias, *arguments)
        except ValueError:
            continue
        found[name] = {
            "forward": lambda t=technique: t.forward(x, weight, bias, *arguments),
            "input_gradient": lambda t=technique: t.input_gradient(dy, weight, tuple(x.shape[2:]), *arguments),
            "weight_gradient": lambda t=technique: t.weight_gradient(dy, x, kernel_size, *arguments),
        }
    return found


def _torch_calls(layer: torch.nn.Conv2d, x: torch.Tensor, dy: torch.Tensor) -> dict[str, Callable[[], object]]:
    options = (layer.stride, layer.padding, layer.dilation, False, [0, 0], layer.groups)

    def backward(*needs: bool) -> object:
        return torch.ops.aten.convolution_backward(dy, x, layer.weight, [layer.out_channels], *options, needs)

    return {
        "forward": lambda: layer(x),
        "input_gradient": lambda: backward(True, False, False),
        "weight_gradient": lambda: backward(False, True, False),
    }


def seconds(found: Calls, clock: Callable[[], float]) -> dict[str, dict[str, float]]:
    """The shortest time of each call, every technique run in turn: what other work on the machine adds is left out."""
    best = {name: dict.fromkeys(PASSES, float("inf")) for name in found}
    for round_ in range(ROUNDS + 1):
        for name, one in found.items():
            for step, call in one.items():
                start = clock()
                call()
                if round_:  # the first is to warm up
                    best[name][step] = min(best[name][step], clock() - start)
    return best


def picks(shape: Shape) -> dict[str, str]:
    """What the choice function takes for each pass."""
    shapes = (
        (shape.batch, shape.channels, shape.size, shape.size),
        (shape.filters, shape.channels // shape.groups, shape.kernel, shape.kernel),
    )
    device = torch.device("cpu")
    return {step: choose_technique(*shapes, *shape.arguments, torch.float32, device, of=step) for step in PASSES}


def lines(shape: Shape, clock: Callable[[], float]) -> tuple[list[str], float, float]:
    """The block of a shape; the seconds of the picks, and of the best."""
    found = calls(shape)
    times, chosen = seconds(found, clock), picks(shape)
    memory = {name: max(peak_bytes(call) for call in one.values()) for name, one in found.items()}
    theirs = sum(times["torch.nn"].values())
    text = []
    for name, one in times.items():
        cells = [f"{one[step] * 1e3:8.2f}{'*' if chosen[step] == name else ' '}" for step in PASSES]
        ratio, space = sum(one.values()) / theirs, memory[name] / max(1, memory["torch.nn"])
        text.append(f"    {name:<14}{''.join(cells)}  {ratio:6.2f}  {space:6.2f}")
    ours = [name for name in times if name != "torch.nn"]
    picked = sum(times[chosen[step]][step] for step in PASSES)
    best = sum(min(times[name][step] for name in ours) for step in PASSES)
    text.append(f"    picked: {picked / theirs:5.2f} of torch.nn, {100 * (picked / best - 1):4.1f} % off the best")
    return text, picked, best


def table(grid: list[Shape], clock: Callable[[], float]) -> Iterator[str]:
    total = total_best = worst = 0.0
    yield f"    {'':<14}{'forward':>8} {'dx':>8} {'dweight':>8}    ratio  memory"
    for shape in grid:
        text, picked, best = lines(shape, clock)
        total, total_best, worst = total + picked, total_best + best, max(worst, picked / best - 1)
        yield str(shape)
        yield from text
    yield f"all picks are {100 * (total / total_best - 1):.1f} % off the best together, the worst {100 * worst:.1f} %"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpu-time", action="store_true", help="count the time of one core, on a machine at work")
    options = parser.parse_args()
    if options.cpu_time:
        torch.set_num_threads(1)
    with torch.no_grad():
        for line in table(GRID, time.process_time if options.cpu_time else time.perf_counter):
            print(line, flush=True)
