"""What docs/cnn_recipes.md says of the recipes, measured: python benchmarks/recipes.py --help."""

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ds_cnn import CifarResNet
from ds_cnn.recipes.cnn import CNNOptions, CNNRun
from ds_cnn.recipes.image_format import ImageFormat
from ds_core import SGD, AdamW, CrossEntropyLoss, whole_step
from ds_core.cli.main import main as ds
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from paired import Row, compare, print_table
from torch_resnet import TorchCifarResNet

# The paper's recipe for CIFAR-10
STEPS = 64_000
PAPER: dict[str, float] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}


def trained(recipe: str, *words: str) -> dict[str, Any]:
    """The results of `ds train`, without what it prints."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        threads = ["--threads", str(torch.get_num_threads())]
        if ds(["train", recipe, "--out", f"{folder}/run", "--no-plots", *threads, *words]) != 0:
            raise SystemExit(f"ds train {recipe} failed")
        found: dict[str, Any] = json.loads((Path(folder) / "run" / "results.json").read_text())
        return found


def digits(options: argparse.Namespace) -> None:
    """Test accuracy of `ds train cnn` for every seed."""
    accuracies = []
    for seed in options.seeds:
        found = trained("cnn", "--seed", str(seed))
        accuracies.append(found["test"]["accuracy"])
        print(f"cnn, digits, seed {seed}: test accuracy {accuracies[-1]:.4f} in {found['seconds']:.0f} s", flush=True)
    print(f"cnn, digits: mean of {len(accuracies)} seeds {sum(accuracies) / len(accuracies):.4f}")


def loops(options: argparse.Namespace) -> None:
    """The loss of `ds train cnn-loops`, first and last."""
    found = trained("cnn-loops")
    print(
        f"cnn-loops, digits: loss {found['first loss']:.2f} to {found['last loss']:.2f} in {found['steps']} steps, "
        f"{found['seconds']:.0f} s; test accuracy {found['test']['accuracy']:.2f}"
    )


def mnist(options: argparse.Namespace) -> None:
    """Seconds an epoch of the network for MNIST, ours and in torch.nn; with --folder the accuracy of five epochs."""
    settings = CNNOptions(dataset="mnist")
    network = CNNRun.network(settings, ImageFormat(1, 28, 28, tuple("0123456789"), (0.0,), (1.0,)))
    x, y = torch.randn(settings.batch_size, 1, 28, 28), torch.randint(10, (settings.batch_size,))
    ours = whole_step(network, CrossEntropyLoss(), AdamW(network.parameters(), lr=1e-3))
    model = torch_vgg(settings)
    theirs = torch_step(model, torch.optim.AdamW(model.parameters(), lr=1e-3), x, y)
    row = compare("step of cnn, MNIST, batch 128", lambda: ours([(x, y)]), theirs, 6)
    print_table([row])
    steps = -(-54_000 // settings.batch_size)
    print(f"an epoch of {steps} steps: {steps * row.ours_seconds:.0f} s, torch.nn {steps * row.theirs_seconds:.0f} s")
    if options.folder is not None:
        found = trained("cnn", "--dataset", "mnist", "--folder", str(options.folder))
        accuracy, seconds = found["test"]["accuracy"], found["seconds"]
        print(f"cnn, MNIST: test accuracy {accuracy:.4f} after {settings.epochs} epochs, {seconds:.0f} s")


def resnet(options: argparse.Namespace) -> None:
    """The time of a step of the paper's recipe, ours against torch.nn, and that of all its steps."""
    x, y = torch.randn(128, 3, 32, 32), torch.randint(10, (128,))
    rows: list[Row] = []
    for depth in options.depths:
        ours, theirs = our_resnet_step(depth, x, y), torch_resnet_step(depth, x, y)
        rows.append(compare(f"step of ResNet-{depth}, CIFAR-10, batch 128", ours, theirs, 4))
    print_table(rows)
    for depth, row in zip(options.depths, rows, strict=True):
        print(f"ResNet-{depth}: {STEPS:,} steps would take {STEPS * row.ours_seconds / 3600:.1f} h")


def our_resnet_step(depth: int, x: Tensor, y: Tensor) -> Callable[[], object]:
    model = CifarResNet(depth)
    step = whole_step(model, CrossEntropyLoss(), SGD(model.parameters(), **PAPER))
    return lambda: step([(x, y)])


def torch_resnet_step(depth: int, x: Tensor, y: Tensor) -> Callable[[], object]:
    model = TorchCifarResNet(depth)
    return torch_step(model, torch.optim.SGD(model.parameters(), **PAPER), x, y)


def torch_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Callable[[], object]:
    criterion = nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()

    return step


def torch_vgg(options: CNNOptions) -> nn.Module:
    """The network of `CNNRun.network`."""
    layers: list[nn.Module] = []
    channels = 1
    for filters, count in zip(options.filters, options.convolutions, strict=True):
        layers += [nn.MaxPool2d(2)] if layers else []
        for _ in range(count):
            layers += [nn.Conv2d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
            channels = filters
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(options.dropout), nn.Linear(channels, 10)]
    return nn.Sequential(*layers, *head)


PARTS = {"digits": digits, "loops": loops, "mnist": mnist, "resnet": resnet}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4], help="of digits")
    parser.add_argument("--depths", type=int, nargs="*", default=[20], help="of the ResNets: 20 32 56")
    parser.add_argument("--folder", type=Path, help="with the files of MNIST, to train on it")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    torch.set_num_threads(options.threads)
    for name in options.parts or PARTS:
        PARTS[name](options)


if __name__ == "__main__":
    main()
