"""Child processes that never outlive the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

_LIBC = ctypes.CDLL(None, use_errno=True)  # opened before the fork: nothing is loaded in the child
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tied() -> Callable[[], None]:
    """For `preexec_fn`: the kernel kills the child when the thread that starts it ends."""
    parent = os.getpid()

    def tie() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent went before the call above
            os._exit(1)

    return tie
