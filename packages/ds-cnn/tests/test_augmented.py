"""Augmented batches: the same whenever, in whatever order and by however many processes they are drawn."""

import pytest
import torch
from ds_cnn import Augmented, Normalise, RandomCrop, RandomHorizontalFlip
from ds_core import AdamW, Callback, CrossEntropyLoss, Flatten, Linear, Sequential, ShapeError, Trainer
from ds_core.data import Loader, Prefetch, TensorDataset
from ds_core.data.batches import Batches
from ds_core.distributed.batch_shard import BatchShard, share_of
from hypothesis import given, settings
from hypothesis import strategies as st

COUNT = 50
IMAGES = torch.randint(256, (COUNT, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
DATA = TensorDataset(IMAGES, torch.arange(COUNT))
AUGMENTATIONS = [RandomCrop(padding=2), RandomHorizontalFlip()]
NORMALISE = Normalise.fit(IMAGES)


def augmented(batches=None, seed=0, augmentations=AUGMENTATIONS, normalise=NORMALISE, **options):
    batches = Loader(DATA, 8, **options) if batches is None else batches
    return Augmented(batches, augmentations, normalise, seed=seed)


def equal(first, second):
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_it_is_batches_and_draws_like_them():
    batches = augmented()
    assert isinstance(batches, Batches)
    assert batches.steps_per_epoch == 7
    images, target = batches.batch(0)
    assert (images.shape, images.dtype) == ((8, 3, 8, 8), torch.float32)
    assert torch.equal(target, Loader(DATA, 8).batch(0)[1])


def test_every_image_is_one_that_its_draw_makes_of_its_row():
    """Labels are row numbers here: what stands beside a label is that row's image, in its frame, maybe flipped."""
    seen = 0
    for step in range(7):
        for image, row in zip(*augmented(normalise=None).batch(step), strict=True):
            framed = torch.nn.functional.pad(IMAGES[row], [2] * 4)
            windows = framed.unfold(1, 8, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4).reshape(25, 3, 8, 8)
            candidates = torch.cat([windows, windows.flip(3)])
            assert (candidates == image).flatten(1).all(1).any()
            seen += 1
    assert seen == COUNT


def test_what_was_drawn_before_makes_no_difference():
    batches, again = augmented(), augmented()
    expected = [batches.batch(index) for index in range(20)]
    torch.manual_seed(5)
    for index in (19, 3, 3, 0, 11):
        torch.rand(3)
        assert equal(again.batch(index), expected[index])
    with Prefetch(augmented()) as ahead, augmented_inside() as inside:
        for index in (*range(9), 2, 15):
            assert equal(ahead.batch(index), expected[index])
            assert equal(inside.batch(index), expected[index])


class augmented_inside:
    """Augmented batches of batches that are drawn ahead."""

    def __enter__(self):
        self.ahead = Prefetch(Loader(DATA, 8))
        return augmented(self.ahead)

    def __exit__(self, *_):
        self.ahead.close()


def test_epochs_seeds_and_batches_differ():
    batches = augmented(shuffle=False, normalise=None)
    first = batches.batch(0)
    for index in (7, 14):  # the same rows in the next epochs
        other = batches.batch(index)
        assert torch.equal(other[1], first[1])
        assert not torch.equal(other[0], first[0])
    assert not equal(augmented(shuffle=False, normalise=None, seed=1).batch(0), first)
    one = Augmented(Repeated(), AUGMENTATIONS)
    assert not equal(one.batch(0), one.batch(1))


class Repeated:
    """The same batch, whatever is asked for."""

    def batch(self, index):
        return IMAGES[:8], torch.arange(8)


def test_what_is_drawn_is_not_what_shuffles():
    """The Loader has the same seed, and draws from keys of its own."""
    plain, batches = Loader(DATA, 8, seed=3), augmented(Loader(DATA, 8, seed=3), seed=3)
    assert [batches.batch(index)[1].tolist() for index in range(7)] == [
        plain.batch(index)[1].tolist() for index in range(7)
    ]


@given(st.integers(1, 4), st.integers(4, 20), st.integers(0, 30), st.booleans())
@settings(deadline=None, max_examples=25)
def test_processes_put_together_are_one(world_size, batch_size, index, drop_last):
    drop_last = drop_last or COUNT % batch_size < world_size
    options = {"drop_last": drop_last, "seed": 2}
    whole = augmented(Loader(DATA, batch_size, **options)).batch(index)
    shares = [
        augmented(Loader(DATA, batch_size, rank=rank, world_size=world_size, **options)).batch(index)
        for rank in range(world_size)
    ]
    assert equal([torch.cat(parts) for parts in zip(*shares, strict=True)], whole)
    for rank, share in enumerate(shares):
        with Prefetch(Loader(DATA, batch_size, rank=rank, world_size=world_size, **options)) as ahead:
            assert equal(augmented(ahead).batch(index), share)
    # what a Trainer makes of batches that each process draws whole, and of those that are cut already
    cut = [share_of(augmented(Loader(DATA, batch_size, **options)), rank, world_size) for rank in range(world_size)]
    assert all(equal(batches.batch(index), share) for batches, share in zip(cut, shares, strict=True))
    own = augmented(Loader(DATA, batch_size, rank=world_size - 1, world_size=world_size, **options))
    assert share_of(own, world_size - 1, world_size) is own


def test_nothing_at_random_is_normalising():
    images, target = Loader(DATA, 8).batch(3)
    found = augmented(augmentations=()).batch(3)
    assert equal(found, (NORMALISE(images), target))
    assert equal(augmented(augmentations=(), normalise=None).batch(3), (images, target))


def test_the_order_is_the_one_given():
    """A crop to 4 x 4 after a frame of 2: its draw needs the size that is there then."""
    batches = Augmented(Loader(DATA, 8), [RandomCrop(padding=2), RandomCrop(4), RandomCrop((2, 3))])
    assert batches.batch(0)[0].shape == (8, 3, 2, 3)


def test_what_cannot_be_augmented():
    with pytest.raises(ValueError, match="Augmented: given seed=-1"):
        Augmented(Repeated(), seed=-1)
    with pytest.raises(ValueError, match="given one process's share of the batches of a BatchShard"):
        augmented(BatchShard(Loader(DATA, 8), 0, 2))
    with pytest.raises(ShapeError, match=r"given inputs of shape \(8, 192\), expected images \(n, C, H, W\)"):
        augmented(Loader((IMAGES.flatten(1), torch.arange(COUNT)), 8)).batch(0)
    with pytest.raises(ShapeError, match="given inputs of a tuple"):
        augmented(Loader((IMAGES, IMAGES, torch.arange(COUNT)), 8)).batch(0)
    with pytest.raises(AttributeError, match="steps_per_epoch"):
        _ = Augmented(Repeated()).steps_per_epoch
    assert repr(Augmented(Repeated(), [RandomHorizontalFlip()], seed=4)) == (
        "Augmented(RandomHorizontalFlip(p=0.5), normalise=None, seed=4)"
    )


class Recorded:
    """Batches, and a list of those that were asked for."""

    def __init__(self, batches):
        self.batches, self.seen = batches, {}

    def batch(self, index):
        found = self.batches.batch(index)
        assert index not in self.seen or equal(self.seen[index], found)
        self.seen[index] = found
        return found


class KilledError(Exception):
    pass


class Kill(Callback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer, metrics):
        torch.rand(1)  # somebody else draws
        if trainer.step == self.step:
            raise KilledError


def train(folder, steps, *, resume=False, kill=None, prefetch=False):
    torch.manual_seed(0)
    model = Sequential(Flatten(), Linear(192, 50))
    optimizer = AdamW(model.parameters(), lr=0.01)
    callbacks = [Kill(kill)]
    trainer = Trainer(
        model, CrossEntropyLoss(), optimizer, folder=folder, checkpoint_every=4, callbacks=callbacks, progress=False
    )
    if resume:
        assert trainer.resume()
    batches = Recorded(augmented())
    with Prefetch(batches) as ahead:
        trainer.fit(ahead if prefetch else batches, steps)
    return batches.seen, [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("kill", [6, 9, 17])
def test_a_run_killed_and_resumed_sees_the_same_batches(tmp_path, kill, prefetch):
    seen, weights = train(tmp_path / "whole", 20)
    with pytest.raises(KilledError):
        train(tmp_path / "killed", 20, kill=kill, prefetch=prefetch)
    again, found = train(tmp_path / "killed", 20, resume=True, prefetch=prefetch)
    assert min(again) == kill // 4 * 4
    assert max(again) >= 19
    assert all(equal(again[index], seen[index]) for index in again if index < 20)
    assert equal(found, weights)
