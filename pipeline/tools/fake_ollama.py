"""An Ollama for tests: an HTTP server in a thread that speaks what we use of Ollama's interface.

    with FakeOllama(folder) as fake:
        Ollama(fake.address).version()

It renders with the template inside the GGUF, counts tokens with llama.cpp, and answers with a fixed
text. It can be told to misbehave (`faults`), once for each thing that a release must notice. A
contract test runs the same checks against it and against the real one.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from pipeline.template import render_text
from pipeline.tools import llamacpp
from pipeline.tools.host import Address
from pipeline.values import digest_of

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
    "shows markers": "answers with a control token's text",
    "other tensors": "stores a file with one byte changed at its end",
    "hides its files": "names a file that is not there",
    "loses copies": "says yes to a copy and makes none",
}


class FakeOllama:
    """A server on a free loopback port; its models lie in `folder`. Use as a context manager."""

    def __init__(self, folder: Path, *faults: str, answer: str = "ok") -> None:
        unknown = set(faults) - set(FAULTS)
        if unknown:
            raise ValueError(f"no such fault: {unknown}")
        self.folder, self.faults, self.answer = folder, set(faults), answer
        self.models: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        """Method and path of every request."""
        self.uploaded = 0
        """Bytes of uploads that were read."""
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = Address("127.0.0.1", self._server.server_port)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()

    def blob(self, digest: str) -> Path:
        """Where it keeps a file."""
        return self.folder / f"sha256-{digest}"

    def store(self, digest: str) -> Path:
        """The file that it serves for an uploaded one: another one, as Ollama's is."""
        served = self.folder / f"sha256-{digest_of(digest)}"
        if not served.exists():
            shutil.copyfile(self.blob(digest), served)
            if "other tensors" in self.faults:
                data = served.read_bytes()
                served.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        return served

    def template(self, model: dict[str, Any]) -> str:
        """The template that it runs for a model."""
        return "{{ .Prompt }}" if "old" in self.faults else _template(self.store(model["gguf"]))

    def prompt(self, model: dict[str, Any], messages: list[dict[str, str]]) -> str:
        """The prompt that it makes of a conversation."""
        if "old" in self.faults:
            return messages[-1]["content"]
        system = "" if "forgets system" in self.faults else model["system"]
        if system and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": system}, *messages]
        text = render_text(self.template(model), messages, generate=True)  # type: ignore[arg-type]
        return text + (" " if "other render" in self.faults else "")

    def count(self, model: dict[str, Any], prompt: str) -> int:
        """Tokens of a prompt, BOS included."""
        with llamacpp.Model(self.store(model["gguf"])) as opened:
            tokens = len(opened.tokenize(prompt, special=True, bos=True))
        return tokens + ("doubles bos" in self.faults)


@lru_cache(maxsize=8)
def _template(path: Path) -> str:
    from gguf import GGUFReader

    return str(GGUFReader(path).fields["tokenizer.chat_template"].contents())


class _Handler(BaseHTTPRequestHandler):
    fake: FakeOllama
    protocol_version = "HTTP/1.1"
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
        self._say({"version": "0.0.0-fake"})

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
        self._model(body["model"])
        self._say({"done": True, "done_reason": "unload"})

    def _chat(self, body: dict[str, Any]) -> None:
        model, faults = self._model(body["model"]), self.fake.faults
        prompt = self.fake.prompt(model, body["messages"])
        if body.get("_debug_render_only"):
            info = {} if "says no render" in faults else {"rendered_template": prompt}
            return self._say({"done": False, "_debug_info": info})
        limit = body["options"]["num_predict"]
        text = "<|end|>" if "shows markers" in faults else self.fake.answer
        endless = "endless" in faults or limit <= len(text)
        reply = {
            "message": {"role": "assistant", "content": text[:limit]},
            "done": True,
            "done_reason": "length" if endless else "stop",
            "prompt_eval_count": self.fake.count(model, prompt),
            "eval_count": limit if endless else len(text) + 1,
        }
        lacks = {
            "counts nothing": "prompt_eval_count",
            "says no reason": "done_reason",
            "never done": "done",
        }
        gone = {field for fault, field in lacks.items() if fault in faults}
        self._say({key: value for key, value in reply.items() if key not in gone})


def _full(name: str) -> str:
    return (name if re.search(r":[^/]+$", name) else f"{name}:latest").lower()
