"""The explorer over HTTP, on this machine's own address alone."""

from __future__ import annotations

from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Handler(BaseHTTPRequestHandler):
    """Answers with the one page; everything else is not there."""

    content = b""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        if self.path.partition("?")[0] not in ("/", "/index.html"):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        if body:
            self.wfile.write(self.content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are not told."""


def loopback(host: str, port: int) -> ThreadingHTTPServer:
    """A server that listens. Raises `OSError` for a port that it cannot have."""
    return ThreadingHTTPServer((host, port), _Handler)


def serve(server: ThreadingHTTPServer, content: bytes) -> int:
    """Serves the page until the process is interrupted."""
    _Handler.content = content
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 0
    return 0
