#!/usr/bin/env python3
"""Whether the hub's Python client reads our cache, and we read its.

A small model is served on the loopback address as the hub serves it. The Python client (`pip install huggingface_hub`) and
`cargo run -p aff-weights --features hub --example hub_fetch` download it into a cache each; then each reads the other's with no
network. Needs no network itself.

    python3 scripts/hub_python_client.py [COMMAND THAT FETCHES ...]
"""

import hashlib
import http.server
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import threading

MODEL, COMMIT = "org/aff-nano", "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"a": 1}',
    "preprocessor_config.json": b"{}",
    "model.safetensors": bytes(i * 7 % 251 for i in range(50_000)),
}
FETCH = "cargo run --quiet --package aff-weights --features hub --example hub_fetch --"


def etag(name, content):
    if name.endswith(".safetensors"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    requests = gets = 0

    def answer(self, status, headers, body=b""):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        Hub.requests += 1
        Hub.gets += self.command == "GET"
        path = self.path.split("?")[0]
        if path.startswith(f"/api/models/{MODEL}/tree/"):
            tree = [entry(name, content) for name, content in FILES.items()]
            return self.answer(200, {"Content-Type": "application/json"}, json.dumps(tree).encode())
        if path.startswith(f"/api/models/{MODEL}"):
            info = {"id": MODEL, "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}
            return self.answer(200, {"Content-Type": "application/json"}, json.dumps(info).encode())
        revision, _, name = path.removeprefix(f"/{MODEL}/resolve/").partition("/")
        if revision not in ("main", COMMIT) or name not in FILES:
            return self.answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = FILES[name]
        self.answer(200, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag(name, content)}"'}, content)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def entry(name, content):
    """Of a file in the listing of a commit."""
    found = {"type": "file", "path": name, "size": len(content), "oid": etag("", content)}
    if name.endswith(".safetensors"):
        found["lfs"] = {"oid": etag(name, content), "size": len(content), "pointerSize": 130}
    return found


def check(condition, what):
    print(("ok      " if condition else "FAILED  ") + what)
    if not condition:
        sys.exit(1)


def same_files(folder):
    folder = pathlib.Path(folder)
    return folder.name == COMMIT and all((folder / name).read_bytes() == content for name, content in FILES.items())


def run(command, cache, extra):
    """Runs a program on a cache. The Python client reads its environment when it is imported, so it is a program, too."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    settings = {"HF_ENDPOINT": ENDPOINT, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(command, env=kept | settings | extra, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip().splitlines()[-1]


DOWNLOAD = f"from huggingface_hub import snapshot_download as s; print(s({MODEL!r}))"
SCAN = """
import json
from huggingface_hub import scan_cache_dir
info = scan_cache_dir()
repos = [[r.repo_id, r.nb_files, sorted(r.refs)] for r in info.repos]
print(json.dumps({"warnings": [str(w) for w in info.warnings], "repos": repos,
                  "incomplete": len(getattr(info, "incomplete_files", ()))}))
"""

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
ENDPOINT = f"http://127.0.0.1:{server.server_port}"
ours = (sys.argv[1:] or shlex.split(FETCH)) + [MODEL, "main"]

with tempfile.TemporaryDirectory() as folder:
    for links in ("links", "copies"):
        extra = {"HF_HUB_DISABLE_SYMLINKS": "1"} if links == "copies" else {}
        mine, theirs = (pathlib.Path(folder, links, whose) for whose in ("mine", "theirs"))
        check(same_files(run(ours, mine, extra)), f"{links}: we download")
        scan = json.loads(run([sys.executable, "-c", SCAN], mine, extra))
        expected = {"warnings": [], "repos": [[MODEL, len(FILES), ["main"]]], "incomplete": 0}
        check(scan == expected, f"{links}: scan_cache_dir of our cache: {scan}")
        before = Hub.requests
        offline = extra | {"HF_HUB_OFFLINE": "1"}
        check(same_files(run([sys.executable, "-c", DOWNLOAD], mine, offline)), f"{links}: the Python client reads our cache")
        check(Hub.requests == before, f"{links}: and asks nobody")
        check(same_files(run([sys.executable, "-c", DOWNLOAD], theirs, extra)), f"{links}: the Python client downloads")
        before = Hub.requests
        check(same_files(run(ours, theirs, offline)), f"{links}: we read its cache")
        check(Hub.requests == before, f"{links}: and ask nobody")
        scan = json.loads(run([sys.executable, "-c", SCAN], theirs, extra))
        check(scan == expected, f"{links}: scan_cache_dir of its cache after us: {scan}")
        gets = Hub.gets
        check(same_files(run(ours, theirs, extra)), f"{links}: we look its branch up")
        check(Hub.gets == gets, f"{links}: and download nothing")
