"""A process that dies at one of the steps by which a release changes anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline.release import history, older_promotion, promotion
from pipeline.tools.ollama import Ollama


class Killed(BaseException):
    """Where a SIGKILL would have struck: nothing is tidied up after it."""


@dataclass
class Death:
    """How it went."""

    steps: int = 0
    """Taken, the deadly one included."""
    came: bool = False


@contextmanager
def killed_at(step: int) -> Iterator[Death]:
    """The process dies before this step (from 0), if there are as many; a dead one takes none."""
    death = Death()

    def deadly(do: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            if death.came or death.steps == step:
                death.came = True
                raise Killed
            death.steps += 1
            return do(*given, **named)

        return run

    with pytest.MonkeyPatch.context() as patch:
        for name in ("copy", "delete", "create"):
            patch.setattr(Ollama, name, deadly(getattr(Ollama, name)))
        for module in (history, promotion, older_promotion):
            patch.setattr(module, "write_json", deadly(module.write_json))
        patch.setattr(promotion, "_forget", deadly(promotion._forget))
        try:
            yield death
        except Killed:
            assert death.came
