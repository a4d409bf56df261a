"""PARAMETERs: Ollama's names and types, and the context length that a specialist is served with."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping

from pipeline.common.errors import BadInput
from pipeline.spec.modelfile_syntax import close, quoted

Value = str | int | float | bool | list[str]

# api.Options and api.Runner of Ollama 0.33 (api/types.go): names and types.
PARAMETERS: dict[str, type] = {
    **dict.fromkeys(("num_keep", "seed", "num_predict", "top_k", "repeat_last_n"), int),
    **dict.fromkeys(("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread"), int),
    **dict.fromkeys(("top_p", "min_p", "typical_p", "temperature"), float),
    **dict.fromkeys(("repeat_penalty", "presence_penalty", "frequency_penalty"), float),
    "draft_num_predict": int,
    "use_mmap": bool,
    "stop": list,
}
_MOST = 2**31 - 1
# Least and most where llama.cpp or Ollama breaks, or answers with nothing, beyond.
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("num_ctx", "num_batch"), (1, _MOST)),
    "temperature": (0, 100),
    "repeat_penalty": (0.01, 100),
    **dict.fromkeys(("top_p", "min_p", "typical_p"), (0, 1)),
    **dict.fromkeys(("presence_penalty", "frequency_penalty"), (-2, 2)),
    **dict.fromkeys(("num_keep", "repeat_last_n", "num_gpu"), (-1, 1 << 20)),
    **dict.fromkeys(("top_k", "main_gpu", "draft_num_predict"), (0, 1 << 20)),
    "num_thread": (0, 1024),
    "num_predict": (-2, _MOST),
}
_WORDS = {
    int: ("a whole number", "42"),
    float: ("a number", "0.5"),
    bool: ("true or false", "true"),
    list: ("a text", '"END"'),
}
_TRUE, _FALSE = {"1", "t", "T", "TRUE", "true", "True"}, {"0", "f", "F", "FALSE", "false", "False"}
LEAST_CONTEXT = 4096  # Ollama's own default without a GPU


def typed(name: str, text: str, where: str) -> Value:
    """The value of a parameter, in the type that Ollama wants; `where` is file:line.

    Raises:
        BadInput: no such parameter, or a value of another type.
    """
    if name not in PARAMETERS:
        raise BadInput(f"{where}: no such parameter: {name[:40]}", close(name, PARAMETERS))
    value = _typed(text, PARAMETERS[name]) if text else None
    if value is None:
        kind, example = _WORDS[PARAMETERS[name]]
        raise BadInput(
            f"{where}: {name} takes {kind}, not {text[:40]!r}",
            f"Write it as: PARAMETER {name} {'4096' if name == 'num_ctx' else example}",
        )
    least, most = _RANGES.get(name, (-math.inf, math.inf))
    if isinstance(value, (int, float)) and not least <= value <= most:
        raise BadInput(
            f"{where}: {name} takes {least:g} to {most:g}, not {value}", "Take a number in between."
        )
    return value


def _typed(text: str, kind: type) -> Value | None:
    """The value as FormatParams of api/types.go reads it, None if it is of another type."""
    if kind is list:
        return [text]
    if kind is bool:
        return True if text in _TRUE else False if text in _FALSE else None
    if kind is int:
        whole = int(text) if re.fullmatch(r"[+-]?[0-9]{1,19}", text) else 2**63
        return whole if -(2**63) <= whole < 2**63 else None
    number = re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text)
    return float(text) if number and abs(float(text)) < 3.4e38 else None  # float32 in Ollama


def check_answers(
    parameters: Mapping[str, Value], longest: int, answers: Callable[[], Iterable[str]]
) -> None:
    """Refuse what would cut trained answers off, before they are trained.

    Args:
        longest: tokens of the longest trained answer, its end-of-turn included.
        answers: their texts, read only if there is a `stop`.

    Raises:
        BadInput: num_predict is shorter than an answer, or an answer holds a `stop`.
    """
    limit = parameters.get("num_predict")
    if isinstance(limit, int) and 0 <= limit < longest:
        raise BadInput(
            f"PARAMETER num_predict {limit} would cut answers off: the longest in the data has"
            f" {longest} tokens",
            f"Write PARAMETER num_predict {longest} or more, or leave the line out.",
        )
    stops = parameters.get("stop")
    if not isinstance(stops, list) or not stops:
        return
    for answer in answers():
        for stop in stops:
            if stop in answer:
                raise BadInput(
                    f"PARAMETER stop {quoted(stop)} would cut answers off: the data has"
                    f" {answer[:60]!r}",
                    "Take another text to stop at, or leave the line out: answers end by"
                    " themselves.",
                )


def printed(value: Value) -> list[str]:
    """The value as it stands behind PARAMETER and its name; a list takes a line each."""
    if isinstance(value, list):
        return [quoted(each) for each in value]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [quoted(value) if isinstance(value, str) else str(value)]


SURE = {"repeat_penalty": (0.8, 1.24), "temperature": (0.0, 1.59), "frequency_penalty": (-1, 2)}
"""From and to: what the proof was seen to pass with trained answers (DECISIONS.md)."""


def doubtful(parameters: Mapping[str, Value]) -> list[str]:
    """PARAMETERs that the proof, which can judge them only after training, may refuse."""
    return [
        f"PARAMETER {name} {value} may garble what is trained; if it does, the proof refuses it"
        " after training (it does not train again)"
        for name, value in parameters.items()
        if name in SURE
        and isinstance(value, int | float)
        and not SURE[name][0] <= value <= SURE[name][1]
    ]


def context_length(longest: int, base_context: int, asked: int | None) -> int:
    """num_ctx in tokens: what the user asked for, else room for the longest row and an answer.

    Args:
        longest: tokens of the longest row.
        base_context: the longest context that the base was made for.
        asked: the user's own num_ctx.

    Raises:
        BadInput: the user's own is below the longest row.
    """
    room = 1 << longest.bit_length()  # the next power of two above it
    if asked is None:
        return min(max(LEAST_CONTEXT, room), base_context)
    if asked < longest:
        raise BadInput(
            f"num_ctx {asked} is shorter than the longest row ({longest} tokens)",
            f"Write PARAMETER num_ctx {min(room, base_context)} or more, or leave the line out.",
        )
    return asked
