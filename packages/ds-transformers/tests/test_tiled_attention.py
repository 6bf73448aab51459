import importlib
import math

import pytest
import torch
from ds_core import primitives_only
from ds_core.testing import one_graph
from ds_transformers import attention, attention_backward, tiled_attention, tiled_attention_backward
from ds_transformers.attentions import tiles
from ds_transformers.attentions.attention import base2_scores, powers_of_2

# the package's attribute of this name is the function
MODULE = importlib.import_module("ds_transformers.attentions.tiled_attention")


def long_heads(batch=2, heads=3, queries=20, keys=20, width=4):
    generator = torch.Generator().manual_seed(0)
    sizes = (queries, keys, keys, queries)
    return [torch.randn(batch, heads, size, width, dtype=torch.float64, generator=generator) for size in sizes]


def tiled(query, key, value, dout, **options):
    output, logs = tiled_attention(query, key, value, **options)
    return output, *tiled_attention_backward(dout, query, key, value, output, logs, **options)


def whole(query, key, value, dout, **options):
    output, probabilities = attention(query, key, value, **options)
    return output, *attention_backward(dout, query, key, value, output, probabilities, **options)


def test_worked_example():
    """The scores 0 and ln 3 of both queries: 2^2 is the sum of the exponentials, 1/4 and 3/4 the probabilities."""
    query = torch.eye(2, dtype=torch.float64).view(1, 1, 2, 2)
    key = torch.tensor([[0.0, 3.0], [3.0, 0.0]], dtype=torch.float64).clamp(min=1.0).log().view(1, 1, 2, 2)
    value = torch.tensor([[[[1.0, 2.0], [3.0, -1.0]]]], dtype=torch.float64)
    scores = base2_scores(query[0], key[0], 1.0)
    powers, _, largest = powers_of_2(scores.clone(), False)
    numbers = torch.tensor([[[1 / 3, 1.0], [1.0, 1 / 3]]], dtype=torch.float64)
    torch.testing.assert_close(powers, numbers)  # e_ij
    torch.testing.assert_close(largest / math.log2(math.e), torch.full_like(largest, math.log(3)))  # m_i
    output, logs = tiled_attention(query, key, value, scale=1.0, rows=1)
    probabilities = base2_scores(query[0], key[0], 1.0, -logs[0].sum(2, keepdim=True)).exp2()  # (3)
    torch.testing.assert_close(probabilities, torch.tensor([[[0.25, 0.75], [0.75, 0.25]]], dtype=torch.float64))
    torch.testing.assert_close(logs.sum(3).flatten(), torch.tensor([2.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(output[0, 0], torch.tensor([[2.5, -0.25], [1.5, 1.25]], dtype=torch.float64))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 7, 20, 64, None])
@pytest.mark.parametrize("cached", [1, 100, 2**18], ids=["head by head", "some heads", "all heads"])
def test_the_same_whatever_the_tiles(cached, rows, causal, monkeypatch):
    monkeypatch.setattr(tiles, "CACHED", cached)
    inputs = long_heads()
    for found, expected in zip(tiled(*inputs, causal=causal, rows=rows), whole(*inputs, causal=causal), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(20, 20), (7, 20), (20, 7)])
