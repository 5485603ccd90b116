"""A TCP proxy that can refuse: a server that is away for a while, without the server noticing."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_CHUNK = 65536


class Gate:
    """Passes connections on to ``target``, a port of loopback, until it refuses. Its port stays the same."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener: socket.socket | None = None
        self._links: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._refuse_after: int | None = None
        self._refused = threading.Event()
        self.port = 0
        self.admit()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def admit(self) -> None:
        """Take connections (again)."""
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self._listener, self.port = listener, listener.getsockname()[1]
        self._refused.clear()
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def refuse(self) -> None:
        """Cut every connection, and refuse new ones."""
        with self._lock:
            listener, self._listener = self._listener, None
            links, self._links = self._links, set()
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # a thread that waits in accept() would keep the port open
            listener.close()
        for link in links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()
        self._refused.set()

    def refuse_after(self, sent_bytes: int) -> threading.Event:
        """Refuse as soon as clients have sent so many bytes more; the event is set then."""
        self._refuse_after = sent_bytes
        return self._refused

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=30)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._links |= {client, server}
            for source, sink, count in ((client, server, self._count), (server, client, lambda _: None)):
                threading.Thread(target=self._pump, args=(source, sink, count), daemon=True).start()

    def _count(self, sent: int) -> None:
        if self._refuse_after is not None:
            self._refuse_after -= sent
            if self._refuse_after <= 0:
                self._refuse_after = None
                self.refuse()

    def _pump(self, source: socket.socket, sink: socket.socket, count: Callable[[int], None]) -> None:
        try:
            while data := source.recv(_CHUNK):
                count(len(data))
                sink.sendall(data)
        except OSError:
            pass
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        with self._lock:
            if source not in self._links:
                source.close()


@contextmanager
def gate(target: int) -> Iterator[Gate]:
    """A gate that passes everything on at first."""
    made = Gate(target)
    try:
        yield made
    finally:
        made.refuse()
