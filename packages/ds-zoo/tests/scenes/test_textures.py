"""Backgrounds."""

import numpy as np
from ds_zoo.scenes.textures import Textures


def test_backgrounds_are_dark_and_differ():
    textures = Textures(40, 56)
    generator = np.random.default_rng(0)
    backgrounds = np.stack([textures.background(generator) for _ in range(200)])
    assert backgrounds.shape == (200, 3, 40, 56)
    means = backgrounds.mean((1, 2, 3))
    assert 10 < means.min() < 45
    assert 75 < means.max() < 110
    assert len({background.tobytes() for background in backgrounds}) == 200


def test_coarse_noise_is_smooth_and_fine_noise_is_not():
    textures = Textures(64, 64)
    generator = np.random.default_rng(1)
    coarse, fine = textures.background(generator)[0], textures.grain(generator)[0]

    def likeness(image):
        return np.corrcoef(image[:, :-1].ravel(), image[:, 1:].ravel())[0, 1]

    assert likeness(coarse) > 0.9
    assert abs(likeness(fine)) < 0.1
    assert 6 < fine.std() < 8


def test_drawing_leaves_the_pool_as_it_is():
    textures = Textures(16, 16)
    first = textures.background(np.random.default_rng(3))
    kept = first.copy()
    first += 100
    np.testing.assert_array_equal(textures.background(np.random.default_rng(3)), kept)
