"""`python3 -m pipeline.setup`: makes what is missing; under a second where nothing is."""

import os
import shutil
import sys

# Asked first and in words that any Python 3 reads: the rest needs 3.11.
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    for name in ("python3.13", "python3.12", "python3.11"):
        if shutil.which(name):
            os.execvp(name, [name, "-m", "pipeline.setup", *sys.argv[1:]])
    sys.exit(
        "Error: this is Python %d.%d; Python 3.11, 3.12 or 3.13 is needed\n"  # noqa: UP031
        "sudo apt install python3.11 python3.11-venv" % sys.version_info[:2]
    )

from pipeline.setup.run import main

main()
