"""A local file server whose manners can be spoiled, and the file that it serves."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from napari_pisam.weights import download

DATA = bytes(range(256)) * 8192  # 2 MiB: several pieces
PIECE = 50_000
SHA256 = hashlib.sha256(DATA).hexdigest()


class Server:
    """A file server whose manners can be spoiled."""

    def __init__(self):
        self.data = DATA
        self.ranges = True
        self.etag = '"v1"'
        self.status = None
        self.length = None  # what is said instead of the body's length
        self.cut_after = []  # bytes of the body after which each coming connection breaks
        self.cut_every = None  # bytes of the body after which every connection breaks
        self.pause = 0  # s after each piece of the body
        self.location = None
        self.seen = []

    def answer(self, handler):
        self.seen.append((handler.path, handler.headers.get("Range")))
        if self.status is not None:
            handler.send_response(self.status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if handler.path.startswith("/redirect/"):
            handler.send_response(302)
            target = self.location or handler.path.replace("/redirect/", "/")
            handler.send_header("Location", target)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start, asked = 0, handler.headers.get("Range")
        fresh = handler.headers.get("If-Range") in (None, self.etag)
        if asked and self.ranges and fresh:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            handler.send_response(206)
            last, size = len(self.data) - 1, len(self.data)
            handler.send_header("Content-Range", f"bytes {start}-{last}/{size}")
        else:
            handler.send_response(200)
        body = self.data[start:]
        handler.send_header("Content-Length", self.length or str(len(body)))
        if self.etag is not None:
            handler.send_header("ETag", self.etag)
        handler.end_headers()
        if self.cut_every is not None:
            body = body[: self.cut_every]
        elif self.cut_after:
            body = body[: self.cut_after.pop(0)]
        for start in range(0, len(body), PIECE) if self.pause else ():
            handler.wfile.write(body[start : start + PIECE])
            time.sleep(self.pause)
        if not self.pause:
            handler.wfile.write(body)
        handler.close_connection = True


@contextmanager
def serve():
    """Serve on a free port of this machine; yields the `Server`."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                state.answer(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        state.address = f"http://127.0.0.1:{httpd.server_port}"
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield state
        finally:
            httpd.shutdown()
            thread.join()


@contextmanager
def local_http():
    """Permit plain http from this very machine, which no release does."""
    is_https = download._is_allowed
    here = ("http://127.0.0.1:", "http://localhost:")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "_is_allowed", lambda url: is_https(url) or url.startswith(here))
        yield
