"""`check_loss`: a loss is a layer whose output is a number and whose missing gradient means 1."""

from collections.abc import Collection, Mapping
from typing import Any

import torch

from ds_core.testing.layer_checks import LayerChecks
from ds_core.testing.twin import check_twin


def check_loss(
    loss: Any,
    *inputs: Any,
    twin: Any = None,
    target_gradient: bool = False,
    kwargs: Mapping[str, Any] | None = None,
    constants: Collection[int | str] | None = None,
    skip: Collection[str] = (),
    **options: Any,
) -> None:
    """Prove a handwritten loss right: `check_layer` on `(predictions ..., target)`, and `backward()` = `backward(1)`.

        check_loss(CrossEntropyLoss(), torch.randn(5, 3), torch.randint(0, 3, (5,)), twin=torch.nn.CrossEntropyLoss())

    Args:
        loss: its `forward(*inputs)` gives a number (or, unreduced, one for each example).
        inputs: the predictions, and last the target, which is no prediction and has no gradient.
        twin: PyTorch's loss, held against ours with `check_twin`.
        target_gradient: whether `backward(grad, target_gradient=True)` gives the target's gradient too.
        constants: arguments without a gradient, if others than the last.
        skip, kwargs, options: as in `check_layer`.

    Raises:
        CheckFailed: saying which check, which tensor, the largest difference and where.
    """
    if constants is None:
        constants = () if target_gradient else (len(inputs) - 1,)
    backward = {"target_gradient": True} if target_gradient else {}
    checks = LossChecks(loss, inputs, kwargs, constants, skip=skip, options=backward, **options)
    checks.run()
    if twin is not None:
        common = {name: options[name] for name in ("rtol", "atol", "seed") if name in options}
        check_twin(loss, twin, *inputs, kwargs=kwargs, constants=constants, options=backward, **common)


class LossChecks(LayerChecks):
    def none_gradients(self) -> None:
        """backward() is backward(1); of an unreduced loss PyTorch, too, wants the gradient to be given."""
        output = self.subject.outputs(self.call)
        if output.dim() > 0:
            return
        ones = self.handwritten("None gradients", [self.call], [(torch.ones_like(output),)])
        for gradients in ((), (None,)):
            found = self.handwritten("None gradients", [self.call], [gradients])
            self.same("None gradients", found, ones, (f"backward({'None' if gradients else ''})", "backward(1)"))
