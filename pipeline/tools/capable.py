"""Whether an Ollama can do what a release needs: tried out, not read from its version.

A model of a quarter of a megabyte is registered, shown, rendered, asked and removed again (one to
two seconds), with the very options that the proof will use and with the user's own PARAMETERs. This
fails where Ollama is older than 0.30 (it would not run the model's own template), lacks its helpers
(llama-server, before 0.34.1 llama-quantize too), does not say which prompt it makes, does not take
a PARAMETER, or keeps its files where the proof could not read them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.common import places, private
from pipeline.common.errors import BadInput, Missing, PipelineError, ToolFailed
from pipeline.common.values import Conversation, digest_of_file
from pipeline.tools import smallest
from pipeline.tools.ollama import Ollama

NAME = "specialist-trial:candidate"
PATIENCE = 16  # tokens of an answer under the user's PARAMETERs, which need not end
_ASKED: Conversation = [{"role": "user", "content": "Hello"}]
_SYSTEM = "A trial."
_PROMPT = "<|turn|>system\nA trial.<|end|>\n<|turn|>user\nHello<|end|>\n<|turn|>assistant\n"


def capable(ollama: Ollama, parameters: Mapping[str, Any] | None = None) -> None:
    """Return if this Ollama can register, serve and show a specialist.

    Args:
        parameters: the PARAMETERs that it will be served with.

    Raises:
        BadInput: a PARAMETER that this Ollama does not take.
        Missing: what it cannot do, and what to do about it.
    """
    private.folder(places.home())
    lock = FileLock(places.home() / "trial.lock", mode=0o600)  # two trials would share the name
    with lock, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "smallest.gguf"
        smallest.write(file)
        try:
            _try(ollama, file)
            _try_parameters(ollama, file, parameters or {})
        except (Missing, BadInput):
            raise
        except PipelineError as error:
            raise Missing(
                f"this Ollama ({ollama.address.url}) cannot serve a specialist: {error}",
                error.next_step or "Update Ollama: version 0.30 or newer.",
            ) from error
        finally:
            with suppress(PipelineError):
                ollama.delete(NAME)


def _try(ollama: Ollama, file: Path) -> None:
    digest = digest_of_file(file)
    ollama.upload(file, digest, lambda progress: None)
    ollama.create(NAME, digest, system=_SYSTEM, parameters={"num_ctx": 256})
    if ollama.show(NAME).get("template") != smallest.TEMPLATE:
        raise _unfit(ollama, "it does not run a model's own template")
    ollama.stored_blob(NAME)
    if ollama.render(NAME, _ASKED) != _PROMPT:
        raise _unfit(ollama, "it renders a model's own template in another way")
    reply = ollama.chat(NAME, _ASKED, limit=8)
    if (reply.text, reply.reason) != (smallest.SAYS, "stop"):
        raise _unfit(ollama, f"a model that says {smallest.SAYS!r} says {reply.text[:40]!r} in it")
    ollama.unload(NAME)


def _try_parameters(ollama: Ollama, file: Path, parameters: Mapping[str, Any]) -> None:
    """Some are refused when a model is registered, some when it is loaded or asked."""
    small = {**parameters, "num_ctx": 256}  # the trial's context, whatever the specialist's is
    try:
        ollama.create(NAME, digest_of_file(file), parameters=small)
        ollama.run(NAME, _ASKED, patience=PATIENCE)
        ollama.unload(NAME)
    except ToolFailed as error:
        if not parameters:
            raise
        named = [f"PARAMETER {name}" for name in parameters if name in error.what]
        all_of_them = ", ".join(f"PARAMETER {name} {value}" for name, value in parameters.items())
        raise BadInput(
            f"this Ollama ({ollama.address.url}) does not take the PARAMETERs of the Modelfile:"
            f" {error}",
            f"Remove {' and '.join(named) or f'one of {all_of_them}'}, or use another Ollama.",
        ) from error


def _unfit(ollama: Ollama, why: str) -> Missing:
    return Missing(
        f"this Ollama ({ollama.address.url}) cannot serve a specialist: {why}",
        "Update Ollama: version 0.30 or newer, and leave OLLAMA_GO_TEMPLATE unset.",
    )
