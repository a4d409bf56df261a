"""Whether an Ollama can do what a release needs: tried out, not read from its version.

A model of a quarter of a megabyte is registered, shown, rendered, asked and removed again (one to
two seconds). This fails where Ollama is older than 0.30 (it would not run the model's own
template), lacks its helpers (llama-quantize to take a GGUF, llama-server to serve it), does not say
which prompt it makes, or keeps its files where the proof could not read them.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from pipeline import places
from pipeline.errors import Missing, PipelineError
from pipeline.tools import smallest
from pipeline.tools.ollama import Ollama
from pipeline.values import Conversation, digest_of_file

NAME = "specialist-trial:candidate"
_ASKED: Conversation = [{"role": "user", "content": "Hello"}]
_SYSTEM = "A trial."
_PROMPT = "<|turn|>system\nA trial.<|end|>\n<|turn|>user\nHello<|end|>\n<|turn|>assistant\n"


def capable(ollama: Ollama) -> None:
    """Return if this Ollama can register, serve and show a specialist.

    Raises:
        Missing: what it cannot do, and what to do about it.
    """
    places.home().mkdir(parents=True, exist_ok=True)
    lock = FileLock(places.home() / "trial.lock")  # two trials at once would share the name
    with lock, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "smallest.gguf"
        smallest.write(file)
        try:
            _try(ollama, file)
        except Missing:
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


def _unfit(ollama: Ollama, why: str) -> Missing:
    return Missing(
        f"this Ollama ({ollama.address.url}) cannot serve a specialist: {why}",
        "Update Ollama: version 0.30 or newer, and leave OLLAMA_GO_TEMPLATE unset.",
    )
