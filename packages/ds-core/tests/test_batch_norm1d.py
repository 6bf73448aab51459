"""BatchNorm1d against its twin over all arguments: running averages, modes, errors, state, recomputation, compiling."""

import pytest
import torch
from ds_core import BatchNorm1d, Recompute, ShapeError, no_record, record
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph
from ds_core.testing.signature import takes_argument

Twin = torch.nn.BatchNorm1d
STATISTICS = ["running_mean", "running_var", "num_batches_tracked"]


def twins(**arguments: object) -> tuple[BatchNorm1d, torch.nn.BatchNorm1d]:
    return BatchNorm1d(3, **arguments), Twin(3, **arguments)  # type: ignore[arg-type]


def same_statistics(ours: BatchNorm1d, twin: torch.nn.BatchNorm1d) -> None:
    for name in STATISTICS:
        torch.testing.assert_close(getattr(ours, name), getattr(twin, name))


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2)])
def test_batch_norm1d_is_the_twin(shape: tuple[int, ...]) -> None:
    grid = {
        "num_features": [3],
        "eps": [1e-5, 0.1],
        "momentum": [0.1, None, 0.0, 1.0],
        "affine": [True, False],
        "track_running_stats": [True, False],
        "bias": [True, False],
    }
    compared = check_twin_grid(BatchNorm1d, Twin, grid, [2 * torch.randn(shape) + 1], newer=["bias"])
    assert compared == (64 if takes_argument(Twin, "bias") else 32)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("track", [True, False])
def test_batch_norm1d_is_right_in_both_modes(momentum: float | None, track: bool) -> None:
    layer = BatchNorm1d(3, momentum=momentum, track_running_stats=track)
    check_layer(layer, torch.randn(4, 3, 2))
    check_layer(layer.eval(), torch.randn(4, 3, 2))


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
@pytest.mark.parametrize("engine", ["handwritten", "autograd"])
def test_running_averages_follow_batch_after_batch(momentum: float | None, engine: str) -> None:
    ours, twin = twins(momentum=momentum)
    seen = []
    for size in (4, 7, 2):
        x = 2 * torch.randn(size, 3) + 1
        seen.append(x)
        if engine == "handwritten":
            with record():
                ours(x)
                ours.backward(None)
        else:
            ours(x.requires_grad_()).sum().backward()
        twin(x)
        same_statistics(ours, twin)
    assert not ours.running_mean.requires_grad
    ours.eval(), twin.eval()
    torch.testing.assert_close(ours(seen[0]), twin(seen[0]))
    same_statistics(ours, twin)
    if momentum is None:  # the mean of what the batches gave, the variance over n - 1
        right = torch.stack([x.var(0, correction=1) for x in seen]).mean(0).detach()
        torch.testing.assert_close(ours.running_var, right)


def test_statistics_move_under_no_record_too() -> None:
    ours, twin = twins()
    x = torch.randn(4, 3)
    with no_record():
        ours(x)
    twin(x)
    same_statistics(ours, twin)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_recomputation_moves_the_running_averages_once(momentum: float | None) -> None:
    ours, twin = twins(momentum=momentum)
    again = Recompute(ours)
    for _ in range(2):
        x, dy = torch.randn(4, 3), torch.randn(4, 3)
        leaf = x.clone().requires_grad_()
        twin(leaf).backward(dy)
        with record():
            again(x)
            torch.testing.assert_close(again.backward(dy), leaf.grad)
        same_statistics(ours, twin)


def test_tracking_can_be_switched_off_later_as_in_the_twin() -> None:
    ours, twin = twins()
    x = torch.randn(4, 3)
    ours(x), twin(x)
    ours.track_running_stats = twin.track_running_stats = False
    ours(2 * x), twin(2 * x)
    same_statistics(ours, twin)
    ours.eval(), twin.eval()
    torch.testing.assert_close(ours(x), twin(x))
    ours.reset_running_stats()
    assert (ours.running_mean.tolist(), ours.running_var.tolist(), int(ours.num_batches_tracked)) == (
        [0] * 3,
        [1] * 3,
        0,
    )
    BatchNorm1d(3, track_running_stats=False).reset_running_stats()


