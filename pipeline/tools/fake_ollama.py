"""An Ollama for tests: an HTTP server in a thread that speaks what we use of Ollama's interface.

    with FakeOllama(folder) as fake:
        Ollama(fake.address).version()

It renders with the template inside the GGUF, counts tokens with llama.cpp, and answers with a fixed
text. It behaves as one of two versions: 0.33 stores a GGUF anew, 0.34 as it was uploaded, and
refuses `typical_p`. It can be told to misbehave (`faults`), once for each thing that a release must
notice. A contract test runs the same checks against it and against the real ones.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from pipeline.common.values import digest_of
from pipeline.tools import llamacpp
from pipeline.tools.host import Address
from pipeline.tools.jinja import render_text

FAULTS = {
    "dies in upload": "goes away after the first bytes of an upload, for good",
    "hangs up once": "hangs up in the first upload, then has the file",
    "disk full": "refuses every upload",
    "guesses the template": "puts a stock template in place of the model's",
    "breaks off": "ends a registration without `success`",
    "refuses to register": "ends a registration with an error line",
    "old": "runs no Jinja: shows and renders its own template",
    "other render": "renders a trailing blank more",
    "forgets system": "does not serve SYSTEM",
    "says no render": "leaves the rendered prompt out",
    "doubles bos": "counts a second BOS",
    "counts nothing": "leaves prompt_eval_count out",
    "says no reason": "leaves done_reason out",
    "never done": "ends an answer without `done`",
    "endless": "answers up to the limit",
    "slow": "takes a twentieth of a second for each character",
    "hangs": "sends the first character of an answer, and then nothing",
    "garbles": "answers with other letters where the options are not said",
    "shows markers": "answers with a control token's text",
    "other tensors": "stores a file with one byte changed at its end",
    "hides its files": "names a file that is not there",
    "loses copies": "says yes to a copy and makes none",
}


class FakeOllama:
    """A server on a free loopback port; its models lie in `folder`. Use as a context manager."""

    def __init__(
        self, folder: Path, *faults: str, answer: str = "ok", version: str = "0.33.0"
    ) -> None:
        unknown = set(faults) - set(FAULTS)
        if unknown:
            raise ValueError(f"no such fault: {unknown}")
        self.folder, self.faults, self.answer = folder, set(faults), answer
        self.version = version
        self.stores_anew = tuple(map(int, version.split("."))) < (0, 34, 1)
        self.models: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        """Method and path of every request."""
        self.hung = threading.Event()
        self.uploaded = 0
        """Bytes of uploads that were read."""
        self._damaged: set[Path] = set()
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.address = Address("127.0.0.1", self._server.server_port)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop answering and free the port."""
        self.hung.set()
        self._server.shutdown()
        self._server.server_close()

    def blob(self, digest: str) -> Path:
        """Where it keeps a file."""
        return self.folder / f"sha256-{digest}"

    def store(self, digest: str) -> Path:
        """The file that it serves for an uploaded one: before 0.34.1 another one."""
        served = self.folder / f"sha256-{digest_of(digest)}" if self.stores_anew else None
        if served and not served.exists():
            shutil.copyfile(self.blob(digest), served)
        path = served or self.blob(digest)
        if "other tensors" in self.faults and path not in self._damaged:
            data = path.read_bytes()
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
            self._damaged.add(path)
        return path

    def template(self, model: dict[str, Any]) -> str:
        """The template that it runs for a model."""
        return "{{ .Prompt }}" if "old" in self.faults else _template(self.store(model["gguf"]))

    def thinks(self, model: dict[str, Any]) -> bool:
        """True for a model that it takes for one that can think."""
        return all(tag in self.template(model) for tag in ("<think>", "</think>"))

    def prompt(
        self, model: dict[str, Any], messages: list[dict[str, str]], think: bool | None = None
    ) -> str:
        """The prompt that it makes of a conversation; who can think is told to, unless asked."""
        if "old" in self.faults:
            return messages[-1]["content"]
        system = "" if "forgets system" in self.faults else model["system"]
        if system and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": system}, *messages]
        if think is None and self.thinks(model):
            think = True
        names = {} if think is None else {"enable_thinking": think}
        template = self.template(model)
        text = render_text(template, messages, generate=True, **names)  # type: ignore[arg-type]
        return text + (" " if "other render" in self.faults else "")

    def count(self, model: dict[str, Any], prompt: str) -> int:
        """Tokens of a prompt, BOS included."""
        with llamacpp.Model(self.store(model["gguf"])) as opened:
            tokens = len(opened.tokenize(prompt, special=True, bos=True))
        return tokens + ("doubles bos" in self.faults)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in an answer is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@lru_cache(maxsize=8)
