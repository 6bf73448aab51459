"""`report`: every gradient of a whole model, handwritten beside autograd and finite differences, as a table."""

from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.trace import describe
from ds_core.testing.calls import double, make_call, random_gradients
from ds_core.testing.differences import finite_differences
from ds_core.testing.failure import relative_difference
from ds_core.testing.layer_under_test import LayerUnderTest
from ds_core.testing.named_tensors import transform


class Row(NamedTuple):
    """One tensor: the lengths (norms) of its gradients, and their relative differences from the handwritten one."""

    module: str
    tensor: str
    shape: tuple[int, ...]
    handwritten: float
    autograd: float
    difference: float
    finite_difference: float | None
    ok: bool


class Report:
    """What `report` found: `rows` by tensor, `ok` whether all agree, and `str()` of it the table."""

    def __init__(self, title: str, rows: list[Row]) -> None:
        self.title = title
        self.rows = rows

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows)

    def __str__(self) -> str:
        width = max([24, *(len(f"    {row.tensor} {list(row.shape)}") for row in self.rows)])
        columns = f"{'handwritten':>12} {'autograd':>12} {'difference':>11} {'finite diff.':>13}"
        lines = [self.title, f"{'gradient of':{width}} {columns}"]
        for module, rows in groupby(self.rows, key=lambda row: row.module):
            lines += [f"  {module}", *(_line(row, width) for row in rows)]
        wrong = [row for row in self.rows if not row.ok]
        verdict = f"FAIL: {len(wrong)} of {len(self.rows)} gradients differ" if wrong else "ok: all gradients agree"
        return "\n".join([*lines, verdict])

    __repr__ = __str__


def report(
    model: Any,
    batch: Any,
    criterion: Any = None,
    target: Any = None,
    *,
    finite_difference: bool = True,
    samples: int = 2,
    rtol: float = 1e-9,
    atol: float = 1e-11,
    seed: int = 0,
) -> Report:
    """Compare every gradient of a model, in float64, and make a table of it.

        print(report(model, x))                                    # random output gradients
        print(report(model, x, CrossEntropyLoss(), labels))        # the gradients that training sees

    Args:
        model: stays unchanged; a copy is made in float64.
        batch: the input of `model.forward`, or a tuple of inputs.
        criterion, target: a loss, so that its gradient goes through the model, instead of random ones.
        finite_difference: whether to go through the (slow) finite differences too.
        samples: how many coordinates of each tensor they try, beside one random direction.
        rtol, atol: a handwritten gradient agrees where it is within atol + rtol * (largest number of autograd's).

    Returns:
        A `Report`. The differences are the largest |handwritten - other| over (largest |other| + atol / rtol).

    Raises:
        CheckFailed: where backward does not mirror forward, changes what it was given, or returns
            a gradient of another structure or shape.
    """
    generator = torch.Generator().manual_seed(seed)
    subject = LayerUnderTest(model if criterion is None else _Step(model, criterion, target))
    inputs = batch if isinstance(batch, tuple) else (batch,)
    call = make_call(model, inputs, None, ())
    gradients = random_gradients(subject.outputs(call), generator)
    handwritten = subject.handwritten([call], [gradients]).gradients
    autograd = subject.autograd([call], [gradients]).gradients
    slopes = {}
    if finite_difference:
        found = finite_differences(subject, call, gradients, handwritten, samples, generator)
        slopes = {difference.name: difference for difference in found}
    groups = _groups(model)
    rows = []
    for title, leaf in subject.leaves(call).items():
        given, expected = (
            torch.zeros_like(leaf) if g is None else g for g in (handwritten.get(title), autograd[title])
        )
        difference, slope = relative_difference(given, expected, rtol, atol), slopes.get(title)
        module, tensor = _module_and_tensor(title, groups, criterion is not None)
        rows.append(
            Row(
                module,
                tensor,
                tuple(leaf.shape),
                float(given.norm()),
                float(expected.norm()),
                difference,
                None if slope is None else slope.relative,
                difference <= rtol and (slope is None or slope.failure is None),
            )
        )
    return Report(f"{type(model).__name__}: {len(rows)} gradients in float64", rows)


class _Step(Module):
    """model and criterion as one layer."""

    def __init__(self, model: Any, criterion: Any, target: Any) -> None:
        self.model = model
        self.criterion = criterion
        self.target = (transform(target, double),)

    def forward(self, *inputs: Any) -> Tensor:
        loss: Tensor = self.criterion.forward(self.model.forward(*inputs), self.target[0])
        return loss

    def backward(self, grad: Tensor, *, input_gradient: bool = True) -> Any:
        dy = self.criterion.backward(grad)
        dys = dy if isinstance(dy, tuple) else (dy,)
        return self.model.backward(*dys) if input_gradient else self.model.backward(*dys, input_gradient=False)


def _groups(model: Any) -> dict[str, str]:
    named = model.named_modules() if hasattr(model, "named_modules") else [("", model)]
    return {name: f"{name or 'model'}: {describe(module)}" for name, module in named}


def _module_and_tensor(title: str, groups: dict[str, str], with_criterion: bool) -> tuple[str, str]:
    """Heading and name of a row."""
    name = title.removeprefix("gradient of ")
    if name.startswith("input "):
        return "inputs", name.removeprefix("input ")
    module, _, tensor = name.removeprefix("model." if with_criterion else "").rpartition(".")
    return groups.get(module, module), tensor


def _line(row: Row, width: int) -> str:
    tensor = f"    {row.tensor} {list(row.shape)}"
    slope = f"{row.finite_difference:13.1e}" if row.finite_difference is not None else " " * 13
    verdict = "ok" if row.ok else "FAIL"
    return f"{tensor:{width}} {row.handwritten:12.4g} {row.autograd:12.4g} {row.difference:11.1e} {slope} {verdict}"
