"""`check_twin`: a layer does what the torch.nn class of its name does."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ds_core.testing.calls import make_call, random_gradients
from ds_core.testing.failure import CheckFailed, compare
from ds_core.testing.grids import combinations, pairwise
from ds_core.testing.layer_under_test import Evaluation, LayerUnderTest
from ds_core.testing.signature import check_signature, takes_argument

_SIDES = ("ours", "PyTorch's")


def check_twin(
    layer: Any,
    torch_layer: Any,
    *inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    constants: Collection[int | str] = (),
    modes: Sequence[str] = ("train", "eval"),
    rtol: float = 1e-9,
    atol: float = 1e-11,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Hold a layer against its PyTorch twin, in float64: state both ways, outputs, every gradient, buffers.

        check_twin(Linear(3, 4), torch.nn.Linear(3, 4), torch.randn(2, 3))
        check_twin(Softmax(-1), torch.nn.functional.softmax, torch.randn(2, 3), kwargs={"dim": -1})

    Args:
        layer: ours; neither it nor `torch_layer` is changed.
        torch_layer: a torch.nn module, or a function of the inputs.
        inputs, kwargs: arguments of both forwards.
        constants: positions or names of arguments that ours gives no gradient for.
        modes: of `"train"` and `"eval"`; dropout, whose draws may differ from PyTorch's, wants `["eval"]`.
        options: keyword arguments for our backward.
        rtol, atol: allowed is atol + rtol * (largest number of PyTorch's tensor).

    Raises:
        CheckFailed: naming the tensor, the largest difference and where.
    """
    generator = torch.Generator().manual_seed(seed)
    ours, theirs = LayerUnderTest(layer), LayerUnderTest(torch_layer)
    if hasattr(torch_layer, "state_dict"):
        _check_state(ours, theirs, generator)
    for mode in modes:
        for subject in (ours, theirs):
            if hasattr(subject.layer, "train"):
                subject.layer.train(mode == "train")
        call = make_call(layer, inputs, kwargs, constants)
        gradients = random_gradients(theirs.outputs(call), generator)
        expected = theirs.autograd([call], [gradients], f"PyTorch's layer, {mode}")
        given = ours.handwritten([call], [gradients], check=f"twin, {mode}", **(options or {}))
        _same(ours.name, f"twin, {mode}", given, expected, rtol, atol)


def check_twin_grid(
    make_ours: Callable[..., Any],
    make_theirs: Callable[..., Any],
    grid: Mapping[str, Sequence[Any]],
    inputs: Sequence[Any] | Callable[[dict[str, Any]], Sequence[Any]],
    *,
    same_initialisation: bool = True,
    check_arguments: bool = True,
    left_out: Collection[str] = (),
    newer: Collection[str] = (),
    thinned: bool = False,
    **options: Any,
) -> int:
    """`check_twin` for every combination of constructor arguments.

        check_twin_grid(
            LayerNorm,
            torch.nn.LayerNorm,
            {"normalized_shape": [4, (3, 4)], "elementwise_affine": [True, False], "bias": [True, False]},
            [torch.randn(2, 3, 4)],
        )

    If PyTorch refuses a combination, ours must refuse it too. With the same seed both start from the same weights.

    Args:
        make_ours, make_theirs: the two classes, or functions taking the same keyword arguments.
        grid: values to try by argument name.
        inputs: the inputs of forward, or a function that makes them from the chosen arguments.
        same_initialisation: whether `torch.manual_seed` must give both the same weights.
        check_arguments: whether to compare the classes' names and signatures (`check_signature`).
        left_out: the twin's arguments that ours does not have, beside those in `MACHINERY`.
        newer: arguments of the grid that came to PyTorch's class late; a torch that lacks one goes without it.
        thinned: whether only so many combinations go through `check_twin` as hold every pair of values (`pairwise`).
            All are built, refused and initialised alike either way.
        options: passed to `check_twin`.

    Returns:
        How many combinations were compared.

    Raises:
        CheckFailed: naming the combination.
    """
    if check_arguments and inspect.isclass(make_ours) and inspect.isclass(make_theirs):
        check_signature(make_ours, make_theirs, left_out)
    name = getattr(make_ours, "__name__", repr(make_ours))
    lacking = [argument for argument in newer if not takes_argument(make_theirs, argument)]
    grid = {argument: values for argument, values in grid.items() if argument not in lacking}
    accepted = []
    for chosen in combinations(grid):
        title = _title(name, chosen)
        (ours, refusal), (theirs, torch_refusal) = _made(make_ours, chosen), _made(make_theirs, chosen)
        if refusal is not None or torch_refusal is not None:
            if refusal is None or torch_refusal is None:
                message = f"ours: {refusal or 'accepted'!r}; PyTorch: {torch_refusal or 'accepted'!r}"
                raise CheckFailed(title, "arguments", message) from (refusal or torch_refusal)
            continue
        if same_initialisation and hasattr(theirs, "state_dict"):
            expected = theirs.state_dict()
            for key, tensor in ours.state_dict().items():
                compare(title, "initialisation", key, tensor, expected.get(key), 0, 0, _SIDES)
        accepted.append(chosen)
    if not accepted:
        raise ValueError(f"check_twin_grid({name}): every combination was refused, nothing was compared")
    compared = pairwise(accepted) if thinned else accepted
    for chosen in compared:
        (ours, _), (theirs, _) = _made(make_ours, chosen), _made(make_theirs, chosen)
        given = inputs(chosen) if callable(inputs) else inputs
        try:
            check_twin(ours, theirs, *given, **options)
        except CheckFailed as failed:
            raise CheckFailed(
                _title(name, chosen), failed.check, failed.reason, failed.tensor, failed.difference, failed.where
            ) from failed
    return len(compared)


