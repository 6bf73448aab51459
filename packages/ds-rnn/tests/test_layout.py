"""How a batch lies: rows and back, states in order, lengths, packed objects, and what does not fit."""

import dataclasses

import pytest
import torch
from ds_core import ShapeError, record
from ds_rnn import GRU, LSTM
from ds_rnn.recurrent.layout import layout_of, read_lengths
from random_cases import Steps
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

LAYER = LSTM(2, 3)


def layouts():
    """Every form, for a batch of two numbers a step: its name, the batch, its layout."""
    x = torch.randn(4, 3, 2)
    packed = pack_padded_sequence(x, [2, 4, 1], enforce_sorted=False)
    return [
        ("time first", x, layout_of(LAYER, x, None, 2, False)),
        ("batch first", x, layout_of(LAYER, x, None, 2, True)),
        ("alone", x[:, 0], layout_of(LAYER, x[:, 0], None, 2, True)),
        ("lengths", x, layout_of(LAYER, x, [2, 4, 1], 2, False)),
        ("lengths, batch first", x, layout_of(LAYER, x, [0, 3, 2, 3], 2, True)),
        ("lengths, alone", x[:, 0], layout_of(LAYER, x[:, 0], [2], 2, True)),
        ("packed", packed, layout_of(LAYER, packed, None, 2, False)),
    ]


@pytest.mark.parametrize(("batch", "layout"), [case[1:] for case in layouts()], ids=[case[0] for case in layouts()])
def test_moves_are_transposes(batch, layout):
    """<rows(x), r> = <x, whole(r)>, so that each is the gradient of the other; the same of the states."""
    rows = layout.rows(batch)
    assert rows.shape == (sum(layout.batch_sizes), 2)
    other = torch.randn_like(rows)
    back = layout.whole(other)
    assert type(back) is type(batch)
    one, two = (getattr(tensor, "data", tensor) for tensor in (batch, back))
    torch.testing.assert_close((rows * other).sum(), (one * two).sum())
    assert torch.equal(layout.rows(back), other)
    states = torch.randn(layout.state_shape(2, 3))
    ordered = layout.states(states)
    assert ordered.shape == (2, layout.sequences, 3)
    assert torch.equal(layout.states_back(ordered), states)


def test_rows_of_lengths_are_those_of_pytorchs_packed_sequence():
    x = torch.randn(5, 4, 2)
    for lengths in ([5, 2, 2, 1], [2, 5, 1, 2]):
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        layout = layout_of(LAYER, x, lengths, 2, False)
        assert torch.equal(layout.rows(x), packed.data)
        assert list(layout.batch_sizes) == packed.batch_sizes.tolist()
        assert torch.equal(layout.whole(packed.data), pad_packed_sequence(packed)[0])


@pytest.mark.parametrize(
    "lengths",
    [
        [2, 4, 0],
        (2, 4, 0),
        torch.tensor([2, 4, 0]),
        torch.tensor([2, 4, 0]).numpy(),
        [torch.tensor([2]).numpy()[0], torch.tensor(4), 0],
    ],
    ids=["list", "tuple", "tensor", "array", "mixed"],
)
def test_lengths_of_any_kind(lengths):
    assert read_lengths(LAYER, lengths, 3, 4) == [2, 4, 0]


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([2, 5, 1], r"lengths\[1\] = 5, expected a whole number from 0 to 4"),
        ([2, 4, -1], r"lengths\[2\] = -1, expected a whole number from 0 to 4"),
        ([True, 4, 1], r"lengths\[0\] = True, expected a whole number from 0 to 4"),
        (torch.tensor([True, False, True]), r"lengths\[0\] = True, expected a whole number"),
        ([2.0, 4, 1], r"lengths\[0\] = 2\.0, expected a whole number"),
        (torch.tensor([2.0, 4.0, 1.0]), r"lengths\[0\] = 2\.0, expected a whole number"),
        (["2", 4, 1], r"lengths\[0\] = '2', expected a whole number"),
        ([2, 4], r"lengths \[2, 4\], expected 3, one for each sequence"),
        ([2, 4, 1, 1], r"lengths .*, expected 3, one for each sequence"),
        (torch.tensor([[2, 4, 1]]), r"lengths .*, expected 3, one for each sequence"),
        (torch.tensor(3), r"lengths .*, expected 3, one for each sequence"),
        (3, r"lengths 3, expected 3, one for each sequence"),
    ],
    ids=str,
)
def test_lengths_that_do_not_fit(lengths, message):
    with pytest.raises(ShapeError, match=rf"LSTM\(2, 3\): given {message}"):
        LAYER(torch.zeros(4, 3, 2), lengths=lengths)


def test_lengths_beside_a_packed_batch():
    with pytest.raises(TypeError, match="given lengths beside a packed input, which has its own: leave them out"):
        LAYER(pack_padded_sequence(torch.zeros(2, 1, 2), [2]), lengths=[2])


def test_inputs_that_are_no_batch():
    for given, name in (([1, 2], "list"), (None, "NoneType"), (torch.zeros(2, 2).numpy(), "ndarray")):
        with pytest.raises(TypeError, match=rf"LSTM\(2, 3\): given a {name} as input, expected a tensor or a packed"):
            LAYER(given)


@dataclasses.dataclass
class PackedRows:
    """The four fields in a dataclass."""

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None


@pytest.mark.parametrize("own", [Steps, PackedRows])
@pytest.mark.parametrize("lengths", [[4, 2, 1], [2, 4, 1]])
def test_any_object_with_the_four_fields(own, lengths):
    layer, x = GRU(2, 3, bidirectional=True), torch.randn(4, 3, 2)
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    fields = {name: getattr(packed, name) for name in Steps._fields}
    found = []
    for batch in (packed, own(**fields)):
        layer.zero_grad()
        with record():
            y, h = layer(batch)
            dx, dh = layer.backward(type(y)(**fields | {"data": torch.cos(y.data)}), torch.ones_like(h))
        assert type(y) is type(dx) is type(batch)
        found.append([y.data, h, dx.data, dh, *(parameter.grad for parameter in layer.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("data", "sizes", "order", "message"),
    [
        ((3, 5), [2, 1], None, r"packed input of shape \(3, 5\) and batch_sizes \[2, 1\], expected \(3, 2\)"),
        ((4, 2), [2, 1], None, r"packed input of shape \(4, 2\) and batch_sizes \[2, 1\], expected \(3, 2\)"),
        ((3, 1, 2), [2, 1], None, r"packed input of shape \(3, 1, 2\)"),
        ((3, 2), [1, 2], None, r"batch_sizes \[1, 2\], which must never rise"),
        ((3, 2), [2, 1], [0, 1, 2], r"3 sorted_indices and batch_sizes \[2, 1\]"),
    ],
)
def test_packed_objects_that_do_not_fit(data, sizes, order, message):
    order = None if order is None else torch.tensor(order)
    batch = PackedRows(torch.zeros(data), torch.tensor(sizes), order, order)
    with pytest.raises(
        ShapeError, match=rf"LSTM\(2, 3\): given {message}|LSTM\(2, 3\): given packed input with {message}"
    ):
        LAYER(batch)
