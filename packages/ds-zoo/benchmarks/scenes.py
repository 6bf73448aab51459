"""How many scenes of digits are drawn in a second of processor time, by the size of the image.

python benchmarks/scenes.py [--scenes 1000 --rounds 5]
"""

import argparse
import time

from ds_core.recipes.results import table
from ds_zoo.scenes import DigitSize, Scenes

# image, digits, sizes: those of detection, and those that a CLIP is trained on
CASES = (
    (64, (1, 4), (DigitSize("small", 10, 14), DigitSize("large", 18, 24))),
    (32, (1, 2), (DigitSize("small", 10, 12), DigitSize("large", 15, 16))),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    o = parser.parse_args()
    rows = []
    for size, count, sizes in CASES:
        scenes = Scenes(size, count, sizes=sizes)
        fastest = min(seconds(scenes, o.scenes) for _ in range(o.rounds))
        rows.append([f"{size} x {size}, {count[0]} to {count[1]} digits", round(o.scenes / fastest)])
    print(table(["scenes", "a second"], rows))


def seconds(scenes: Scenes, count: int) -> float:
    """Of the processor, for the first `count` scenes; what is drawn once is drawn before."""
    scenes.scene(0)
    start = time.process_time()
    for index in range(count):
        scenes.scene(index)
    return time.process_time() - start


if __name__ == "__main__":
    main()
