"""Backgrounds of coarse and fine noise, read at random places of a pool. Theory: docs/scenes/scenes.md."""

import numpy as np
import numpy.typing as npt

# H, W = size of a scene, P = of the pool

Array = npt.NDArray[np.float32]

_SEED = 0  # the pools are the same for everybody; what a scene takes of them depends on its own generator
_ROOM = 192  # rows and columns by which a pool is larger than a scene
_CELL = 9  # pixels between two random values of the coarse noise
_COARSE, _FINE = 22.0, 7.0  # standard deviations, on the scale of 0 to 255
_DARKEST, _BRIGHTEST, _TINT = 28.0, 88.0, 16.0  # of a background's mean, and how far a channel may be from it


class Textures:
    """Draws backgrounds of one size.

    To draw new noise for each pixel would take longer than all the rest of a scene: a part of a pool, cut out at
    random, is as good, as hardly any two are alike.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        generator = np.random.default_rng(_SEED)
        rows, columns = height + _ROOM, width + _ROOM
        grid = generator.standard_normal((3, rows // _CELL + 2, columns // _CELL + 2)).astype(np.float32)
        grey = generator.standard_normal((1, *grid.shape[1:])).astype(np.float32)
        smooth = _between(rows) @ (0.8 * grey + 0.6 * grid) @ _between(columns).T  # 0.8^2 + 0.6^2 = 1
        self._coarse = smooth * np.float32(_COARSE)  # (3, P, P)
        self._fine = generator.standard_normal((3, rows, columns)).astype(np.float32) * np.float32(_FINE)

    def background(self, generator: np.random.Generator) -> Array:
        """(3, H, W) on the scale of 0 to 255: a dark, dull colour with coarse noise."""
        mean, *tint = generator.random(4).tolist()
        base = np.array(tint, np.float32) * (2 * _TINT) + (_DARKEST - _TINT + mean * (_BRIGHTEST - _DARKEST))
        background: Array = self._part(self._coarse, generator) + base[:, None, None].astype(np.float32)
        return background

    def grain(self, generator: np.random.Generator) -> Array:
        """(3, H, W): fine noise around 0, to be added to the whole image. A view of the pool."""
        return self._part(self._fine, generator)

    def _part(self, pool: Array, generator: np.random.Generator) -> Array:
        top, left = (int(number * _ROOM) for number in generator.random(2).tolist())
        return pool[:, top : top + self.height, left : left + self.width]


def _between(count: int) -> Array:
    """(count, cells): the weights of linear interpolation between values that stand _CELL pixels apart."""
    position = np.arange(count) / _CELL
    distance = np.abs(position[:, None] - np.arange(count // _CELL + 2))
    weights: Array = np.clip(1 - distance, 0, 1).astype(np.float32)
    return weights
