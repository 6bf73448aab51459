import pytest
import torch
from ds_core import ShapeError, no_record, record
from ds_transformers import KeyValueCache, SelfAttention


def tokens(length, batch=2, heads=3, width=4, dtype=torch.float32):
    return torch.randn(batch, heads, length, width, dtype=dtype), torch.randn(batch, heads, length, width, dtype=dtype)


def test_gives_back_all_tokens_in_order():
    cache = KeyValueCache(2, 3, 8, 4)
    pieces = [tokens(length) for length in (3, 1, 0, 2)]
    with no_record():
        for number, piece in enumerate(pieces, 1):
            keys, values = cache.append(*piece)
            assert torch.equal(keys, torch.cat([key for key, _ in pieces[:number]], 2))
            assert torch.equal(values, torch.cat([value for _, value in pieces[:number]], 2))
    assert cache.length == 6
    assert cache.max_length == 8


def test_writes_in_place_and_copies_nothing():
    cache = KeyValueCache(2, 3, 8, 4)
    with no_record():
        first, _ = cache.append(*tokens(1))
        second, _ = cache.append(*tokens(1))
    assert first.data_ptr() == second.data_ptr()


def test_reset_forgets_the_tokens_and_keeps_the_memory():
    cache = KeyValueCache(2, 3, 2, 4)
    with no_record():
        before, _ = cache.append(*tokens(2))
        cache.reset()
        assert cache.length == 0
        key, value = tokens(2)
        keys, values = cache.append(key, value)
    assert keys.data_ptr() == before.data_ptr()
    assert torch.equal(keys, key)
    assert torch.equal(values, value)


def test_truncate_goes_back():
    cache = KeyValueCache(2, 3, 8, 4)
    (first, _), (second, _) = tokens(3), tokens(2)
    with no_record():
        cache.append(first, first)
        cache.append(second, second)
        cache.truncate(1)
        assert cache.length == 1
        keys, values = cache.append(second, -second)
    assert torch.equal(keys, torch.cat([first[:, :, :1], second], 2))
    assert torch.equal(values, torch.cat([first[:, :, :1], -second], 2))
    for length in (4, -1):
        with pytest.raises(ValueError, match=f"holds 3 tokens, cannot go back to {length}"):
            cache.truncate(length)


