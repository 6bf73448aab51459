"""Puts this folder on the path, which pytest's importlib mode does not: some tests share cases."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
