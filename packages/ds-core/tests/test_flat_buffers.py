"""Packing changes how small parameters are updated and never what comes out, whatever is done to them in between."""

import copy
import io
import pickle

import pytest
import torch
from ds_core import flat_buffers
from ds_core.adam import Adam, AdamW
from ds_core.flat_buffers import Scratch, pieces
from ds_core.primitives import primitives_only
from ds_core.sgd import SGD

SHAPES = [(4, 3), (7,), (), (2, 3, 2), (1,), (0,), (5, 5)]

OPTIMIZERS = {
    "SGD": lambda p, **o: SGD(p, lr=0.05, weight_decay=0.1, **o),
    "momentum": lambda p, **o: SGD(p, lr=0.05, momentum=0.9, dampening=0.1, **o),
    "Nesterov": lambda p, **o: SGD(p, lr=0.05, momentum=0.9, nesterov=True, maximize=True, **o),
    "Adam": lambda p, **o: Adam(p, lr=0.05, weight_decay=0.1, maximize=True, **o),
    "AdamW": lambda p, **o: AdamW(p, lr=0.05, amsgrad=True, **o),
}


@pytest.fixture(params=OPTIMIZERS)
def make(request):
    return OPTIMIZERS[request.param]


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
            digits = {"rtol": 1e-13, "atol": 1e-15} if ours.dtype == torch.float64 else {}
            if ours.dtype == torch.bfloat16:  # torch rounds more often in the last elements of a tensor
                digits = {"rtol": 0.02, "atol": 0.05}
            torch.testing.assert_close(
                ours, alone, msg=lambda text, i=index: f"parameter {i} after {self.taken} steps: {text}", **digits
            )
            states = [optimizer.state.get(p, {}) for optimizer, p in zip(self.optimizers, (ours, alone), strict=True)]
            torch.testing.assert_close(states[0], states[1], **digits)

    def on_both(self, change):
        for parameters, optimizer in zip(self.pair, self.optimizers, strict=True):
            change(parameters, optimizer)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_packed_equals_alone(make, dtype):
    twins = Twins(make, dtype)
    twins.steps(10)
    assert packed(twins.optimizers[0]) == [6]  # all but the empty one
    assert packed(twins.optimizers[1]) == []


def test_gradients_stay_as_they_were_given(make):
    twins = Twins(make)
    twins.steps(2)
    parameters, optimizer = twins.pair[0], twins.optimizers[0]
    give_gradients(parameters, 5)
    before = [(parameter.grad, parameter.grad.clone()) for parameter in parameters]
    optimizer.step()
    for parameter, (gradient, value) in zip(parameters, before, strict=True):
        assert parameter.grad is gradient
        assert torch.equal(gradient, value)


def test_memory_of_parameters_is_left_alone(make):
    twins = Twins(make)
    places = [parameter.data_ptr() for parameter in twins.pair[0]]
    twins.steps(4)
    assert [parameter.data_ptr() for parameter in twins.pair[0]] == places


def test_missing_gradients_come_and_go(make):
    twins = Twins(make)
    for missing in [(0, 3), (0, 3), (), (), (1,), (), (), (0, 1, 2, 3, 4, 5, 6), (2,), (), (), ()]:
        twins.steps(1, missing)
    counted = [state["step"].item() for state in twins.optimizers[0].state.values() if "step" in state]
    assert counted in ([], [10, 10, 11, 11, 11, 9, 9])  # in the order in which the states were made
    assert sum(packed(twins.optimizers[0])) in (5, 6)


def test_other_dtype(make):
    twins = Twins(make, torch.float32)
    twins.steps(3)

    def change(parameters, _):
        for parameter in parameters[:4]:
            parameter.grad = None
            parameter.data = parameter.data.double()

    twins.on_both(change)
    twins.steps(3)
    assert twins.pair[0][0].dtype == torch.float64
    assert all(
        value.dtype == torch.float64
        for name, value in twins.optimizers[0].state[twins.pair[0][0]].items()
        if name != "step"
    )


