"""Training steps of ResNet-18 and of ResNet-20 on images of 32x32, against the same networks of torch.nn."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ds_cnn import CONFIGS, CifarResNet, ResNet
from ds_core import SGD, CrossEntropyLoss, record
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from paired import Row, compare, print_table
from torch_resnet import TorchCifarResNet, TorchResNet

IMAGES, EPOCHS = 50000, 200  # of the CIFAR-10 recipe


def training_step(name: str, ours: Any, theirs: nn.Module, batch: int, pairs: int) -> Row:
    """Forward, loss, backward and SGD with momentum, on one batch of random images."""
    theirs.load_state_dict(ours.state_dict())
    x, y = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    options = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}
    criterion, optimizer = CrossEntropyLoss(), SGD(ours.parameters(), **options)
    loss, torch_optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(theirs.parameters(), **options)

    def run_ours() -> None:
        optimizer.zero_grad()
        with record():
            criterion(ours(x), y)
            ours.backward(criterion.backward(), input_gradient=False)
        optimizer.step()

    def run_theirs() -> None:
        torch_optimizer.zero_grad()
        loss(theirs(x), y).backward()
        torch_optimizer.step()

    return compare(name, run_ours, run_theirs, pairs)


def cases(pairs: int) -> list[tuple[str, Callable[[], Row], int]]:
    def resnet18(batch: int) -> Row:
        config = CONFIGS["resnet18"]
        return training_step(
            f"ResNet-18, {batch} x 3 x 32 x 32", ResNet(config, 10), TorchResNet(config, 10), batch, pairs
        )

    def resnet20(batch: int) -> Row:
        return training_step(f"ResNet-20, {batch} x 3 x 32 x 32", CifarResNet(20), TorchCifarResNet(20), batch, pairs)

    return [("resnet18", lambda: resnet18(64), 64), ("resnet20", lambda: resnet20(128), 128)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10, help="how often both are timed in turn")
    parser.add_argument("--only", choices=["resnet18", "resnet20"], help="one of the networks instead of both")
    given = parser.parse_args()
    for name, run, batch in cases(given.pairs):
        if given.only in (None, name):
            row = run()
            print_table([row])
            steps = EPOCHS * (IMAGES // batch)
            hours = [steps * seconds / 3600 for seconds in (row.ours_seconds, row.theirs_seconds)]
            print(f"{EPOCHS} epochs of {IMAGES} images: {hours[0]:.1f} hours (torch.nn {hours[1]:.1f})\n")
