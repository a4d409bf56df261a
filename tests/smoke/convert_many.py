"""Runs several programs in one child, to import their libraries once.

    convert_many.run([["pipeline.stages.fetching.outlining", folder, …], …])

A job is the words of a command line: a module or a path to a script, and its arguments.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys

from pipeline.tools import converter


def run(jobs: list[list[str]]) -> None:
    """All of them, one after the other; what the child says is shown where one fails."""
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(jobs),
        text=True,
        capture_output=True,
        env=converter._environment(),
    )
    assert done.returncode == 0, done.stderr[-3000:]


if __name__ == "__main__":
    for module, *words in json.load(sys.stdin):
        sys.argv = [module, *words]
        if module.endswith(".py"):
            runpy.run_path(module, run_name="__main__")
        else:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