def test_replaced_data_and_layout(make):
    twins = Twins(make)
    twins.steps(3)

    def change(parameters, _):
        parameters[0].data = torch.ones(3, 4, dtype=torch.float64).t()
        parameters[6].data = parameters[6].data.t()

    twins.on_both(change)
    twins.steps(3)
    assert not twins.pair[0][0].is_contiguous()


def test_another_shape():
    """As when rows are added to an embedding; plain SGD has no moments that would not fit any more."""
    twins = Twins(OPTIMIZERS["SGD"])
    twins.steps(2)

    def change(parameters, _):
        parameters[0].grad = None
        parameters[0].data = torch.ones(2, 2, dtype=torch.float64)
        parameters[1].grad = None
        parameters[1].data = torch.ones(1, dtype=torch.float64)

    twins.on_both(change)
    twins.steps(3)


def test_mixed_dtypes_in_one_group(make):
    twins = Twins(make)

    def change(parameters, _):
        for parameter in parameters[::2]:
            parameter.data = parameter.data.float()

    twins.on_both(change)
    twins.steps(4)
    assert packed(twins.optimizers[0]) == [2, 4]
    assert twins.pair[0][2].dtype == torch.float32


def test_gradients_of_another_layout(make):
    twins = Twins(make)
    twins.steps(2)
    expected = copy.deepcopy((twins.pair[1], twins.optimizers[1]))
    give_gradients(twins.pair[0], 7)
    give_gradients(expected[0], 7)
    twins.pair[0][6].grad = twins.pair[0][6].grad.t().contiguous().t()
    twins.optimizers[0].step()
    expected[1].step()
    torch.testing.assert_close(twins.pair[0], expected[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda parameters, optimizer: optimizer.state.clear(),
        lambda parameters, optimizer: optimizer.state.pop(parameters[1], None),
        lambda parameters, optimizer: optimizer.state.__setitem__(
            parameters[2], {name: torch.ones_like(value) for name, value in optimizer.state[parameters[2]].items()}
        ),
        lambda parameters, optimizer: [
            optimizer.state[parameters[3]].__setitem__(name, value + 1)
            for name, value in optimizer.state[parameters[3]].items()
        ],
        lambda parameters, optimizer: [value.zero_() for value in optimizer.state[parameters[4]].values()],
        lambda parameters, optimizer: optimizer.param_groups[0]["params"].pop(2),
        lambda parameters, optimizer: optimizer.param_groups[0].update(lr=0.5, weight_decay=0.01),
        lambda parameters, optimizer: optimizer.unpack(),
        lambda parameters, optimizer: optimizer.prepare_compile(),
        lambda parameters, optimizer: optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict())),
    ],
    ids=[
        "clear",
        "pop",
        "replace state",
        "replace tensors",
        "in place",
        "leave group",
        "options",
        "unpack",
        "prepare",
        "load",
    ],
)
def test_changes_from_outside_are_noticed(make, change):
    twins = Twins(make)
    twins.steps(3)
    for parameters, optimizer in zip(twins.pair, twins.optimizers, strict=True):
        for parameter in parameters:
            optimizer.state[parameter]  # plain SGD has no state of its own accord
        change(parameters, optimizer)
    twins.steps(4)


def test_groups_are_packed_apart():
    def make(parameters, **options):
        groups = [{"params": parameters[:3], "lr": 0.5}, {"params": parameters[3:], "weight_decay": 0.5}]
        return AdamW(groups, lr=0.05, **options)

    twins = Twins(make)
    twins.steps(3)
    assert packed(twins.optimizers[0]) == [3, 3]
    late = [[torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2)] for _ in range(2)]
    for parameters, optimizer, new in zip(twins.pair, twins.optimizers, late, strict=True):
        optimizer.add_param_group({"params": new, "lr": 0.1})
        parameters += new
    twins.steps(3)
    assert packed(twins.optimizers[0]) == [2, 3, 3]


