import pytest
from ds_zoo.miniclip.scene_captions import MixedScenes, caption_of, digit_sizes, longest_caption
from ds_zoo.scenes import Scenes, describe


@pytest.fixture(scope="module")
def scenes():
    return [Scenes(32, 1, sizes=digit_sizes(32)).scene(index) for index in range(200)]


def test_a_share_of_the_captions_is_short(scenes):
    assert all(caption_of(scene, 0.0) == describe(scene) for scene in scenes)
    half = [caption_of(scene, 0.5) for scene in scenes]
    assert sum(len(caption.split()) < 4 for caption in half) == pytest.approx(100, abs=25)
    assert half == [caption_of(scene, 0.5) for scene in scenes]
    every = [len(caption_of(scene, 1.0).split()) for scene in scenes]
    assert set(every) == {2, 3}  # nobody names both
    assert every.count(2) == pytest.approx(140, abs=25)


def test_short_captions_still_say_what_is_there(scenes):
    for scene in scenes[:50]:
        words = caption_of(scene, 1.0).split()
        assert words[-1] == describe(scene).split()[-1]
        assert set(words[1:]) <= set(describe(scene).split())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_single_digits_are_spread_evenly(share):
    mixed = MixedScenes(Scenes(32, 1, sizes=digit_sizes(32)), Scenes(32, 2, sizes=digit_sizes(32)), share)
    single = [len(mixed.scene(index)) == 1 for index in range(40)]
    for first in (0, 10, 20, 30):
        assert sum(single[first : first + 10]) == pytest.approx(10 * share, abs=1)


def test_sizes_leave_a_gap():
    for size in (24, 32, 64):
        small, large = digit_sizes(size)
        assert small.most < large.least
        assert Scenes(size, (1, 4), sizes=(small, large)).scene(0).image.shape == (3, size, size)


def test_no_caption_is_longer_than_the_longest():
    for length in (len, lambda text: len(text.split())):
        for digits in (1, 2, 3):
            most = length(longest_caption(digits, length))
            scenes = Scenes(64, (1, digits))
            assert most >= max(length(describe(scenes.scene(index))) for index in range(300))
    assert longest_caption(2, lambda text: len(text.split())).count("left of") == 1
