"""A folder over HTTP as GitHub Pages serves it: gzipped, kept for ten minutes, 404.html for what is not there.

`python -m tools.serve_gzip public --port 8000`. For looking at a built site and for weighing it; not for the world.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import Any, BinaryIO

__all__ = ["Handler", "served"]

_PACKED = ("text/", "application/json", "application/javascript", "image/svg+xml", "application/xml")


@functools.lru_cache(maxsize=4096)
def _packed(path: str, changed: int) -> bytes:
    """A file gzipped once; `changed` makes a new version another entry."""
    return gzip.compress(Path(path).read_bytes(), 6, mtime=0)


class Handler(SimpleHTTPRequestHandler):
    """Files of one folder."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def handle(self) -> None:
        """A browser that goes away in the middle is no fault."""
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def send_head(self) -> BytesIO | BinaryIO | None:
        """What the base class does, but whole, packed where it helps; the site's own page for what is missing."""
        path, status = Path(self.translate_path(self.path)), HTTPStatus.OK
        if path.is_dir():
            bare = self.path.partition("?")[0]
            if not bare.endswith("/"):
                self.send_response(HTTPStatus.MOVED_PERMANENTLY)
                self.send_header("Location", f"/{bare.lstrip('/')}/")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
            path /= "index.html"
        if not path.is_file():
            path, status = Path(self.directory) / "404.html", HTTPStatus.NOT_FOUND
        if not path.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        kind = self.guess_type(path)
        wants = "gzip" in self.headers.get("Accept-Encoding", "") and kind.startswith(_PACKED)
        body = _packed(str(path), path.stat().st_mtime_ns) if wants else path.read_bytes()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind.startswith(_PACKED) else kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=600")
        self.send_header("Vary", "Accept-Encoding")
        if wants:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        return BytesIO(body)


@contextmanager
def served(folder: Path, port: int = 0) -> Iterator[str]:
    """Serve a folder on this machine alone; yields its address without a slash at the end."""
    handler = functools.partial(Handler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    """Serve until somebody presses Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=8000)
    asked = parser.parse_args()
    if not asked.folder.is_dir():
        raise SystemExit(f"no folder {asked.folder}; build the site first: mkdocs build")
    with served(asked.folder, asked.port) as address:
        sys.stdout.write(f"{address}/ serves {asked.folder}; Ctrl-C ends it\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            Event().wait()


if __name__ == "__main__":
    main()
