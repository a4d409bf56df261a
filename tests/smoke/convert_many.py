"""Runs several programs in one process, to import their libraries once: JSON jobs on stdin.

A job is the words of a command line: a module or a path to a script, and its arguments.
"""

import json
import runpy
import sys

for module, *words in json.load(sys.stdin):
    sys.argv = [module, *words]
    if module.endswith(".py"):
        runpy.run_path(module, run_name="__main__")
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
