"""For the tests of activations: ours in both engines beside torch.nn's, in whatever dtype x has."""

import torch
from ds_core import Module, record
from ds_core.testing import one_graph


def handwritten(layer: Module, x: torch.Tensor, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """y and dx of one pass under `record()`."""
    with record():
        y = layer(x)
        return y, layer.backward(dy)


def differentiated(layer, x: torch.Tensor, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """y and dx by autograd, of our layer or of torch.nn's."""
    leaf = x.clone().requires_grad_()
    y = layer(leaf)
    y.backward(dy)
    return y.detach(), leaf.grad


def check_both_engines(layer: Module, twin: torch.nn.Module, x: torch.Tensor, **near: float) -> None:
    """y and dx of both engines are those of torch.nn, NaN where that has NaN, for gradients that are not all alike."""
    dy = torch.linspace(0.5, 1.5, x.numel()).view(x.shape).to(x.dtype)
    y, dx = differentiated(twin, x, dy)
    for engine in (handwritten, differentiated):
        found = engine(layer, x, dy)
        assert [tensor.dtype for tensor in found] == [x.dtype, x.dtype]
        for title, tensor, expected in zip(("y", "dx"), found, (y, dx), strict=True):
            torch.testing.assert_close(
                tensor,
                expected,
                equal_nan=True,
                **near,
                msg=lambda text, title=title, engine=engine: f"{engine.__name__} {title}: {text}",
            )


def check_compiled_step(layer: Module, shapes=((3, 4), (5, 6))) -> None:
    """Forward and backward compile as one graph, whatever the sizes."""

    def step(x: torch.Tensor) -> torch.Tensor:
        layer.zero_grad()
        with record():
            return layer.backward(layer(x) * 2)

    compiled = one_graph(step, dynamic=True)
    for shape in shapes:
        x = torch.randn(shape)
        torch.testing.assert_close(compiled(x), step(x))


def check_chunks(layer: Module, x: torch.Tensor) -> None:
    """A tensor of more than a chunk gives what parts too small to be cut give, recording and not."""
    dy = torch.randn(x.shape).to(x.dtype)
    parts = [handwritten(layer, *part) for part in zip(x.split(1000), dy.split(1000), strict=True)]
    with torch.no_grad():
        assert torch.allclose(layer(x), torch.cat([y for y, _ in parts]))
    for whole, results in zip(handwritten(layer, x, dy), zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(whole, torch.cat(results))
