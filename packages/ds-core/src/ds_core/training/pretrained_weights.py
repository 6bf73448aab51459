"""The weights of a published model by our names: which tensor is which of a file. Theory: docs/checkpoint.md."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from ds_core.errors import CheckpointError, one_line

M = TypeVar("M")


class Key(NamedTuple):
    """What a tensor of ours is in a file.

    Attributes:
        name: what it is called there; several, if the file has it in parts of equal size, which follow each other in
            ours along the first dimension, as query, key and value in `in_proj_weight`.
        transposed: whether its last two dimensions are exchanged there.
        leading: how many dimensions of size 1 it has in front there, as a class token (1, 1, E).
    """

    name: str | tuple[str, ...]
    transposed: bool = False
    leading: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its parts, one or several."""
        return (self.name,) if isinstance(self.name, str) else self.name

    def to_file(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """A tensor of ours -> what the file holds by each of the names."""
        parts = torch.chunk(tensor, len(self.names)) if len(self.names) > 1 else (tensor,)
        return tuple(_exchanged(part, self.transposed)[(None,) * self.leading] for part in parts)

    def from_file(self, parts: Sequence[Tensor]) -> Tensor:
        """What the file holds by each of the names -> the tensor of ours."""
        turned = [_exchanged(part.reshape(part.shape[self.leading :]), self.transposed) for part in parts]
        return turned[0] if len(turned) == 1 else torch.cat(turned)


def by_their_names(state: Mapping[str, Tensor], keys: Mapping[str, Key]) -> dict[str, Tensor]:
    """The tensors of `state`, by our names, as a file holds them: what `fit_tensors` undoes."""
    theirs: dict[str, Tensor] = {}
    for ours, tensor in state.items():
        theirs.update(zip(keys[ours].names, keys[ours].to_file(tensor), strict=True))
    return theirs


def fit_tensors(
    source: str | Path,
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    keys: Mapping[str, Key] | None = None,
) -> dict[str, Tensor]:
    """`tensors` of a file by our names, if they are those that `expected` names, and no others.

    Args:
        source: the file or folder, for messages.
        tensors: what it holds.
        expected: tensors of the shapes and kinds that are wanted, by our names; on the device "meta" they take no room.
        keys: what each of `expected` is in the file; None: the same.

    Raises:
        CheckpointError: names are missing or left over, a shape or kind of number differs, or a number is not finite.
    """
    keys = {name: Key(name) for name in expected} if keys is None else keys
    wanted = [name for ours in expected for name in keys[ours].names]
    missing = [name for name in wanted if name not in tensors]
    others = sorted(set(tensors) - set(wanted))
    if missing or others:
        parts = [f"lacks {_listed(missing)}"] if missing else []
        parts += [f"holds {_listed(others)} beyond the model"] if others else []
        raise CheckpointError(f"{source} is of another model: it {' and '.join(parts)}")
    fitting = {}
    for ours, tensor in expected.items():
        key = keys[ours]
        found = [tensors[name] for name in key.names]
        for name, part, shape in zip(key.names, found, [part.shape for part in key.to_file(tensor)], strict=True):
            if part.shape != shape:
                raise CheckpointError(
                    f"{source} is of another model: {name} has shape {tuple(part.shape)}, expected {tuple(shape)}"
                )
            if part.is_floating_point() != tensor.is_floating_point():
                raise CheckpointError(f"{source} is of another model: {name} is in {part.dtype}")
            if not _is_finite(part):
                raise CheckpointError(f"{source}: {name} holds numbers that are infinite or NaN")
        fitting[ours] = key.from_file(found)
    return fitting


def load_model(
    folder: str | Path,
    build: Callable[[], M],
    blocks: int,
    tensors: Mapping[str, Tensor],
    keys: Callable[[Iterable[str]], Mapping[str, Key]],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> M:
    """The model of a folder with its weights, in evaluation mode; no random number is drawn.

    Args:
        folder: where `tensors` come from, for messages.
        build: makes the `Module` on the device "meta", where it takes no memory.
        blocks: how many blocks it has, each with one tensor or more.
        tensors: of `read_folder`, without those that are known to be no weights.
        keys: our names of parameters and buffers -> what each is in the file.
        dtype: what the weights are cast to; by default they keep the file's, of several the widest.

    Raises:
        CheckpointError: the tensors are not those of the model.
    """
    model: Any = without_weights(folder, build, blocks, tensors)
    expected = model.state_dict()
    found = fit_tensors(folder, tensors, expected, keys(expected))
    of_file = [tensor.dtype for tensor in found.values() if tensor.is_floating_point()]
    model.to(functools.reduce(torch.promote_types, of_file) if dtype is None and of_file else dtype)
    model.to_empty(torch.get_default_device() if device is None else device)
    model.load_state_dict(found)
    return model.eval()  # type: ignore[no-any-return]


def without_weights(folder: str | Path, build: Callable[[], M], blocks: int, tensors: Mapping[str, Tensor]) -> M:
    """The model that `build` makes on the device "meta", where it takes neither memory nor time: its shapes alone.

    Args:
        folder: whose config.json gives the model its sizes.
        blocks: how many blocks it has, each with one tensor or more.
        tensors: what the folder holds.

    Raises:
        CheckpointError: the sizes are beyond any memory, or there are more blocks than tensors.
    """
    if blocks > len(tensors):
        raise CheckpointError(
            f"{folder} is of another model: its config.json says {blocks:,} blocks, but it holds {len(tensors)} tensors"
        )
    try:
        return build()
    except (RuntimeError, MemoryError, OverflowError) as error:
        raise CheckpointError(
            f"{Path(folder) / 'config.json'}: no memory holds a model of these sizes ({one_line(error)})"
        ) from error


def _is_finite(tensor: Tensor) -> bool:
    """Whether no number is infinite or NaN. The extremes say it, as NaN counts as both, in a fraction of the time."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    return bool(torch.isfinite(torch.stack([tensor.amin(), tensor.amax()])).all())


def _exchanged(tensor: Tensor, exchanged: bool) -> Tensor:
    return tensor.transpose(-2, -1) if exchanged else tensor


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
