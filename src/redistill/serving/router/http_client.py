"""A small HTTP/1.1 client for one models' server: connections are kept, nothing is followed, decoded or remembered.

aiohttp's client takes a third of a request's time in the router, for what is not needed here (docs/adr/0040-router-on-aiohttp.md).
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping

from yarl import URL

from redistill.serving.router.http_reply import BrokenError, Connection, Reply

_KEEP_S = 30.0
"""How long a connection without a request is kept."""


class UnreachableError(Exception):
    """No connection to the server."""


class Client:
    """``url`` is the server's address, to which paths are added; ``headers`` are sent with each request."""

    def __init__(self, url: str, headers: Mapping[str, str], connect_s: float) -> None:
        self._url, self._connect_s = URL(url), connect_s
        self._tls = ssl.create_default_context() if self._url.scheme == "https" else None
        self._host, self._port = self._url.host or "", self._url.port or 0
        host = self._url.raw_host or ""
        port = "" if self._url.is_default_port() else f":{self._url.port}"
        named = f"[{host}]" if ":" in host else host
        lines = {"Host": f"{named}{port}", "User-Agent": "redistill", "Accept": "*/*", **headers}
        self._head = _lines(lines)
        self.idle: deque[Connection] = deque()
        self.open: set[Connection] = set()

    async def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, beside: bool = False
    ) -> Reply:
        """Send a request, and wait for the head of its reply. ``beside``: the path is not below the address but beside its ``/v1``.

        A kept connection that the server closed while it was idle is no failure: the request is sent once more, on a fresh one. If any byte of a reply had come,
        or the connection was a fresh one, the server has read the request, and may have failed because of it.

        Raises:
            UnreachableError: no connection.
            BrokenError: the connection ended, or what came is no HTTP.
        """
        base = self._url.raw_path.rstrip("/")
        target = (base.removesuffix("/v1") if beside else base) + path
        length = b"Content-Length: %d\r\n" % len(body) if method == "POST" else b""
        more = _lines(headers) if headers else b""
        request = b"%b %b HTTP/1.1\r\n%b%b%b\r\n%b" % (method.encode(), target.encode(), self._head, more, length, body)
        if (kept := self._kept()) is not None:
            reply = kept.send(request)
            try:
                return await _headed(reply)
            except BrokenError:
                if reply.is_begun:
                    raise
        return await _headed((await self._connected()).send(request))

    async def close(self) -> None:
        for connection in list(self.open):
            connection.abort()
        # Transports tell their protocols in the next turn of the loop.
        await asyncio.sleep(0)

    def _kept(self) -> Connection | None:
        oldest = asyncio.get_running_loop().time() - _KEEP_S
        while self.idle:
            connection = self.idle.pop()
            if connection.is_open and connection.idle_since > oldest:
                return connection
            connection.abort()
        return None

    async def _connected(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._release, self._forget), self._host, self._port, ssl=self._tls
                )
        except (OSError, TimeoutError) as error:
            raise UnreachableError(type(error).__name__) from None
        self.open.add(connection)
        return connection

    def _release(self, connection: Connection) -> None:
        connection.idle_since = now = asyncio.get_running_loop().time()
        self.idle.append(connection)
        if self.idle[0].idle_since < now - _KEEP_S:
            self.idle.popleft().abort()

    def _forget(self, connection: Connection) -> None:
        self.open.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)


async def _headed(reply: Reply) -> Reply:
    try:
        await reply.head()
    except BaseException:
        reply.close()
        raise
    return reply


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
