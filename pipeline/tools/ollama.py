"""The door to Ollama: its HTTP interface, for what a release needs of it.

Not Ollama's Python client, which has no HEAD for blobs, cannot ask for the rendered prompt and
drops fields of the answers that the proof reads. Only a server on this machine is ever called, and
proxies of the environment are ignored. Foreign errors become ours in wire.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from pipeline.common.errors import PipelineError, ProofFailed, ToolFailed
from pipeline.common.names import same
from pipeline.common.progress import Progress
from pipeline.common.values import Conversation
from pipeline.tools.blob import readable
from pipeline.tools.host import Address
from pipeline.tools.wire import RESTART, WentAway, door, failure, mapping, needed, refused

Report = Callable[[Progress], None]
T = TypeVar("T")

# Every sampler option said: no default of the server's or the model's own takes part. One that a
# server refuses is left out there (typical_p since 0.34.1), the first two are what greedy means.
GREEDY: dict[str, float | int] = {
    "temperature": 0,
    "top_k": 1,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "seed": 0,
}
NEEDED = ("temperature", "top_k")
_CHUNK = 1 << 20  # bytes sent at once
_SOON = httpx.Timeout(30.0, connect=5.0)  # what it knows without touching a model
# Seconds without a byte: between two tokens, or until the first one, before which a slow CPU loads
# the model and reads a prompt of thousands of tokens.
_TIMEOUT = httpx.Timeout(1800.0, connect=5.0)


@dataclass(frozen=True)
class Reply:
    """An answer of a model."""

    text: str
    reason: str
    """`stop` where the model ended it, `length` where a limit did, `` where we hung up."""
    prompt_tokens: int | None
    """None where we hung up: it is told at the end."""
    answer_tokens: int
    thoughts: str = ""
    """What it thought before, where the server tells it apart."""


class Ollama:
    """An Ollama server on this machine. Use as a context manager, or `close` it."""

    def __init__(self, address: Address, timeout: httpx.Timeout = _TIMEOUT) -> None:
        self.address = address
        self.refused: set[str] = set()
        """Options of GREEDY that this server does not take."""
        self._http = httpx.Client(base_url=address.url, timeout=timeout, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def version(self) -> str:
        """The server's version: for records, never to decide by."""
        return needed(self._get("/api/version"), "version", str, "/api/version")

    def tags(self) -> dict[str, str]:
        """The models that it has: full name to digest of the manifest."""
        models = needed(self._get("/api/tags"), "models", list, "/api/tags")
        return {
            needed(m, "name", str, "/api/tags"): needed(m, "digest", str, "/api/tags")
            for m in models
        }

    def digest(self, name: str) -> str | None:
        """Digest of a model's manifest, None if there is no such model."""
        return next((found for known, found in self.tags().items() if same(known, name)), None)

    def exists(self, name: str) -> bool:
        """True if it has a model of this name, in any case of the letters."""
        return self.digest(name) is not None

    def show(self, name: str, *, verbose: bool = False) -> dict[str, Any]:
        """What it knows of a model: `template`, `modelfile`, `system`, `model_info` and more."""
        return self._post("/api/show", {"model": name, "verbose": verbose})

    def has_blob(self, digest: str) -> bool:
        """True if it holds the file with this sha256 (hex)."""
        with door("asking for a file"):
            answer = self._http.head(f"/api/blobs/sha256:{digest}")
            if answer.status_code != 404:
                refused(answer, "asking for a file")
            return answer.status_code == 200

    def upload(self, path: Path, digest: str, report: Report) -> None:
        """Give it a file, unless it has it.

        Args:
            digest: sha256 (hex) of the file.

        Raises:
            Missing, ToolFailed: it went away in the middle, or refused the file (disk full).
        """
        for last in (False, True):
            if self.has_blob(digest):
                return
            try:
                return self._send(path, digest, report)
            except WentAway:  # also where someone else was faster: it hangs up without reading
                if last or not self._answers():
                    raise

    def _answers(self) -> bool:
        try:
            return bool(self.version())
        except PipelineError:
            return False

    def _send(self, path: Path, digest: str, report: Report) -> None:
        size, doing = path.stat().st_size, "uploading the model"

        def chunks() -> Iterator[bytes]:
            done = 0
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
                    done += len(chunk)
                    report(Progress(done, size, doing))

        with door(doing):
            answer = self._http.post(
                f"/api/blobs/sha256:{digest}",
                content=chunks(),
                headers={"Content-Length": str(size)},
            )
            refused(answer, doing)

    def create(
        self,
        name: str,
        digest: str,
        *,
        system: str = "",
        parameters: Mapping[str, Any] | None = None,
        license: str = "",
        projectors: Sequence[str] = (),
        guess: bool = False,
        renders: Mapping[str, str] | None = None,
        report: Report = lambda progress: None,
    ) -> None:
        """Make a model of an uploaded GGUF.

        Args:
            digest: sha256 (hex) of the GGUF.
            projectors: digests (sha256:…) of layers that Ollama has, which see or hear.
            guess: Ollama may put a template of its own in place of the file's, as for users.
            renders: `template` (in Go's language), `renderer`, `parser`, where it is not the GGUF's
                own template that is to be served.

        Raises:
            ToolFailed: it refused or broke off.
            ProofFailed: it put a template of its own in place of the model's.
        """
        files = {"model.gguf": f"sha256:{digest}"}
        files |= {f"projector-{i}.gguf": layer for i, layer in enumerate(projectors)}
        body: dict[str, Any] = {"model": name, "files": files}
        body |= {"system": system} if system else {}
        body |= {"parameters": dict(parameters)} if parameters else {}
        body |= {"license": license} if license else {}
        body |= renders or {}
        statuses = list(self._statuses(f"registering {name}", body, report))
        if "success" not in statuses:
            raise ToolFailed(f"Ollama broke off while registering {name}", RESTART)
        guessed = [status for status in statuses if "autodetected template" in status]
        if guessed and not renders and not guess:
            self.delete(name)
            raise ProofFailed(
                f"Ollama would serve {name} with a template of its own: {guessed[0]}",
                "The base's template lacks the comment that tells it apart: run with a new store.",
            )

    def _statuses(self, doing: str, body: Mapping[str, Any], report: Report) -> Iterator[str]:
        with door(doing), self._http.stream("POST", "/api/create", json=body) as answer:
            if answer.is_error:
                answer.read()
                refused(answer, doing)
            for line in answer.iter_lines():
                row = mapping(json.loads(line), "/api/create")
                if "error" in row:
                    raise failure(doing, str(row["error"]))
                if row.get("total"):
                    report(Progress(row.get("completed", 0), row["total"], doing))
                yield str(row.get("status", ""))

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name."""
        self._post("/api/copy", {"source": source, "destination": destination}, empty=True)

    def delete(self, name: str) -> None:
        """Remove a name, and the files that no other name uses."""
        with door(f"removing {name}"):
            answer = self._http.request("DELETE", "/api/delete", json={"model": name})
            refused(answer, f"removing {name}")

    def chat(
        self,
        name: str,
        messages: Conversation,
        *,
        limit: int,
        options: Mapping[str, Any] | None = None,
        think: bool | None = None,
    ) -> Reply:
        """The greedy answer to a conversation.

        Args:
            limit: most tokens of the answer.
            think: what is said of thinking; None for nothing, as `ollama run` asks.

        Raises:
            ProofFailed: the reply lacks what the proof reads.
        """
        wanted = {**(options or {}), "num_predict": limit}
        return self._greedy(
            lambda known: self._listen(name, _question(name, messages, {**known, **wanted}, think))
        )

    def run(self, name: str, messages: Conversation, *, patience: int) -> Reply:
        """The answer as `ollama run NAME` gets it: no option said, the model's PARAMETERs apply.

        Args:
            patience: tokens after which we hang up (cmd/cmd.go of Ollama sends no limit).
        """
        return self._listen(name, {"model": name, "messages": messages}, patience)

    def answer(self, name: str, messages: Conversation, options: Mapping[str, Any]) -> Reply:
        """The answer that a user's program gets that says these options; the rest is the model's.

        Args:
            options: as PARAMETERs; `seed` and `num_predict` make it the same each time, and end it.
        """
        return self._listen(name, {"model": name, "messages": messages, "options": dict(options)})

    def run_once(
        self,
        name: str,
        prompt: str,
        *,
        patience: int,
        told: Callable[[str], object] = lambda piece: None,
    ) -> Reply:
        """The answer as `ollama run NAME "PROMPT"` gets it: another way through the server.

        Args:
            told: called with each piece as it comes.
        """
        return self._listen(name, {"model": name, "prompt": prompt}, patience, told)

    def _listen(
        self,
        name: str,
        body: Mapping[str, Any],
        patience: int | None = None,
        told: Callable[[str], object] = lambda piece: None,
    ) -> Reply:
        """One streamed answer, so that a slow one is told from one that hangs."""
        path, pieces = "/api/chat" if "messages" in body else "/api/generate", list[str]()
        thoughts = ""
        with door(path), self._http.stream("POST", path, json=body) as answer:
            if answer.is_error:
                answer.read()
                refused(answer, path)
            for line in answer.iter_lines():
                row = mapping(json.loads(line), path)
                if "error" in row:
                    raise failure(path, str(row["error"]))
                if "messages" in body:
                    turn = needed(row, "message", dict, path)
                    row = {**row, **turn, "response": turn.get("content")}
                thoughts += str(row.get("thinking") or "")
                pieces.append(needed(row, "response", str, path))
                told(pieces[-1])
                if row.get("done") is True:
                    return Reply(
                        text="".join(pieces),
                        reason=needed(row, "done_reason", str, path),
                        prompt_tokens=needed(row, "prompt_eval_count", int, path),
                        answer_tokens=needed(row, "eval_count", int, path),
                        thoughts=thoughts,
                    )
                if patience is not None and len(pieces) > patience:
                    return Reply("".join(pieces), "", None, len(pieces), thoughts)
        raise ProofFailed(f"{name} did not finish its answer", RESTART)

    def render(
        self,
        name: str,
        messages: Conversation,
        options: Mapping[str, Any] | None = None,
        think: bool | None = None,
    ) -> str:
        """The prompt that it makes of a conversation (without the BOS that it adds as an id).

        Args:
            think: as for `chat`.

        Raises:
            ProofFailed: it does not say.
        """

        def ask(known: Mapping[str, Any]) -> dict[str, Any]:
            body = _question(name, messages, {**known, **(options or {})}, think)
            more = {"stream": False, "_debug_render_only": True}
            return self._post("/api/chat", {**body, **more})

        info = needed(self._greedy(ask), "_debug_info", dict, "/api/chat")
        return needed(info, "rendered_template", str, "/api/chat")

    def _greedy(self, ask: Callable[[Mapping[str, Any]], T]) -> T:
        """Ask with GREEDY; an option that the server refuses by name is not sent to it again."""
        while True:
            known = {key: value for key, value in GREEDY.items() if key not in self.refused}
            try:
                return ask(known)
            except ToolFailed as error:
                named = [k for k in known if k not in NEEDED and re.search(rf"\b{k}\b", error.what)]
                if not named:
                    raise
                self.refused.update(named)

    def unload(self, name: str) -> None:
        """Take a model out of memory."""
        self._post("/api/generate", {"model": name, "keep_alive": 0, "stream": False})

    def stored_blob(self, name: str) -> Path:
        """The GGUF that it serves for a name, as it lies on this machine.

        Raises:
            Missing: it lies where we cannot read it, so that nothing could be proven.
        """
        text = needed(self.show(name), "modelfile", str, "/api/show")
        found = re.search(r"^FROM (.*sha256[-:][0-9a-f]{64})\s*$", text, flags=re.MULTILINE)
        if not found:
            raise ProofFailed(f"Ollama does not say which file it serves for {name}", RESTART)
        return readable(found[1].strip().strip('"'))

    def _get(self, path: str) -> dict[str, Any]:
        with door(path):
            answer = self._http.get(path, timeout=_SOON)
            refused(answer, path)
            return mapping(answer.json(), path)

    def _post(self, path: str, body: Mapping[str, Any], *, empty: bool = False) -> dict[str, Any]:
        with door(path):
            answer = self._http.post(path, json=body)
            refused(answer, path)
            return {} if empty else mapping(answer.json(), path)


def _question(
    name: str, messages: Conversation, options: Mapping[str, Any], think: bool | None
) -> dict[str, Any]:
    # `truncate` would drop turns without a word.
    body = {"model": name, "messages": messages, "options": dict(options), "truncate": False}
    return body if think is None else {**body, "think": think}