def test_averages_can_be_taken_away_as_from_the_twin() -> None:
    """Then evaluation goes by the batch, and no batch is counted."""
    ours, twin = (layer.eval() for layer in twins())
    for layer in (ours, twin):
        layer.running_mean = layer.running_var = None
    x = torch.randn(4, 3)
    torch.testing.assert_close(ours(x), twin(x))
    assert int(ours.num_batches_tracked) == int(twin.num_batches_tracked) == 0


def test_evaluation_goes_back_by_the_averages_that_it_went_forward_by() -> None:
    """A batch of training comes between: an actor that evaluates old states, say."""
    layer = BatchNorm1d(3)
    x, dy = torch.randn(4, 3), torch.randn(4, 3)
    with record():
        layer.eval()(x)
        layer.train()(10 * x + 5)
        layer.backward(None)
        dx = layer.backward(dy)
    scale = 1 / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(dx, dy * scale)
    torch.testing.assert_close(layer.weight.grad, (dy * x).sum(0) * scale)


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0)])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_an_empty_batch_is_that_of_the_twin(shape: tuple[int, ...], momentum: float | None) -> None:
    ours, twin = twins(momentum=momentum)
    for layer in (ours, twin):
        layer(torch.arange(6.0).view(2, 3))
    check_twin(ours, twin, torch.zeros(shape))
    twin(torch.zeros(shape))
    with record():
        y = ours(torch.zeros(shape))
        assert ours.backward(y).shape == shape
    same_statistics(ours, twin)
    assert ours.weight.grad.tolist() == [0, 0, 0]
    assert BatchNorm1d(0)(torch.zeros(2, 0)).shape == (2, 0)  # which the twin fails at


@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1), (3,), (2, 3, 4, 5), (2, 4), (2, 4, 3)])
def test_impossible_inputs_are_refused_where_the_twin_refuses_them(
    shape: tuple[int, ...], training: bool, track: bool
) -> None:
    ours, twin = (layer.train(training) for layer in twins(track_running_stats=track))
    x = torch.randn(shape)
    try:
        twin(x)
    except (ValueError, RuntimeError) as refusal:
        with pytest.raises(type(refusal)):
            ours(x)
        assert track is False or int(ours.num_batches_tracked) == 0
    else:
        torch.testing.assert_close(ours(x), twin(x))


def test_messages_name_the_layer_and_what_was_given() -> None:
    name = r"BatchNorm1d\(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True\)"
    with pytest.raises(
        ShapeError, match=name + r": given input of shape \(1, 3\), expected more than 1 value per channel"
    ):
        BatchNorm1d(3)(torch.randn(1, 3))
    with pytest.raises(ShapeError, match=name + r": given input of shape \(2, 4\), expected 2D or 3D with C = 3"):
        BatchNorm1d(3)(torch.randn(2, 4))
    with pytest.raises(ShapeError, match=r"expected 2D or 3D with C = 3"):
        BatchNorm1d(3, affine=False, track_running_stats=False)(torch.randn(2, 4))


@pytest.mark.parametrize("eps", [0.0, -0.1])
@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_eps_is_refused_where_the_twin_refuses_it(eps: float, track: bool, training: bool) -> None:
    ours, twin = (layer.train(training) for layer in twins(eps=eps, track_running_stats=track))
    x = torch.randn(4, 3)
    if eps == 0 and track and not training:
        statistics = (twin.weight, twin.bias, twin.running_mean, twin.running_var)
        try:
            expected = twin(x)
        except ValueError:  # torch 2.11 refuses 0 here too, though it can compute it
            expected = torch.batch_norm(x, *statistics, False, 0.1, eps, False)
        torch.testing.assert_close(ours(x), expected)
        return
    for layer in (ours, twin) if twin_refuses_eps() else (ours,):
        with pytest.raises(ValueError, match="eps"):
            layer(x)