def _template(path: Path) -> str:
    from gguf import GGUFReader

    return str(GGUFReader(path).fields["tokenizer.chat_template"].contents())


def _turn(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}}


class _Handler(BaseHTTPRequestHandler):
    fake: FakeOllama
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # of an answer's tokens, each in a packet of its own
    wbufsize = 1 << 16  # head and body in one packet: else each answer waits for an acknowledgement

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve({"/api/version": self._version, "/api/tags": self._tags})

    def do_HEAD(self) -> None:
        self.fake.asked.append(("HEAD", self.path))
        found = self.fake.blob(self._digest()).exists()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_DELETE(self) -> None:
        self._serve({"/api/delete": self._delete})

    def do_POST(self) -> None:
        if self.path.startswith("/api/blobs/"):
            self.fake.asked.append(("POST", self.path))
            return self._upload()
        names = ("show", "create", "copy", "chat", "generate")
        self._serve({f"/api/{name}": getattr(self, f"_{name}") for name in names})

    def _serve(self, answers: dict[str, Any]) -> None:
        self.fake.asked.append((self.command, self.path))
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path not in answers:
            return self._say({"error": "404 page not found"}, 404)
        try:
            answers[self.path](json.loads(raw or b"{}"))
        except KeyError as error:
            self._say({"error": f"model {error} not found"}, 404)

    def _say(self, value: object, status: int = 200) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _digest(self) -> str:
        return self.path.rpartition("sha256:")[2]

    def _model(self, name: str) -> dict[str, Any]:
        return self.fake.models[_full(name)]

    def _version(self, _: object) -> None:
        self._say({"version": self.fake.version})

    def _tags(self, _: object) -> None:
        rows = [{"name": n, "digest": digest_of(m)} for n, m in self.fake.models.items()]
        self._say({"models": rows})

    def _show(self, body: dict[str, Any]) -> None:
        model = self._model(body["model"])
        path = self.fake.store(model["gguf"])
        if "hides its files" in self.fake.faults:
            path = Path("/nowhere") / path.name
        text = f"# Modelfile\nFROM {path}\nSYSTEM {model['system']}\n"
        template = self.fake.template(model)
        self._say({"modelfile": text, "template": template, "system": model["system"]})

    def _upload(self) -> None:
        size, faults = int(self.headers["Content-Length"]), self.fake.faults
        if "dies in upload" in faults:
            self.rfile.read(1000)
            threading.Thread(target=self.fake.stop).start()
            self.close_connection = True
            return
        data = self.rfile.read(size)
        self.fake.uploaded += len(data)
        if "disk full" in faults:
            return self._say({"error": "write blob: no space left on device"}, 500)
        found = hashlib.sha256(data).hexdigest()
        self.fake.blob(found).write_bytes(data)
        if "hangs up once" in faults:
            faults.discard("hangs up once")
            self.close_connection = True
            return
        if found != self._digest():
            return self._say({"error": f"digest mismatch, got {found}"}, 400)
        self._say(None, 201)

    def _create(self, body: dict[str, Any]) -> None:
        digest = body["files"]["model.gguf"].removeprefix("sha256:")
        faults, rows = self.fake.faults, [{"status": "parsing GGUF"}]
        if not self.fake.blob(digest).exists():
            return self._say({"error": f"blob {digest} not found"}, 400)
        if self._refuses_typical(body.get("parameters")):
            return
        if self.fake.stores_anew:
            rows.append({"status": "validating GGUF model", "total": 9, "completed": 9})  # type: ignore
        if "guesses the template" in faults:
            rows.append({"status": "using autodetected template chatml"})
        if "refuses to register" in faults:
            rows.append({"error": "invalid file magic"})
        elif "breaks off" not in faults:
            rows += [{"status": "writing manifest"}, {"status": "success"}]
            self.fake.models[_full(body["model"])] = {
                "gguf": digest,
                "system": body.get("system", ""),
                "parameters": body.get("parameters", {}),
                "license": body.get("license", ""),
            }
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _copy(self, body: dict[str, str]) -> None:
        model = self._model(body["source"])
        if "loses copies" not in self.fake.faults:
            self.fake.models[_full(body["destination"])] = model
        self._say(None)

    def _delete(self, body: dict[str, str]) -> None:
        del self.fake.models[_full(body["model"])]
        self._say(None)

    def _generate(self, body: dict[str, Any]) -> None:
        if "prompt" in body:
            messages = [{"role": "user", "content": body["prompt"]}]
            return self._chat({**body, "messages": messages}, lambda text: {"response": text})
        self._model(body["model"])
        self._say({"done": True, "done_reason": "unload"})

    def _refuses_typical(self, options: dict[str, Any] | None) -> bool:
        refuses = not self.fake.stores_anew and "typical_p" in (options or {})
        if refuses:
            self._say({"error": "typical_p is no longer supported"}, 400)
        return refuses

    def _chat(self, body: dict[str, Any], said: Callable[[str], dict[str, Any]] = _turn) -> None:
        model, faults = self._model(body["model"]), self.fake.faults
        if self._refuses_typical(body.get("options")):
            return
        if body.get("think") and not self.fake.thinks(model):
            return self._say({"error": f'"{body["model"]}" does not support thinking'}, 400)
        prompt = self.fake.prompt(model, body["messages"], body.get("think"))
        if body.get("_debug_render_only"):
            info = {} if "says no render" in faults else {"rendered_template": prompt}
            return self._say({"done": False, "_debug_info": info})
        text, reason = self._answer(model, body.get("options", {}))
        self._start_stream()
        for done, character in enumerate(text):
            if "hangs" in faults and done:
                self.close_connection = True
                self.fake.hung.wait(30)
                return
            time.sleep(0.05 if "slow" in faults else 0)
            self._row({**said(character), "done": False})
        last = {
            **said(""),
            "done": True,
            "done_reason": reason,
            "prompt_eval_count": self.fake.count(model, prompt),
            "eval_count": len(text) + (reason == "stop"),
        }
        lacks = {
            "counts nothing": "prompt_eval_count",
            "says no reason": "done_reason",
            "never done": "done",
        }
        gone = {field for fault, field in lacks.items() if fault in faults}
        self._row({key: value for key, value in last.items() if key not in gone})
        self._end_stream()

    def _answer(self, model: dict[str, Any], options: dict[str, Any]) -> tuple[str, str]:
        """The text, and why it ends: the request's options win over the model's."""
        faults = self.fake.faults
        text = "<|end|>" if "shows markers" in faults else self.fake.answer
        if "garbles" in faults and not options:
            text = "".join(chr(ord(letter) ^ 1) for letter in text)
        wanted = {**model["parameters"], **options}
        for stop in wanted.get("stop", []):
            text = text.partition(stop)[0]
        limit = wanted.get("num_predict", -1)
        if limit < 0:
            return text, "stop"
        endless = "endless" in faults or limit <= len(text)
        return text[:limit], "length" if endless else "stop"

    def _start_stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _row(self, value: object) -> None:
        line = json.dumps(value).encode() + b"\n"
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.flush()

    def _end_stream(self) -> None:
        self.wfile.write(b"0\r\n\r\n")


def _full(name: str) -> str:
    return (name if re.search(r":[^/]+$", name) else f"{name}:latest").lower()
