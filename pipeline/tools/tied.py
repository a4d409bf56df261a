"""Start a program that dies with the process that asked: `python -I -S tied.py PARENT PROGRAM …`.

The kernel keeps the tie through exec (man 2 PR_SET_PDEATHSIG). Standard library only, and a file
that can be run by itself: the program's environment stays as it is.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tie(parent: int) -> None:
    """Let the kernel kill this process when the thread of `parent` that started it ends.

    For the child to call: no code of ours runs between fork and exec, in a copy of a process that
    has threads.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before the call above
        os._exit(1)


def main() -> None:
    """Become the program."""
    tie(int(sys.argv[1]))
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(f"{sys.argv[2]}: {error.strerror}")


if __name__ == "__main__":
    main()
