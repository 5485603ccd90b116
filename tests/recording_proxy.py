"""A proxy between a client and a real server that keeps every request: what a server was really asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "date", "server", "host", "accept-encoding"}
"""Headers of one connection only, or of a body that httpx has unpacked."""


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    body: bytes


@contextmanager
def recording_proxy(server: str) -> Iterator[tuple[str, list[Asked]]]:
    """The proxy's address and the list that its requests are added to."""
    asked: list[Asked] = []
    with httpx.Client(base_url=server, timeout=120) as client:

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body are two writes. By default the second one waits for the client's word on the first, which comes 40 ms later.
            disable_nagle_algorithm = True

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked.append(Asked(self.command, self.path, body))
                headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
                answer = client.request(self.command, self.path, content=body, headers=headers)
                self.send_response(answer.status_code)
                for name, value in answer.headers.items():
                    if name.lower() not in _HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def log_message(self, format: str, *args: object) -> None:
                """Nothing on stderr."""

        proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}", asked
        finally:
            proxy.shutdown()
            thread.join()
            proxy.server_close()