def test_a_learning_rate_that_stays_a_tensor():
    """As one on a GPU does."""
    parameters, alone = start(), start()
    optimizers = AdamW(parameters, lr=0.05), AdamW(alone, lr=0.05, flat=False)
    for step in range(4):
        for own, optimizer in zip((parameters, alone), optimizers, strict=True):
            give_gradients(own, step)
            optimizer.step()
    (pack,) = optimizers[0]._packs[0]
    direction = torch.ones_like(pack.gradient)
    before = [parameter.detach().clone() for parameter in pack.parameters]
    with torch.no_grad():
        pack.move((direction, direction * 2), torch.tensor(0.5, dtype=torch.float64), optimizers[0].param_groups[0])
    for parameter, value in zip(pack.parameters, before, strict=True):
        torch.testing.assert_close(parameter.detach(), value * (1 - 0.05 * 0.01) - 0.25)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair)), "torch.save"])
def test_copies_go_on_alike_and_apart(make, copier):
    twins = Twins(make)
    twins.steps(3)
    original = (twins.pair[0], twins.optimizers[0])
    if copier == "torch.save":
        file = io.BytesIO()
        torch.save(original, file)
        file.seek(0)
        parameters, optimizer = torch.load(file, weights_only=False)
    else:
        parameters, optimizer = copier(original)
    before = [parameter.detach().clone() for parameter in twins.pair[0]]
    for step in range(3, 6):
        give_gradients(parameters, step)
        optimizer.step()
    assert all(torch.equal(parameter, value) for parameter, value in zip(twins.pair[0], before, strict=True))
    twins.steps(3)
    torch.testing.assert_close(parameters, twins.pair[0], rtol=1e-13, atol=1e-15)


def test_a_copied_state_takes_the_memory_of_its_tensors_alone():
    parameters = [torch.ones(1000, requires_grad=True) for _ in range(20)]
    optimizer = Adam(parameters)
    for _ in range(2):
        give_gradients(parameters, 0)
        optimizer.step()
    assert packed(optimizer) == [20]
    assert len(pickle.dumps(optimizer)) < 3 * 20 * 4000 * 1.2


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_big_parameters_are_updated_piece_by_piece(name, monkeypatch):
    make = OPTIMIZERS[name]
    whole = Twins(make)
    whole.steps(5)
    monkeypatch.setattr(flat_buffers, "piece_size", lambda device: 8)
    cut = Twins(make)
    cut.steps(5)
    for ours, expected in zip(cut.pair[0], whole.pair[1], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-15)


def test_pieces_cover_everything_once_and_share_memory(monkeypatch):
    monkeypatch.setattr(flat_buffers, "piece_size", lambda device: 10)
    parameter, gradient = torch.zeros(7, 5), torch.arange(35.0).view(7, 5)
    parts = pieces(parameter, gradient)
    assert max(part.numel() for part, _ in parts) <= 10
    for part, part_gradient in parts:
        part.add_(part_gradient + 1)
    assert torch.equal(parameter, gradient + 1)
    assert len(pieces(parameter.t(), gradient.t())) == 1
    assert len(pieces(torch.zeros(10), torch.zeros(10))) == 1


def test_big_and_small_packs_are_kept_within_a_piece(monkeypatch):
    monkeypatch.setattr(flat_buffers, "piece_size", lambda device: 30)
    twins = Twins(OPTIMIZERS["Adam"])
    twins.steps(5)
    sizes = [pack.gradient.numel() for pack in twins.optimizers[0]._packs[0]]
    assert max(sizes) <= 30
    assert len(sizes) > 1


def test_scratch_is_made_once():
    scratch = Scratch()
    first = scratch.flat(5, torch.float32, torch.device("cpu"))
    assert scratch.flat(3, torch.float32, torch.device("cpu")).data_ptr() == first.data_ptr()
    assert scratch.flat(3, torch.float64, torch.device("cpu")).data_ptr() != first.data_ptr()
    assert scratch.like(torch.zeros(3, 4)) is None
    assert scratch.like(torch.zeros(2**17)).shape == (2**17,)