def test_the_cost_of_a_token_does_not_grow_with_those_before():
    class Written(torch.utils._python_dispatch.TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.overloadpacket is torch.ops.aten.copy_:
                self.numbers += args[0].numel()
            return func(*args, **(kwargs or {}))

    cache = KeyValueCache(2, 3, 50, 4)
    with no_record(), Written() as written:
        for step in range(50):
            cache.append(*tokens(1))
            assert written.numbers == (step + 1) * 2 * (2 * 3 * 4)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ((1, 3, 1, 4), (1, 3, 1, 4), r"key \(1, 3, 1, 4\).*B=2, H=3, D=4"),
        ((2, 2, 1, 4), (2, 2, 1, 4), r"key \(2, 2, 1, 4\)"),
        ((2, 3, 1, 5), (2, 3, 1, 5), r"key \(2, 3, 1, 5\)"),
        ((2, 3, 1, 4), (2, 3, 2, 4), r"value \(2, 3, 2, 4\)"),
        ((2, 3, 4), (2, 3, 4), r"key \(2, 3, 4\)"),
        ((2, 3, 6, 4), (2, 3, 6, 4), "holds 0 of at most 5 tokens, no room for 6 more"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(key, value, message):
    cache = KeyValueCache(2, 3, 5, 4)
    with no_record(), pytest.raises(ShapeError, match=message):
        cache.append(torch.zeros(key), torch.zeros(value))
    assert cache.length == 0


def test_overflow_after_some_tokens():
    cache = KeyValueCache(2, 3, 3, 4)
    with no_record():
        cache.append(*tokens(2))
        with pytest.raises(ShapeError, match="holds 2 of at most 3 tokens, no room for 2 more"):
            cache.append(*tokens(2))
        assert cache.length == 2
        cache.append(*tokens(1))


def test_another_dtype_is_refused():
    with no_record(), pytest.raises(ShapeError, match=r"torch.float64.*expected torch.float32"):
        KeyValueCache(2, 3, 3, 4).append(*tokens(1, dtype=torch.float64))


def test_it_is_not_for_training():
    cache = KeyValueCache(2, 3, 3, 4)
    with pytest.raises(RuntimeError, match=r"generate under no_record\(\)"):
        cache.append(*tokens(1))
    with record(), pytest.raises(RuntimeError, match=r"generate under no_record\(\)"):
        cache.append(*tokens(1))
    with torch.no_grad():
        cache.append(*tokens(1))
    assert cache.length == 1


@pytest.mark.parametrize("sizes", [(-1, 1, 1, 1), (1, 1, -2, 1)])
def test_impossible_sizes(sizes):
    with pytest.raises(ValueError, match="expected >= 0"):
        KeyValueCache(*sizes)


def test_repr_says_how_full_it_is():
    cache = KeyValueCache(2, 3, 8, 4)
    with no_record():
        cache.append(*tokens(5))
    assert repr(cache) == "KeyValueCache(batch_size=2, num_heads=3, max_length=8, head_dim=4, length=5)"


def test_a_cache_belongs_to_one_layer_until_it_is_reset():
    first, second = (SelfAttention(6, 2, causal=True) for _ in range(2))
    x, cache = torch.randn(2, 3, 6), KeyValueCache(2, 2, 9, 3)
    with no_record():
        first(x, cache=cache)
        for another in (second, None):
            with pytest.raises(ValueError, match=r"length=3\) holds the keys of another layer.*cache of its own"):
                cache.append(*tokens(1, 2, 2, 3), owner=another)
        assert cache.length == 3
        cache.truncate(0)
        with pytest.raises(ValueError, match="holds the keys of another layer"):
            second(x, cache=cache)
        cache.reset()
        torch.testing.assert_close(second(x, cache=cache), second(x))


@pytest.mark.parametrize("rows", [[1, 0, 2], [2, 2, 0], [1], [0, 1, 2, 0, 1]])
def test_select_goes_on_from_the_tokens_of_others(rows):
    """As computed afresh, where example i has had the tokens of example rows[i] all along; more or fewer of them."""
    layer = SelfAttention(6, 2, causal=True, dtype=torch.float64)
    before, after = (torch.randn(n, 3, 6, dtype=torch.float64) for n in (3, len(rows)))
    cache = KeyValueCache(3, 2, 9, 3, dtype=torch.float64)
    with no_record():
        layer(before, cache=cache)
        cache.select(torch.tensor(rows))
        found = layer(after, cache=cache)
        whole = layer(torch.cat([before[rows], after], 1))
    torch.testing.assert_close(found, whole[:, 3:], rtol=1e-12, atol=1e-12)
    assert cache.length == 6
    assert repr(cache) == f"KeyValueCache(batch_size={len(rows)}, num_heads=2, max_length=9, head_dim=3, length=6)"


@pytest.mark.parametrize("rows", [torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2)])
def test_rows_to_select_are_a_list_of_numbers(rows):
    with pytest.raises(ShapeError, match=r"given rows .*, expected \(B,\) of int64"):
        KeyValueCache(2, 2, 9, 3).select(rows)


def test_reserve_makes_room_and_keeps_the_tokens():
    cache = KeyValueCache(2, 3, 2, 4)
    (first, second), (third, fourth) = tokens(2), tokens(3)
    with no_record():
        cache.append(first, second)
        cache.reserve(1)
        assert cache.max_length == 2
        cache.reserve(5)
        keys, values = cache.append(third, fourth)
    assert cache.max_length == cache.length == 5
    assert torch.equal(keys, torch.cat([first, third], 2))
    assert torch.equal(values, torch.cat([second, fourth], 2))


def test_another_device_is_refused():
    with no_record(), pytest.raises(ShapeError, match="given keys on meta, expected them on cpu"):
        KeyValueCache(2, 3, 3, 4).append(*(tensor.to("meta") for tensor in tokens(1)))
