"""Layers and losses that run on their plain forms, against autograd, finite differences and their twins."""

import copy
from contextlib import nullcontext

import pytest
import torch
from ds_core import (
    AlphaDropout,
    BatchNorm1d,
    BCELoss,
    BCEWithLogitsLoss,
    Bilinear,
    CosineEmbeddingLoss,
    CrossEntropyLoss,
    Embedding,
    GroupNorm,
    HuberLoss,
    KLDivLoss,
    LayerNorm,
    MultiMarginLoss,
    NLLLoss,
    RMSNorm,
    plain,
    record,
)
from ds_core.testing import check_layer, check_loss, check_twin

DRAWS = torch.Generator().manual_seed(0)
ROWS = torch.randn(4, 6, generator=DRAWS)
LAYERS = {
    "alpha dropout": (AlphaDropout(0.3), None, [ROWS], {}),
    "batch norm": (BatchNorm1d(6), torch.nn.BatchNorm1d(6), [torch.randn(4, 6, 3, generator=DRAWS)], {}),
    "bilinear": (Bilinear(6, 3, 2), torch.nn.Bilinear(6, 3, 2), [ROWS, torch.randn(4, 3, generator=DRAWS)], {}),
    "embedding": (Embedding(7, 3), torch.nn.Embedding(7, 3), [torch.tensor([[0, 3, 3], [6, 3, 1]])], {}),
    "one row of an embedding": (Embedding(7, 3), None, [torch.tensor(2)], {"batch_dim": None}),
    "group norm": (GroupNorm(2, 6), torch.nn.GroupNorm(2, 6), [torch.randn(4, 6, 3, generator=DRAWS)], {}),
    "layer norm": (LayerNorm(6), torch.nn.LayerNorm(6), [ROWS], {}),
    "RMS norm": (RMSNorm(6), torch.nn.RMSNorm(6), [ROWS], {}),
}
CLASSES, CHANCES = torch.tensor([1, 5, 0, 3]), torch.rand(4, 6, generator=DRAWS)
WEIGHT = torch.rand(6, generator=DRAWS) + 0.5
LOSSES = {
    # away from 0 and 1, where the loss bends too fast for finite differences
    "BCE": (BCELoss, {"weight": WEIGHT}, [0.1 + 0.8 * torch.rand(4, 6, generator=DRAWS), CHANCES]),
    "BCE with logits": (BCEWithLogitsLoss, {"pos_weight": WEIGHT}, [ROWS, CHANCES]),
    "cosine embedding": (
        CosineEmbeddingLoss,
        {"margin": 0.1},
        [ROWS, torch.randn(4, 6, generator=DRAWS), torch.tensor([1, -1, 1, -1])],
    ),
    "cross-entropy": (CrossEntropyLoss, {"weight": WEIGHT, "ignore_index": 5, "label_smoothing": 0.2}, [ROWS, CLASSES]),
    "cross-entropy of probabilities": (CrossEntropyLoss, {"weight": WEIGHT, "label_smoothing": 0.2}, [ROWS, CHANCES]),
    "Huber": (HuberLoss, {"delta": 0.5}, [ROWS, torch.randn(4, 6, generator=DRAWS)]),
    "KL": (KLDivLoss, {"reduction": "batchmean"}, [ROWS, CHANCES]),
    "multi-margin": (MultiMarginLoss, {"p": 2, "weight": WEIGHT}, [ROWS, CLASSES]),
    "NLL": (NLLLoss, {"weight": WEIGHT, "ignore_index": 5}, [ROWS, CLASSES]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_on_its_plain_form_is_right(name):
    layer, twin, inputs, options = LAYERS[name]
    with plain():
        check_layer(layer, *inputs, **options)
        if twin is not None:
            check_twin(layer, twin, *inputs)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_on_its_plain_form_is_right(name):
    loss, options, inputs = LOSSES[name]
    twin = getattr(torch.nn, loss.__name__)(**options)
    with plain():
        check_loss(loss(**options), *inputs, twin=twin, target_gradient=inputs[-1].is_floating_point())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_in_half_precision_runs_on_its_plain_form(name, dtype):
    layer, _, inputs, _ = LAYERS[name]
    layer = copy.deepcopy(layer).to(dtype)
    inputs = [x.to(dtype) if x.is_floating_point() else x for x in inputs]
    outputs = []
    for switch in (plain, nullcontext):
        torch.manual_seed(0)
        one = copy.deepcopy(layer)
        with switch(), record():
            y = one(*inputs)
            dx = one.backward(torch.ones_like(y))
        gradients = dx if isinstance(dx, tuple) else (dx,)
        outputs.append([t for t in (y, *gradients, *one.buffers()) if t is not None])
    for ours, fast in zip(*outputs, strict=True):
        assert ours.dtype == fast.dtype
        assert ours.isfinite().all()
        assert (ours.float() - fast.float()).abs().max() < 0.1