def twin_refuses_eps() -> bool:
    """Older torch computes with it, and may divide by zero."""
    try:
        torch.nn.functional.batch_norm(torch.ones(2, 3), None, None, training=True, eps=-1.0)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_state_and_repr_are_the_twins(track: bool, momentum: float | None) -> None:
    ours, twin = twins(track_running_stats=track, momentum=momentum, dtype=torch.float64)
    assert list(ours.state_dict()) == list(twin.state_dict())
    for name, tensor in twin.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor)
        assert ours.state_dict()[name].dtype == tensor.dtype
    shown = repr(ours) if takes_argument(Twin, "bias") else repr(ours).replace(", bias=True", "")
    assert shown == repr(twin)
    assert all(tensor.is_meta for tensor in BatchNorm1d(3, device="meta").state_dict().values())
    assert [name for name, _ in ours.named_buffers()] == (STATISTICS if track else [])
    assert ours.to(torch.bfloat16).state_dict().keys() == twin.state_dict().keys()
    if track:
        assert (ours.num_batches_tracked.dtype, ours.num_batches_tracked.dim()) == (torch.int64, 0)
        assert ours.running_var.dtype == torch.bfloat16


@pytest.mark.parametrize("parameters", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("training", [True, False])
def test_bfloat16_averages_in_float32(parameters: torch.dtype, training: bool) -> None:
    x, dy = (torch.randn(2000, 3) + 3).bfloat16(), torch.randn(2000, 3).bfloat16()
    ours = BatchNorm1d(3, momentum=0.3, dtype=parameters).train(training)
    for tensor in (ours.weight.data, ours.running_mean, ours.running_var):
        tensor.add_(torch.rand(3))
    exact = Twin(3, momentum=0.3, dtype=torch.float64).train(training)
    exact.load_state_dict(ours.state_dict())
    leaf = x.double().requires_grad_()
    expected = exact(leaf)
    expected.backward(dy.double())
    with record():
        y = ours(x)
        dx = ours.backward(dy)
    assert (y.dtype, dx.dtype, ours.weight.grad.dtype) == (torch.bfloat16, torch.bfloat16, parameters)
    pairs = [(y, expected.detach()), (dx, leaf.grad), (ours.weight.grad, exact.weight.grad)]
    pairs += [(ours.bias.grad, exact.bias.grad)]
    pairs += [(getattr(ours, name), getattr(exact, name)) for name in STATISTICS[:2]]
    for found, right in pairs:  # half a step of bfloat16 is up to 2^-8 of the number
        near = {"rtol": 4.2e-3, "atol": 1e-4} if found.dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-3}
        torch.testing.assert_close(found.double(), right, **near)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("trailing", [(), (5,)])
def test_batch_norm1d_compiles_in_one_graph(momentum: float | None, training: bool, trailing: tuple[int, ...]) -> None:
    """The number of batches too, which changes from step to step and so must not be a constant of the graph."""
    layer, eager = (BatchNorm1d(3, momentum=momentum).train(training) for _ in range(2))

    def step(model: BatchNorm1d, x: torch.Tensor) -> torch.Tensor:
        with record():
            return model.backward(model(x) * 2)

    compiled = one_graph(step, dynamic=True)
    for size in (4, 6, 5):
        x = torch.randn(size, 3, *trailing)
        for model in (layer, eager):
            model.zero_grad()
        torch.testing.assert_close(compiled(layer, x), step(eager, x))
        torch.testing.assert_close(layer.weight.grad, eager.weight.grad)
        for name in STATISTICS:
            torch.testing.assert_close(getattr(layer, name), getattr(eager, name))
