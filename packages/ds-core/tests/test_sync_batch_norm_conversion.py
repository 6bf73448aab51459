"""`convert_sync_batchnorm`: every BatchNorm of a model, wherever it is held, becomes one that synchronises."""

import copy

import torch
from ds_core import BatchNorm1d, Linear, Residual, Sequential, SyncBatchNorm, record
from ds_core.layers.batch_norm import BatchNorm


class Holder(Sequential):
    """Holds layers as a list, in a tuple and under two names."""

    def __init__(self) -> None:
        super().__init__(Linear(3, 3), BatchNorm1d(3, eps=0.1, momentum=None), Residual(BatchNorm1d(3, affine=False)))
        self.blocks = [Linear(3, 3), {"norm": BatchNorm1d(3, bias=False), "name": "block"}]
        self.pair = (BatchNorm(3, track_running_stats=False), Linear(3, 3), 5)
        self.again = self.pair[0]
        self.sizes = (3, 3)
        self.parent = self.blocks


def test_conversion_keeps_tensors_names_modes_and_numbers() -> None:
    model = Holder()
    model.blocks[1]["norm"].eval().weight.requires_grad_(False)
    names, state = dict(model.named_parameters()), model.state_dict()
    plain = [module for module in model.modules() if isinstance(module, BatchNorm)]
    before, others = copy.deepcopy(model), [module for module in model.modules() if not isinstance(module, BatchNorm)]
    converted = SyncBatchNorm.convert_sync_batchnorm(model, "a group")
    assert converted is model
    made = [module for module in model.modules() if isinstance(module, BatchNorm)]
    assert {type(module) for module in made} == {SyncBatchNorm}
    assert len(made) == len(plain) == 4
    assert [module for module in model.modules() if not isinstance(module, BatchNorm)] == others
    for old, new in zip(plain, made, strict=True):
        assert new.process_group == "a group"
        for name in ("num_features", "eps", "momentum", "affine", "track_running_stats", "training"):
            assert getattr(new, name) == getattr(old, name)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            assert getattr(new, name) is getattr(old, name)
    assert all(tensor is names[name] for name, tensor in model.named_parameters())
    assert list(model.state_dict()) == list(state)
    assert model.again is model.pair[0]
    assert model.parent is model.blocks
    assert (model.sizes, model.pair[2], model.blocks[1]["name"]) == ((3, 3), 5, "block")
    x = torch.randn(4, 3)
    for module in (model[:2], before[:2]):
        with record():
            module.backward(module(x))
    for mine, other in zip(model[:2].parameters(), before[:2].parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_conversion_of_a_layer_by_itself_and_of_what_has_none() -> None:
    layer = BatchNorm1d(3, dtype=torch.float64)
    converted = SyncBatchNorm.convert_sync_batchnorm(layer)
    assert type(converted) is SyncBatchNorm
    assert converted.weight is layer.weight
    assert converted.process_group is None
    linear = Linear(3, 3)
    assert SyncBatchNorm.convert_sync_batchnorm(linear) is linear

    class Named(SyncBatchNorm):
        pass

    assert type(Named.convert_sync_batchnorm(layer)) is Named
