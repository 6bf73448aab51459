"""What forward remembers for backward: one last-in-first-out list per step.

A forward pass run under `record()` appends to a `Trace`, a backward pass takes
from its end. The reverse of the order of the calls is always a valid order for
backward, so layers may be reused, weights tied and branches taken without a
graph. `docs/trace.md` tells the whole story.
"""

import dataclasses
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ds_core.engine.foreign import refuse_foreign_modules
from ds_core.engine.nested_values import leaves
from ds_core.engine.unchanged import Snapshot, difference, snapshot

HOW_TO_RECORD = """\
    with record():
        loss = criterion(model(x), y)
        model.backward(criterion.backward())"""


class TraceError(RuntimeError):
    """Backward does not mirror forward, or runs where nothing was recorded."""


@dataclasses.dataclass(slots=True, eq=False)
class Entry:
    """What one call of one layer keeps for its backward.

    Attributes:
        before: what its backward will read, as forward left it; None if nobody compares.
        outputs: what the gradients must fit, see `guard`; None if it is not known.
    """

    layer: Any
    saved: tuple[Any, ...]
    before: Snapshot | None = None
    outputs: Any = None


class Kept(NamedTuple):
    """One line of `Trace.kept()`: the layer, the shapes it keeps, the bytes no earlier layer kept."""

    layer: str
    shapes: tuple[tuple[int, ...], ...]
    bytes: int


class Trace:
    """The list of entries of one forward pass, oldest first."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries: list[Entry] = list(entries)
        self.early: set[int] = set()  # the ids of layers that save before they call others: see `guard`

    def __len__(self) -> int:
        return len(self.entries)

    def take(self) -> list[Entry]:
        """Hand over all entries and forget them (`interop.as_torch` keeps them elsewhere)."""
        entries, self.entries = self.entries, []
        return entries

    def kept(self) -> list[Kept]:
        """What each call keeps, in call order. A storage kept twice is counted where it is first kept."""
        seen: set[int] = set()
        lines = []
        for entry in self.entries:
            size, shapes = 0, []
            for tensor in (leaf for leaf in leaves(entry.saved) if isinstance(leaf, Tensor)):
                shapes.append(tuple(tensor.shape))
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in seen:
                    seen.add(storage.data_ptr())
                    size += storage.nbytes()
            lines.append(Kept(describe(entry.layer), tuple(shapes), size))
        return lines

    def __str__(self) -> str:
        lines = self.kept()
        rows = [f"{line.bytes:>12,}  {line.layer}  {list(line.shapes)}" for line in lines]
        return "\n".join([*rows, f"{sum(line.bytes for line in lines):>12,}  bytes in all"])


class _Stack(threading.local):
    """The open traces of this thread, innermost last; None marks a pause. (ContextVar breaks fullgraph.)"""

    def __init__(self) -> None:
        self.traces: list[Trace | None] = []


_stack = _Stack()


class record:
    """Run the handwritten engine: autograd off, and what layers save is kept until their backward takes it.

    `with record() as trace:` gives the trace, to look at. Leaving the block with
    entries that no backward took raises `TraceError`: a branch was forgotten.
    Traces nest. Never hold the block open across a `yield` or an `await`.

    Args:
        entries: a recorded pass to be gone through backward (as `interop.as_torch` does).

    Raises:
        TraceError: under `torch.inference_mode`, whose tensors no later pass may use; or on a leftover.
        ForeignModuleError: inside, where a torch.nn module is called, whose gradient nobody would bring.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.trace = Trace(entries)
        self._open = False

    def __enter__(self) -> Trace:
        if self._open:
            raise TraceError("this record() is open already: write record() anew for a pass inside a pass")
        if not torch.compiler.is_compiling() and torch.is_inference_mode_enabled():
            raise TraceError("record() under torch.inference_mode(): use no_record() for inference and leave that out")
        self._open = True
        self._refusal = None if torch.compiler.is_compiling() else refuse_foreign_modules(recording)
        self._grad_was_enabled = torch.is_grad_enabled()
        torch.set_grad_enabled(False)
        _stack.traces.append(self.trace)
        return self.trace

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._open = False
        if self._refusal is not None:
            self._refusal.remove()
        _leave(self.trace, "record()", self._grad_was_enabled)
        if kind is None and self.trace.entries:
            names = ", ".join(describe(entry.layer) for entry in self.trace.entries[-5:])
            raise TraceError(
                f"record() ended with {len(self.trace)} recorded call(s) that no backward took, the last: {names}. "
                "Every branch of forward needs its backward; give None where its gradient is zero, "
                "and run what needs none under no_record()"
            )


