"""The same command with one flag more, or another base, as a line to paste."""

from __future__ import annotations

import functools
import os
import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

OF_MAKE = {"base": "BASE", "device": "DEVICE"}  # what the Makefile has a variable for


def offered(command: Any) -> Any:
    """A base that could be downloaded is an error with the line that does it."""

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        from pipeline.common.errors import NotDownloaded, Unpinned

        context = click.get_current_context()
        try:
            return command(**given)
        except NotDownloaded as error:
            line = again(context, allow_download=True)
            raise NotDownloaded(error.what, f"{error.next_step}  {line}") from error
        except Unpinned as error:
            if given["base"] is None:  # the Modelfile has it: its line is told already
                raise
            line = again(context, base=error.pinned)
            raise Unpinned(error.what, f"Run this:  {line}", error.pinned) from error

    return run


def again(context: click.Context, **other: Any) -> str:
    """The command that runs now, with other values; as `make specialist` where make runs it."""
    values = context.params | other
    said = [p for p in context.command.params if p.name not in other and _said(context, p)]
    changed = [p for p in context.command.params if p.name in other]
    given = {p.name or "": p for p in [*said, *changed]}
    if "MAKELEVEL" not in os.environ or context.info_name != "make":
        words = [w for name, p in given.items() for w in _words(p, values[name])]
        return shlex.join(["specialist", str(context.info_name), *words])
    named = {"DATA": str(values["data"])}
    if values["name"] != Path(values["data"]).stem:
        named["NAME"] = values["name"]
    named |= {OF_MAKE[name]: values[name] for name in OF_MAKE if name in given}
    rest = [n for n in given if n not in ("name", "data", *OF_MAKE)]
    more = [w for n in rest for w in _words(given[n], values[n])]
    if more:
        named["ARGS"] = shlex.join(more)
    return shlex.join(["make", "specialist", *(f"{n}={value}" for n, value in named.items())])


def _said(context: click.Context, parameter: click.Parameter) -> bool:
    return context.get_parameter_source(parameter.name or "") == ParameterSource.COMMANDLINE


def _words(parameter: click.Parameter, value: Any) -> list[str]:
    """A parameter as it is typed."""
    if isinstance(parameter, click.Argument):
        return [str(value)]
    flag = parameter.opts[-1]
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return [flag]
    each = value if isinstance(value, tuple) else (value,)
    return [word for one in each for word in (flag, str(one))]
