"""What each of two processes does in the tests of several."""

import socket

import torch
from clip_cases import small_config, small_inputs, small_model
from ds_core import DataParallel, Processes
from ds_core.training.gradients import backpropagate, step_denominator

GROUPS = [0, 1, 2, 0, 1]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def whole(with_groups):
    """The model, the inputs of five pairs, and their groups or None."""
    model = small_model(small_config(), gather=True)
    inputs = small_inputs(model.config, texts=5, images=5)
    return model, (inputs["input_ids"], inputs["pixel_values"]), torch.tensor(GROUPS) if with_groups else None


def gradients(model):
    return {name: tensor.grad for name, tensor in model.named_parameters()}


def share(rank, port, folder, with_groups):
    """Three pairs on the first process, two on the second: loss and gradients, summed over both."""
    import os

    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), DS_TIMEOUT="60")
    torch.set_num_threads(1)
    with Processes(timeout=60):
        model, inputs, groups = whole(with_groups)
        rows = slice(0, 3) if rank == 0 else slice(3, 5)
        pair = (tuple(tensor[rows] for tensor in inputs), None if groups is None else groups[rows])
        criterion, parallel = model.criterion(), DataParallel(model)
        denominator = parallel.total(step_denominator(criterion, [pair]))
        with parallel.reducing(scale=1.0) as reduction:
            reduction.sums.append(float(backpropagate(model, criterion, [pair], denominator)))
        found = {"loss": reduction.sums[0], **gradients(model)}
        model.eval()
        model.zero_grad()
        found["alone"] = float(criterion(model(*pair[0]), pair[1]).detach())  # nothing is gathered: no other waits
    torch.save(found, f"{folder}/{rank}.pt")
