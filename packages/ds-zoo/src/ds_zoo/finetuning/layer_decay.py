"""A learning rate for every layer, smaller the deeper it lies. Theory: docs/finetuning/layer_decay.md."""

import re
from typing import Any

from torch import Tensor

_BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)\.")


def parameter_groups(model: Any, *, weight_decay: float, lr: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Groups for AdamW: matrices decay, vectors do not, and a layer's rate is lr * layer_decay^(layers above it).

    The layer is read from a parameter's name (`layer_numbers`). Frozen parameters are left out. With a
    `layer_decay` of 1 there are two groups, matrices and vectors, as those of `decay_groups`.

    Args:
        weight_decay: of matrices.
        lr: of the head.
        layer_decay: d, above 0 and at most 1.

    Raises:
        ValueError: d outside its range, or no parameter is trained.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"parameter_groups: given layer_decay={layer_decay}, expected more than 0 and at most 1")
    trained = [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]
    if not trained:
        raise ValueError("parameter_groups: every parameter is frozen, so that there is nothing to train")
    above_each = layers_above(model)
    groups: dict[tuple[int, bool], list[Tensor]] = {}
    for name, tensor in trained:
        groups.setdefault((above_each[name] if layer_decay < 1 else 0, tensor.dim() >= 2), []).append(tensor)
    return [
        # lr_l = lr d^(N + 1 - l)                                                                   (1)
        {"params": tensors, "weight_decay": weight_decay if matrices else 0.0, "lr": lr * layer_decay**above}
        for (above, matrices), tensors in sorted(groups.items(), key=lambda group: (group[0][0], not group[0][1]))
    ]


def layers_above(model: Any) -> dict[str, int]:
    """For each parameter how many layers its stack has above it: N + 1 - l.

    A stack is what stands in one list `blocks`: `blocks.N.` or `vision.blocks.N.` in a name. Its blocks are the layers
    1 ... N, what the same part of the model has before them is layer 0 (embeddings), what it has after them layer
    N + 1 (the last norm, the head). What lies beside every stack, as a head on top of the part, has nothing above it.
    """
    names = [name for name, _ in model.named_parameters()]
    heights: dict[str, int] = {}
    for name in names:
        found = _BLOCK.search(name)
        if found is not None:
            stack = name[: found.start(1) - len("blocks.")]
            heights[stack] = max(heights.get(stack, 0), int(found[1]) + 1)
    above = {}
    reached: set[str] = set()  # the stacks whose blocks have begun
    for name in names:
        stack = max((stack for stack in heights if name.startswith(stack)), key=len, default=None)
        found = _BLOCK.search(name)
        if stack is None:
            above[name] = 0
        elif found is not None and name[: found.start(1) - len("blocks.")] == stack:
            reached.add(stack)
            above[name] = heights[stack] - int(found[1])
        else:
            above[name] = 0 if stack in reached else heights[stack] + 1
    return above
