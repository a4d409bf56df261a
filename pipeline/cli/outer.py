"""The outer wall: our errors become two lines and an exit code, a bug of ours keeps its trace.

Exit codes: 0 done; 1 an error (what happened, what to do next); 2 wrong usage; 3 a specialist that
is proven and not good enough to be served; 130 Ctrl-C.
"""

from __future__ import annotations

import errno
import signal
from typing import Any

import click

from pipeline.common import private
from pipeline.common.errors import PipelineError

PLACE = {  # what is wrong with the user's disk or folders is no bug of ours
    errno.ENOSPC: "Free some space (`specialist gc` removes what no release uses) and run again.",
    errno.EDQUOT: "Free some space (`specialist gc` removes what no release uses) and run again.",
    errno.EACCES: "Give yourself the right to it, or set SPECIALIST_HOME to another folder.",
    errno.EPERM: "Give yourself the right to it, or set SPECIALIST_HOME to another folder.",
    errno.EROFS: "Set SPECIALIST_HOME to a folder that can be written.",
    errno.ENOTDIR: "Where a folder is wanted stands a file: name a folder.",
    errno.EEXIST: "Where a folder is wanted stands a file: name a folder.",
    errno.EISDIR: "Where a file is wanted stands a folder: name a file.",
}


def ours(error: PipelineError | OSError) -> PipelineError | None:
    """The error for people; None for a bug of ours."""
    if isinstance(error, PipelineError):
        return error
    if error.errno not in PLACE:
        return None
    return PipelineError(f"{error.filename or 'a file'}: {error.strerror}", PLACE[error.errno])


class Door(click.Group):
    """Turns our errors into two lines and exit code 1. A bug of ours keeps its trace."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        private.shield()
        # what is half done is undone as after Ctrl-C: the candidate leaves Ollama
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup has it ignored
            signal.signal(signal.SIGHUP, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except (PipelineError, OSError) as error:
            if (told := ours(error)) is None:
                raise
            click.echo(told.told(), err=True)
            ctx.exit(told.exit_code)
        except KeyboardInterrupt:
            click.echo("\nStopped.", err=True)
            click.echo("  Run the same command again: it goes on where it was.", err=True)
            ctx.exit(130)