class no_record:
    """Pause the trace and switch autograd off: for generation, evaluation and cache writes, in both engines."""

    def __enter__(self) -> None:
        self._grad_was_enabled = torch.is_grad_enabled()
        torch.set_grad_enabled(False)
        _stack.traces.append(None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        _leave(None, "no_record()", self._grad_was_enabled)


def open_trace() -> Trace | None:
    """Where what a layer saves now is kept; None outside `record()`."""
    return _stack.traces[-1] if len(_stack.traces) > 0 else None


def recording() -> bool:
    """Whether what a layer saves now is kept."""
    return open_trace() is not None


def save(layer: Any, *saved: Any, reads: Iterable[Tensor] = ()) -> None:
    """Keep `saved` for the backward of this call of `layer`; outside `record()` keep nothing.

    Args:
        reads: parameters of other layers that this backward reads, to be compared as its own are.
    """
    traces = _stack.traces
    if len(traces) > 0 and (trace := traces[-1]) is not None:
        trace.entries.append(Entry(layer, saved, snapshot(layer, saved, reads)))


def take_saved(layer: Any) -> tuple[Any, ...]:
    """What the last call of `layer` kept.

    Raises:
        TraceError: outside `record()`; if the last entry is another layer's; or if what backward would read has
            changed since forward.
    """
    trace = open_trace()
    if trace is None:
        raise TraceError(
            f"backward of {describe(layer)} outside record(): nothing was kept for it. Write\n{HOW_TO_RECORD}"
        )
    if len(trace.entries) == 0:
        raise TraceError(
            f"backward of {describe(layer)}, but the trace is empty: its forward ran outside this record(), "
            "or its backward has run already"
        )
    entry = trace.entries.pop()
    if entry.layer is not layer:
        raise TraceError(
            f"backward of {describe(layer)}, but the last call not yet gone back through is of "
            f"{describe(entry.layer)}: backward takes the calls of forward in reverse order"
        )
    change = None if entry.before is None else difference(layer, entry.saved, entry.before)
    if change is not None:
        raise TraceError(
            f"backward of {describe(layer)}: {change} since its forward, so that its gradients would be wrong; "
            "change it after backward, or change a copy"
        )
    return entry.saved


def reuse(temporary: Tensor) -> Tensor | None:
    """`torch.exp(s, out=reuse(s))` writes into `s` where that is safe, and makes a new tensor where it is not.

    Autograd and the compiler want each result to be a tensor of its own. Only for
    temporaries made in the same function, never for an input or a given gradient.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    return temporary


def describe(layer: Any) -> str:
    """A layer in one line, for messages: `Linear(in_features=3, out_features=4, bias=True)`."""
    extra = getattr(layer, "extra_repr", None)
    return f"{type(layer).__name__}({extra() if extra is not None else ''})"


def _leave(trace: Trace | None, name: str, grad_was_enabled: bool) -> None:
    traces = _stack.traces
    if len(traces) > 0 and traces[-1] is trace:
        traces.pop()
        torch.set_grad_enabled(grad_was_enabled)
        return
    # Close what was left open inside, so that one mistake does not spoil every later pass of this thread.
    for index in reversed(range(len(traces))):
        if traces[index] is trace:
            del traces[index:]
            torch.set_grad_enabled(grad_was_enabled)
            break
    raise TraceError(
        f"{name} ended while another record() or no_record() was open: blocks must close in the reverse order "
        "they opened (was one held open across a yield or an await, or entered in another thread?)"
    )