def _title(name: str, chosen: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in chosen.items())})"


def _made(make: Callable[..., Any], chosen: Mapping[str, Any]) -> tuple[Any, Exception | None]:
    torch.manual_seed(0)
    try:
        return make(**chosen), None
    except Exception as refusal:
        return None, refusal


def _check_state(ours: LayerUnderTest, theirs: LayerUnderTest, generator: torch.Generator) -> None:
    """Names, shapes and types of the state, loaded there and back; leaves both with the same random state."""
    mine, other = ours.layer.state_dict(), theirs.layer.state_dict()
    outlines = [{name: (tuple(t.shape), t.dtype) for name, t in state.items()} for state in (mine, other)]
    if list(outlines[0].items()) != list(outlines[1].items()):
        raise CheckFailed(ours.name, "state_dict", f"ours {outlines[0]}\n  PyTorch's {outlines[1]}")
    trainable = [{name for name, _ in subject.trainable().items()} for subject in (ours, theirs)]
    if trainable[0] != trainable[1]:
        raise CheckFailed(ours.name, "state_dict", f"trainable: ours {trainable[0]}, PyTorch's {trainable[1]}")
    state = _shaken(other, generator)
    theirs.layer.load_state_dict(state)
    ours.layer.load_state_dict(theirs.layer.state_dict())
    for name, tensor in ours.layer.state_dict().items():
        title = f"{name} loaded from PyTorch"
        compare(ours.name, "state_dict", title, tensor, state[name], 0, 0, ("loaded", "given"))
    state = _shaken(mine, generator)
    ours.layer.load_state_dict(state)
    theirs.layer.load_state_dict(ours.layer.state_dict())


def _shaken(state: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Other numbers in the same state: positive ones stay positive (running variances), tied ones equal."""
    memory = {name: (tensor.data_ptr(), tensor.shape) for name, tensor in state.items()}
    shaken: dict[Any, Tensor] = {}
    for name, tensor in state.items():
        if memory[name] not in shaken:
            factors = torch.rand(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device)
            other = tensor * (0.5 + factors) + 0.1 * factors if tensor.is_floating_point() else tensor
            shaken[memory[name]] = other.clone()
    return {name: shaken[key] for name, key in memory.items()}


def _same(subject: str, check: str, given: Evaluation, expected: Evaluation, rtol: float, atol: float) -> None:
    if list(given.outputs) != list(expected.outputs):
        raise CheckFailed(subject, check, f"outputs: ours {list(given.outputs)}, PyTorch's {list(expected.outputs)}")
    if not any(bool(tensor.isfinite().any()) or tensor.numel() == 0 for tensor in expected.outputs.values()):
        raise ValueError(f"{subject}, {check}: PyTorch's outputs hold no finite number, so nothing is compared")
    for name, tensor in given.outputs.items():
        compare(subject, check, f"output {name}", tensor, expected.outputs[name], rtol, atol, _SIDES)
    for name in [*given.gradients, *(name for name in expected.gradients if name not in given.gradients)]:
        compare(subject, check, name, given.gradients.get(name), expected.gradients.get(name), rtol, atol, _SIDES)
    for name, tensor in expected.buffers.items():
        compare(subject, check, f"buffer {name} after", given.buffers.get(name), tensor, rtol, atol, _SIDES)
