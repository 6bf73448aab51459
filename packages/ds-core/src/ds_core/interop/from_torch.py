"""A torch.nn module or a function as our layer, whose backward is autograd. Theory: docs/interop.md."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.module import Module, own_tensors
from ds_core.engine.nested_values import (
    is_differentiable,
    leaves,
    map_gradients,
    map_values,
    none_if_zero,
    pair_leaves,
)
from ds_core.engine.parameter import accumulate
from ds_core.engine.recompute import drawn, replaying, taping
from ds_core.engine.trace import describe, no_record, recording
from ds_core.interop.arguments import in_order, signed


def from_torch(module: torch.nn.Module) -> Module:
    """A layer that runs `module`. Under `record()` autograd does its backward, and its repr says so.

    Parameters, buffers, `state_dict` and training mode are those of `module`. Its backward returns a gradient for each
    argument that holds floating or complex tensors, in the order of the signature, however they were passed.

    Raises:
        TypeError: from `forward`, if `module` uses a parameter that is neither an input nor its own.
    """
    return AutogradLayer(module)


def from_autograd(function: Callable[..., Any]) -> Module:
    """A layer that computes `function`, any differentiable function of tensors. Autograd does its backward.

    For prototypes: wire freely, train, and write the backward later. `function` may be a `Module`
    without a backward of its own: its parameters are the layer's, under the same names.

    Raises:
        TypeError: from `forward`, if `function` uses a parameter that is neither an input nor its own.
    """
    return AutogradLayer(function)


class AutogradLayer(Module):
    """A torch.nn module or a function as a layer. Its backward is autograd's, the only one here that nobody wrote."""

    backward_reads_parameters = False  # autograd watches those that it keeps, and no others
    _function: Any

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)  # no child: what it owns appears as this layer's own

    @property
    def training(self) -> bool:
        return getattr(self._function, "training", True)

    @training.setter
    def training(self, mode: bool) -> None:
        if hasattr(self._function, "train"):
            self._function.train(mode)

    def named_children(self) -> Iterator[tuple[str, Any]]:
        return self._function.named_children() if isinstance(self._function, Module) else iter(())

    def _own_tensors(self, kind: str) -> list[tuple[str, Tensor]]:
        module = self._function
        if isinstance(module, Module):
            return own_tensors(module, kind)
        if not isinstance(module, torch.nn.Module):
            return []
        if kind == "state":
            return [item for item in module.state_dict(keep_vars=True).items() if isinstance(item[1], Tensor)]
        named = module.named_parameters if kind == "parameter" else module.named_buffers
        return list(named(remove_duplicate=False))

    @property
    def called_like(self) -> Callable[..., Any]:
        """The function whose signature orders the arguments, and so their gradients."""
        return signed(self._function) if hasattr(self._function, "forward") else self._function

    def forward(self, *inputs: Any, **options: Any) -> Any:
        if not recording():
            return self._run(inputs, options)
        with no_record(), torch.enable_grad():
            inputs, options = map_values(_as_leaf, (inputs, options), compute=True)
            try:
                outputs = self._run(inputs, options)
            except RuntimeError as error:
                if "leaf Variable that requires grad" not in str(error):
                    raise
                raise RuntimeError(
                    f"{describe(self)} changes its input, or a parameter, in place, which another layer may still "
                    "need: make it with inplace=False, or let it work on a copy"
                ) from error
        ordered = [value for _, value in in_order(self.called_like, inputs, options)] if options else inputs
        graph = _Graph(tuple(ordered), outputs, list(self.parameters()))
        graph.refuse_strangers(describe(self))
        self.save(graph)
        return map_values(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, outputs)

    def backward(self, *dys: Any, input_gradient: bool = True) -> Any:
        graph: _Graph = self.saved()[0]
        with no_record():  # what autograd runs, a checkpointed forward say, is no part of the pass that is recorded
            gradients = graph.differentiate(dys, input_gradient)
        for now, then in zip(self.parameters(), graph.parameters, strict=True):
            accumulate(now, gradients.get(id(then)))
        wanted = [
            value for value in graph.inputs if any(isinstance(x, Tensor) and x.requires_grad for x in leaves(value))
        ]
        dxs = [none_if_zero(map_gradients(lambda leaf: gradients.get(id(leaf)), value)) for value in wanted]
        return tuple(dxs) if len(dxs) > 1 else (dxs[0] if dxs else None)

    def _run(self, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if not taping():
            return self._function(*inputs, **options)
        # inside Recompute: what torch.nn draws and counts cannot be replayed, so its generators and buffers are
        on_cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        states = [drawn(torch.get_rng_state), *([drawn(torch.cuda.get_rng_state)] if on_cuda else [])]
        if not replaying():
            return self._function(*inputs, **options)
        with torch.random.fork_rng([torch.cuda.current_device()] if on_cuda else []):
            torch.set_rng_state(states[0])
            if on_cuda:
                torch.cuda.set_rng_state(states[1])
            if not isinstance(self._function, torch.nn.Module):
                return self._function(*inputs, **options)
            buffers = {name: buffer.clone() for name, buffer in self._function.named_buffers()}
            return torch.func.functional_call(self._function, buffers, inputs, options)

    def extra_repr(self) -> str:
        name = getattr(self._function, "__name__", type(self._function).__name__)
        return f"{name}, gradients by autograd"


_LEAF = "torch::autograd::AccumulateGrad"  # the node in which a graph ends


class _Graph:
    """What autograd keeps of one forward; no tensor and no container, so nobody looks inside."""

    def __init__(self, inputs: Any, outputs: Any, parameters: list[Tensor]) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.parameters = parameters

    def _leaves(self) -> list[Tensor]:
        return [leaf for leaf in leaves(self.inputs) if isinstance(leaf, Tensor) and leaf.requires_grad]

    def differentiate(self, dys: tuple[Any, ...], input_gradient: bool) -> dict[int, Tensor]:
        """The gradients that are not zero, by the `id` of the tensor; each in memory of its own."""
        wanted = [tensor for tensor in self.parameters if tensor.requires_grad]
        wanted += self._leaves() if input_gradient else []
        outputs = self.outputs if isinstance(self.outputs, tuple) else (self.outputs,)
        pairs = [(y, dy) for y, dy in pair_leaves(outputs, dys) if dy is not None and y.requires_grad]
        if not pairs or not wanted:
            return {}
        # the graph goes when the last copy of its trace entry does; a second backward of as_torch finds it whole
        gradients = torch.autograd.grad(
            [y for y, _ in pairs], wanted, [dy for _, dy in pairs], retain_graph=True, allow_unused=True
        )
        return {id(t): g.clone() for t, g in zip(wanted, gradients, strict=True) if g is not None}

    def refuse_strangers(self, name: str) -> None:
        """Raise if the graph ends in a tensor whose gradient nobody would fetch."""
        known = {id(tensor) for tensor in [*self.parameters, *self._leaves()]}
        nodes = [y.grad_fn for y in leaves(self.outputs) if isinstance(y, Tensor) and y.grad_fn is not None]
        # what a parametrization has computed is the layer's parameter, and how it did is as_torch's business
        seen = {*nodes, *[tensor.grad_fn for tensor in self.parameters]}
        while nodes:
            node = nodes.pop()
            stranger = getattr(node, "variable", None) if node.name() == _LEAF else None
            if stranger is not None and id(stranger) not in known:
                raise TypeError(
                    f"{name} uses a parameter of shape {tuple(stranger.shape)} that is neither its own nor among its "
                    "inputs, so that nobody would fetch its gradient; pass it as an input, or give from_autograd or "
                    "from_torch the module that owns it"
                )
            for after, _ in node.next_functions:
                if after is not None and after not in seen:
                    seen.add(after)
                    nodes.append(after)


def _as_leaf(leaf: Any) -> Any:
    if isinstance(leaf, Tensor) and is_differentiable(leaf):
        return leaf.detach().requires_grad_()
    return leaf
