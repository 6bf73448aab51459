"""An optimizer with packs beside one without, for the tests of `ds_core.optimizers.flat_buffers`."""

import torch
from ds_core import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Lion, NAdam, RAdam, RMSprop, primitives_only

SHAPES = [(4, 3), (7,), (), (2, 3, 2), (1,), (0,), (5, 5)]


OPTIMIZERS = {
    "SGD": lambda p, **o: SGD(p, lr=0.05, weight_decay=0.1, **o),
    "momentum": lambda p, **o: SGD(p, lr=0.05, momentum=0.9, dampening=0.1, **o),
    "Nesterov": lambda p, **o: SGD(p, lr=0.05, momentum=0.9, nesterov=True, maximize=True, **o),
    "Adam": lambda p, **o: Adam(p, lr=0.05, weight_decay=0.1, maximize=True, **o),
    "AdamW": lambda p, **o: AdamW(p, lr=0.05, amsgrad=True, **o),
    "Adagrad": lambda p, **o: Adagrad(p, lr=0.05, lr_decay=0.1, initial_accumulator_value=0.5, maximize=True, **o),
    "RMSprop": lambda p, **o: RMSprop(p, lr=0.05, weight_decay=0.1, **o),
    "RMSprop, momentum": lambda p, **o: RMSprop(p, lr=0.05, momentum=0.9, **o),
    "Adadelta": lambda p, **o: Adadelta(p, rho=0.5, weight_decay=0.1, **o),
    "Adamax": lambda p, **o: Adamax(p, lr=0.05, **o),
    "NAdam": lambda p, **o: NAdam(p, lr=0.05, weight_decay=0.1, decoupled_weight_decay=True, **o),
    "RAdam": lambda p, **o: RAdam(p, lr=0.05, betas=(0.9, 0.95), weight_decay=0.1, **o),
    "Lion": lambda p, **o: Lion(p, lr=0.01, weight_decay=0.1, **o),
}


def start(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in SHAPES]


def give_gradients(parameters, step, missing=()):
    generator = torch.Generator().manual_seed(100 + step)
    for index, parameter in enumerate(parameters):
        gradient = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter.dtype)
        parameter.grad = None if index in missing else gradient


def packed(optimizer):
    return sorted(len(pack.parameters) for packs in optimizer._packs.values() for pack in packs)


class Twins:
    """The same walk by an optimizer with packs and by one without."""

    def __init__(self, make, dtype=torch.float64):
        self.dtype = dtype  # the digits that the first steps leave
        self.pair = [start(dtype), start(dtype)]
        self.optimizers = [make(self.pair[0], flat=True), make(self.pair[1], flat=False)]
        self.taken = 0

    def steps(self, count, missing=()):
        for _ in range(count):
            for parameters, optimizer in zip(self.pair, self.optimizers, strict=True):
                give_gradients(parameters, self.taken, missing)
                with primitives_only():
                    optimizer.step()
            self.taken += 1
        self.compare()

    def compare(self):
        for index, (ours, alone) in enumerate(zip(*self.pair, strict=True)):
            digits = {"rtol": 1e-13, "atol": 1e-15}
            if torch.float32 in (self.dtype, ours.dtype):
                digits = {"rtol": 1e-5, "atol": 1e-6}
            if self.dtype == torch.bfloat16:  # torch rounds more often in the last elements of a tensor
                digits = {"rtol": 0.02, "atol": 0.05}
            torch.testing.assert_close(
                ours, alone, msg=lambda text, i=index: f"parameter {i} after {self.taken} steps: {text}", **digits
            )
            states = [optimizer.state.get(p, {}) for optimizer, p in zip(self.optimizers, (ours, alone), strict=True)]
            torch.testing.assert_close(states[0], states[1], **digits)

    def on_both(self, change):
        for parameters, optimizer in zip(self.pair, self.optimizers, strict=True):
            change(parameters, optimizer)
