"""`python -m ds_core.cli` is the command `ds`."""

import sys

from ds_core.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
