"""A hub on loopback: speaks Hugging Face's protocol for one repository, and can misbehave.

with HubServer(folder) as hub:    # HF_ENDPOINT=hub.url, FROM hub.base
    hub.cuts["model.safetensors"] = [1000]    # the first answer for it ends after 1000 bytes
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 10_000  # bytes: what is larger is in LFS


class Asked(NamedTuple):
    """A request, as it came."""

    cdn: bool
    path: str
    headers: dict[str, str]


class HubServer:
    """Files of a folder as the repository `org/tiny` at COMMIT, `main` being there."""

    def __init__(self, folder: Path) -> None:
        self.files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.extra: list[dict[str, Any]] = []  # more entries of the tree
        self.page = 1000  # entries
        self.next_host = ""  # where the next page is said to be
        self.cuts: dict[str, list[int]] = defaultdict(list)  # bytes after which an answer ends
        self.wrong: dict[str, int] = {}  # answers with other bytes
        self.stalls: dict[str, int] = {}  # answers of which only the head comes
        self.pace = 0.0  # seconds for each 64 kB
        self.refusals: list[tuple[int, dict[str, str]]] = []  # of the next requests
        self.always: tuple[int, dict[str, str]] | None = None  # of all requests
        self.accepts = ""  # the token that is asked for
        self.to_cdn = False
        self.elsewhere: str | None = None  # where every file is said to be
        self.etags: dict[str, str] = {}
        self.etag_counts = False  # each answer has another ETag
        self.ranges = True  # honours Range
        self.conditions = True  # honours If-Range
        self.tree_headers: dict[str, str] = {}
        self.longer: dict[str, int] = {}  # bytes that come behind the file's own
        self.asked: list[Asked] = []
        self.sent: dict[str, int] = defaultdict(int)  # bytes of bodies, by file
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), self._handler(c)) for c in (0, 1)]

    url = property(lambda self: f"http://127.0.0.1:{self._servers[0].server_port}")
    cdn = property(lambda self: f"http://127.0.0.1:{self._servers[1].server_port}")
    base = f"hub:org/tiny@{COMMIT}"

    def __enter__(self) -> Self:
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def paths(self) -> list[str]:
        """What was asked of the hub itself, without its host."""
        return [one.path for one in self.asked if not one.cdn]

    def tree(self) -> list[dict[str, Any]]:
        """The entries, as the hub has them."""
        return [_entry(name, content) for name, content in sorted(self.files.items())] + self.extra

    def _handler(self, cdn: int) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                hub.asked.append(Asked(bool(cdn), self.path, headers))
                try:
                    _Answer(hub, self, headers).give(bool(cdn))
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

        return Handler


class _Answer:
    def __init__(
        self, hub: HubServer, handler: BaseHTTPRequestHandler, headers: dict[str, str]
    ) -> None:
        self.hub, self.handler, self.headers = hub, handler, headers

    def give(self, cdn: bool) -> None:
        hub, path = self.hub, urlsplit(self.handler.path).path
        if hub.always or hub.refusals:
            return self.head(*(hub.always or hub.refusals.pop(0)))
        if hub.accepts and not cdn and self.headers.get("authorization") != f"Bearer {hub.accepts}":
            return self.head(401, {"X-Error-Code": "GatedRepo"})
        if path.startswith("/api/models/org/tiny/revision/"):
            return self.revision(path.rpartition("/")[2])
        if path == f"/api/models/org/tiny/tree/{COMMIT}":
            return self.tree()
        name = path.rpartition("/")[2]
        if path != f"/org/tiny/resolve/{COMMIT}/{name}" or name not in hub.files:
            code = "RevisionNotFound" if path.startswith("/api/models/org/tiny/") else ""
            return self.head(404, {"X-Error-Code": code or "RepoNotFound"})
        if hub.elsewhere is not None:
            return self.head(302, {"Location": hub.elsewhere})
        if hub.to_cdn and not cdn:
            return self.head(302, {"Location": f"{hub.cdn}{path}?signature=secret"})
        return self.file(name)

    def head(self, status: int, headers: dict[str, str], length: int = 0) -> None:
        self.handler.send_response(status)
        for key, value in {**headers, "Content-Length": str(length)}.items():
            self.handler.send_header(key, value)
        self.handler.end_headers()

    def json(self, value: object, more: dict[str, str] | None = None) -> None:
        raw = json.dumps(value).encode()
        self.head(200, {"Content-Type": "application/json", **(more or {})}, len(raw))
        self.handler.wfile.write(raw)

    def revision(self, name: str) -> None:
        if name in ("main", COMMIT):
            return self.json({"id": "org/tiny", "sha": COMMIT})
        return self.head(404, {"X-Error-Code": "RevisionNotFound"})

    def tree(self) -> None:
        parts = urlsplit(self.handler.path)
        start = int(parse_qs(parts.query).get("cursor", ["0"])[0])
        entries, end = self.hub.tree(), start + self.hub.page
        host = self.hub.next_host or self.hub.url
        more = {"Link": f'<{host}{parts.path}?cursor={end}>; rel="next"'}
        more = more if end < len(entries) else {}
        self.json(entries[start:end], {**more, **self.hub.tree_headers})

    def file(self, name: str) -> None:
        hub, content = self.hub, self.hub.files[name]
        etag = hub.etags.get(name, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
        etag = f'"{len(hub.asked)}"' if hub.etag_counts else etag
        start = self.start(etag)
        if hub.wrong.get(name, 0) > 0:
            hub.wrong[name] -= 1
            content = bytes(len(content))
        span = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        body = content[start:] + bytes(hub.longer.get(name, 0))
        self.head(206 if start else 200, {"ETag": etag, **(span if start else {})}, len(body))
        if hub.stalls.get(name, 0) > 0:
            hub.stalls[name] -= 1
            time.sleep(1.5)
            self.handler.close_connection = True
            return
        end = hub.cuts[name].pop(0) if hub.cuts[name] else len(body)
        self.write(name, body[:end])
        self.handler.close_connection = end < len(body)

    def start(self, etag: str) -> int:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        same = not self.hub.conditions or self.headers.get("if-range", etag) == etag
        return int(found[1]) if found and same and self.hub.ranges else 0

    def write(self, name: str, body: bytes) -> None:
        for at in range(0, len(body), 1 << 16):
            block = body[at : at + (1 << 16)]
            self.handler.wfile.write(block)
            self.hub.sent[name] += len(block)
            time.sleep(self.hub.pace)


def _entry(name: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": blob}
    if len(content) > LARGE:
        oid = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 134}
    return entry
