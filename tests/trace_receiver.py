"""A collector of traces on loopback: takes OTLP by HTTP, and keeps the spans. It may also answer slowly, or with an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """``raw`` has the bytes of each request, ``spans`` what is in them. ``release`` lets requests go on that wait."""

    def __init__(self, status: int = 200, *, waits: bool = False) -> None:
        self.status, self.url = status, ""
        self.raw: list[bytes] = []
        self.resources: list[dict[str, Any]] = []
        self.spans: list[Span] = []
        self.release = threading.Event()
        if not waits:
            self.release.set()

    def take(self, body: bytes) -> None:
        self.raw.append(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append({a.key: a.value.string_value for a in group.resource.attributes})
            self.spans += [span for scope in group.scope_spans for span in scope.spans]

    def waiting_for(self, count: int, limit_s: float = 20.0) -> list[Span]:
        """The spans, when there are so many."""
        deadline = time.monotonic() + limit_s
        while len(self.spans) < count:
            assert time.monotonic() < deadline, f"{len(self.spans)} of {count} spans came"
            time.sleep(0.01)
        return list(self.spans)


def attributes(span: Span) -> dict[str, Any]:
    """The attributes of a span as plain values."""
    return {each.key: _plain(each.value) for each in span.attributes}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_plain(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)


@contextmanager
def collecting(status: int = 200, *, waits: bool = False) -> Iterator[Collector]:
    """A collector that listens."""
    collector = Collector(status, waits=waits)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            collector.release.wait(60.0)
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.release.set()
        server.shutdown()
        server.server_close()
