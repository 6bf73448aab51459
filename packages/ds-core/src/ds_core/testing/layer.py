"""`check_layer`: everything a handwritten layer must do, tried out."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ds_core.testing.layer_checks import LayerChecks


def check_layer(
    layer: Any,
    *inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    constants: Collection[int | str] = (),
    other_inputs: Sequence[Any] | None = None,
    batch_dim: int | Sequence[int | None] | None = 0,
    skip: Collection[str] = (),
    rtol: float = 1e-9,
    atol: float = 1e-11,
    samples: int = 16,
    seed: int = 0,
) -> None:
    """Prove a handwritten layer right, or say what is wrong with it.

        check_layer(Linear(3, 4), torch.randn(2, 3))
        check_layer(LSTM(3, 4), x, (h0, c0), batch_dim=[1, 1])
        check_layer(ReLU(), torch.zeros(3), skip=["autograd", "finite differences"])      # a kink

    Works on float64 copies with random output gradients; neither `layer` nor `inputs` are changed.
    The checks, by the name that `skip` and a failure use:

    - `autograd`: outputs, gradients and buffers equal those of autograd on the same forward.
    - `finite differences`: gradients equal (s(x + h) - s(x - h)) / 2h with s = sum(dy y).
    - `reuse`: two calls in one forward, with other inputs and gradients, went back through in reverse.
    - `non-contiguous`: inputs and gradients in another memory layout give the same.
    - `batch of one`, `empty batch`: the same holds there.
    - `unchanged`: inputs, given gradients, outputs and parameters are not written to.
    - `trace`: backward takes exactly what forward saved.
    - `structure`: backward returns one gradient for each differentiable input, of its shape and dtype.
    - `dtype`: floating outputs are float64 where inputs and parameters are.
    - `finite`: no NaN in outputs, nothing infinite in gradients.
    - `ownership`: no parameter's gradient shares memory with anything else.
    - `None gradients`: None means zeros, also for one of several outputs; trailing ones may be left out.
    - `frozen`: frozen parameters get no gradient, and the other gradients stay what they were.
    - `input_gradient`: `backward(..., input_gradient=False)` gives the parameters' gradients alone.
    - `recompute`: inside `Recompute` the layer does the same (its draws are replayed).
    - `primitives`: forward and backward run primitive operations only.
    - `repeatable`: with generators and buffers put back, a second evaluation gives the same.

    Args:
        layer: anything with `forward`, `backward` and `parameters`, in the mode (train, eval) that it is in.
        inputs, kwargs: arguments of `forward`: tensors, or tuples, lists, dicts and dataclasses of them.
        constants: positions or names of floating inputs that backward gives no gradient for (a mask).
        other_inputs: what the second call of `reuse` gets; by default `inputs`, floating ones scaled by
            random factors in (0.5, 0.95), the others in reverse order of the batch.
        batch_dim: which dimension of the inputs counts examples; a sequence says it for each argument.
            None: there is none, so no `batch of one` and no `empty batch`.
        skip: checks to leave out, by name (all but `trace` and `structure`). At kinks and ties leave out
            `autograd` and `finite differences` and hold the layer against its twin instead (`check_twin`).
        rtol, atol: allowed is atol + rtol * (largest number of the expected tensor); finite
            differences have their own.
        samples: how many coordinates of each tensor finite differences try, beside a random direction.
        seed: of the gradients and samples drawn here.

    Raises:
        CheckFailed: saying which check, which tensor, the largest difference and where.
        ValueError: for a `skip` or `constants` that names nothing, or where there is nothing to check.
    """
    LayerChecks(layer, inputs, kwargs, constants, other_inputs, batch_dim, skip, rtol, atol, samples, seed).run()
