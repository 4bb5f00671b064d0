"""A Hub on the loopback interface."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants

from tts.models import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class SmallHub(http.server.ThreadingHTTPServer):
    """Serves one folder as one model, or as one data set, by the part of the Hub's interface that downloads need.

    Attributes:
        asked: paths that were asked for, with the ranges of bytes.
        gated: whether files are refused.
        cuts: files whose next answers end after these numbers of bytes, with the connection.
    """

    def __init__(self, folder: Path, name: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.name, self.asked, self.gated = folder, name, [], False
        self.cuts: dict[str, list[int]] = {}

    def fetched(self) -> list[str]:
        """Files whose content was asked for, in their order, with the ranges of bytes."""
        return [path.partition(f"/resolve/{COMMIT}/")[2] for method, path in self.asked if method == "GET" and "/resolve/" in path]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def log_message(self, *args):
        pass

    def answer(self):
        hub, path = self.server, self.path.partition("?")[0]
        name, files = hub.name, sorted(file for file in hub.folder.rglob("*") if file.is_file())
        path = path.replace("/api/datasets/", "/api/models/").removeprefix("/datasets")
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        hub.asked.append((self.command, path + (f" from {first}" if int(first or 0) else "")))
        named = [{"rfilename": str(p.relative_to(hub.folder)), "size": p.stat().st_size} for p in files]
        if path in {f"/api/models/{name}", *(f"/api/models/{name}/revision/{revision}" for revision in ("main", COMMIT))}:
            self.say({"id": name, "sha": COMMIT, "siblings": named})
        elif path == f"/api/models/{name}/tree/{COMMIT}":
            self.say([{"type": "file", "path": n["rfilename"], "size": n["size"], "oid": _etag(p)} for n, p in zip(named, files)])
        elif hub.gated:
            self.send(403, b"", **{"X-Error-Code": "GatedRepo"})
        elif path.startswith(f"/{name}/resolve/{COMMIT}/"):
            asked = path.partition(f"/resolve/{COMMIT}/")[2]
            if (file := hub.folder / asked).exists():
                self.send_file(file, int(first or 0), int(last) if last else None, hub.cuts.get(asked, []))
            else:
                self.send(404, b"", **{"X-Error-Code": "EntryNotFound"})
        else:
            self.send(404, b"", **{"X-Error-Code": "RepoNotFound"})

    def say(self, value):
        self.send(200, json.dumps(value).encode())

    def send_file(self, file: Path, first: int, last: int | None, cuts: list[int]):
        content = file.read_bytes()
        part = content[first : None if last is None else last + 1]
        ranged = {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(content)}"} if len(part) < len(content) else {}
        cut = cuts.pop(0) if cuts and self.command == "GET" else None
        self.send(206 if ranged else 200, part, cut, ETag=f'"{_etag(file)}"', **ranged)

    def send(self, code: int, body: bytes, cut: int | None = None, **headers: str):
        self.send_response(code)
        for key, value in {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
            self.close_connection = cut is not None


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextmanager
def serving(monkeypatch) -> Iterator:
    """A function that serves a folder under a name, and makes the Hub's client ask there."""
    servers = []

    def start(folder: Path, name: str) -> SmallHub:
        server = SmallHub(folder, name)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        go_online(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def go_online(monkeypatch, endpoint: str) -> None:
    hub.unreachable.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
