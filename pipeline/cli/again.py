"""The same command with one flag more, as a line to paste."""

from __future__ import annotations

import functools
import os
import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

FLAG = "--allow-download"
OF_MAKE = {"base": "BASE", "device": "DEVICE"}  # what the Makefile has a variable for


def offered(command: Any) -> Any:
    """A base that could be downloaded is an error with the line that allows it."""

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        from pipeline.common.errors import NotDownloaded

        try:
            return command(**given)
        except NotDownloaded as error:
            line = again(click.get_current_context(), FLAG)
            raise NotDownloaded(error.what, f"{error.next_step}  {line}") from error

    return run


def again(context: click.Context, flag: str) -> str:
    """The command that runs now, with a flag more; as `make specialist` where make runs it."""
    given = {p.name or "": p for p in context.command.params if _said(context, p)}
    values = context.params
    if "MAKELEVEL" not in os.environ or context.info_name != "make":
        words = [w for name, p in given.items() for w in _words(p, values[name])]
        return shlex.join(["specialist", str(context.info_name), *words, flag])
    named = {"DATA": str(values["data"])}
    if values["name"] != Path(values["data"]).stem:
        named["NAME"] = values["name"]
    named |= {OF_MAKE[name]: values[name] for name in OF_MAKE if name in given}
    rest = [n for n in given if n not in ("name", "data", *OF_MAKE)]
    more = [w for n in rest for w in _words(given[n], values[n])]
    named["ARGS"] = shlex.join([*more, flag])
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