@pytest.mark.parametrize("mask", ["none", "boolean", "floating"])
@pytest.mark.parametrize("dropped", [False, True])
def test_the_same_where_keys_are_many(dropped, mask, queries, keys, causal, monkeypatch):
    """Beyond so many keys the products of backward are one wider, but for a floating mask or dropout."""
    monkeypatch.setattr(MODULE, "LONG", 5)
    used = []
    append_column = MODULE.append_column
    monkeypatch.setattr(MODULE, "append_column", lambda *given: used.append(given) or append_column(*given))
    torch.manual_seed(0)
    inputs = long_heads(queries=queries, keys=keys)
    kinds = {"none": None, "boolean": torch.rand(queries, keys) < 0.7, "floating": torch.randn(queries, keys).double()}
    dropout_mask = (torch.rand(2, 3, queries, keys, dtype=torch.float64) < 0.5) * 2.0 if dropped else None
    options = {"visible": kinds[mask], "causal": causal, "dropout_mask": dropout_mask, "scale": 0.3}
    for found, expected in zip(tiled(*inputs, rows=6, **options), whole(*inputs, **options), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert (len(used) > 0) == (mask != "floating" and not dropped)


def test_few_and_many_keys_compile_in_one_graph(monkeypatch):
    monkeypatch.setattr(MODULE, "LONG", 10)

    def step(query, key, value, dout):
        with torch.no_grad():
            return tiled(query, key, value, dout, causal=True)

    compiled = one_graph(step, dynamic=True, graphs=2)
    for length in (7, 20):
        inputs = long_heads(queries=length, keys=length)
        torch.testing.assert_close(compiled(*inputs), step(*inputs), rtol=1e-12, atol=1e-12)


def test_many_keys_in_bfloat16(monkeypatch):
    """The factors of the wider products are float32: scores of bfloat16 would be off by several per cent."""
    inputs = [tensor.bfloat16() for tensor in long_heads(queries=70, keys=70, width=16)]
    inputs[0] *= 4
    exact = whole(*[tensor.double() for tensor in inputs], causal=True)
    for limit in (5, 1024):
        monkeypatch.setattr(MODULE, "LONG", limit)
        for found, expected in zip(tiled(*inputs, causal=True), exact, strict=True):
            assert found.dtype == torch.bfloat16
            assert (found.double() - expected).norm() / expected.norm() < 0.01


@pytest.mark.parametrize(("threads", "together"), [(1, 1), (2, 2), (3, 3), (4, 3)])
def test_a_tile_has_a_head_for_every_thread(threads, together, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    query = torch.empty(2, 3, 4096, 8)
    parts = tiles.head_tiles(query, 4096, 128)
    assert max((e.stop - e.start) * (h.stop - h.start) for e, h in parts) == together
    assert sum((e.stop - e.start) * (h.stop - h.start) for e, h in parts) == 6


@pytest.mark.parametrize("shape", [(20, 20), (2, 1, 1, 20), (1, 3, 20, 20), (2, 3, 20, 20), (3, 1, 1), (20,), ()])
@pytest.mark.parametrize("cached", [1, 100, 2**18], ids=["head by head", "some heads", "all heads"])
def test_each_tile_takes_its_part_of_the_mask(cached, shape, monkeypatch):
    monkeypatch.setattr(tiles, "CACHED", cached)
    torch.manual_seed(0)
    mask, inputs = torch.rand(shape) < 0.7, long_heads()
    dropout_mask = (torch.rand(2, 3, 20, 20, dtype=torch.float64) < 0.5) * 2.0
    options = {"visible": mask, "causal": True, "dropout_mask": dropout_mask}
    for found, expected in zip(tiled(*inputs, rows=6, **options), whole(*inputs, **options), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("batch", "heads", "queries", "keys"), [(0, 3, 4, 4), (2, 3, 0, 4), (2, 3, 4, 0), (2, 3, 1, 1)]
)
@pytest.mark.parametrize("causal", [False, True])
def test_nothing_and_one(batch, heads, queries, keys, causal):
    inputs = long_heads(batch, heads, queries, keys)
    for found, expected in zip(tiled(*inputs, causal=causal), whole(*inputs, causal=causal), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_causal_tile_computes_no_score_beyond_its_diagonal(monkeypatch):
    """16 queries in tiles of 4 see 4, 8, 12 and 16 keys: 160 of 256 scores for each head."""
    computed = []
    products = MODULE.base2_scores

    def counted(q, k, *rest, **options):
        scores = products(q, k, *rest, **options)
        computed.append(scores.numel())
        return scores

    monkeypatch.setattr(MODULE, "base2_scores", counted)
    query, key, value, dout = long_heads(1, 1, 16, 16)
    output, logs = tiled_attention(query, key, value, causal=True, rows=4)
    assert sum(computed) == 160
    tiled_attention_backward(dout, query, key, value, output, logs, causal=True, rows=4)
    assert sum(computed) == 320


def test_no_matrix_is_ever_whole():
    """No tensor that either pass makes has as many elements as the scores of 8 queries and all keys."""
    largest = 0

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            results = func(*args, **(kwargs or {}))
            for result in results if isinstance(results, (tuple, list)) else [results]:
                largest = max(largest, result.numel())
            return results

    query, key, value, dout = long_heads(1, 1, 256, 256)
    with Sizes():
        tiled(query, key, value, dout, causal=True, rows=8)
    assert largest <= 8 * 256
    with Sizes():
        whole(query, key, value, dout, causal=True)
    assert largest >= 256 * 256


def test_only_primitives_run():
    inputs = long_heads()
    with torch.no_grad(), primitives_only() as operations:
        tiled(*inputs, causal=True, rows=8)
    assert operations["exp2"] == 6
