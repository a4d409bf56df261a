"""`python -m pipeline.cli`: the same as `specialist`."""

import sys
from contextlib import suppress

from pipeline.cli import main

if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
