"""pytest's importlib mode puts no folder on the path, and tests share tiny_model.py."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
