"""A connection to a models' server, and the reply that comes over it. The bytes are parsed by llhttp (httptools), which Node.js and uvicorn use.

Only what a models' server needs: one request at a time on a connection, bodies with a length, in chunks, or until the end, and no more in memory than is read.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpResponseParser

_MOST_HEAD = 64 << 10
_HIGH_WATER = 1 << 20
"""Bytes that wait to be read; with more, the server has to wait."""
_MOST_INFLATED = 32 << 20


class BrokenError(Exception):
    """The connection ended before the reply did, or what came is no HTTP."""


class TooLargeError(Exception):
    """A body is larger than it may be."""


class Reply:
    """The reply to one request. ``status`` is 0 until the head has come."""

    __slots__ = ("_connection", "_error", "_headers", "_inflate", "_is_done", "_parts", "_size", "_waiter", "is_begun", "status")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._size, self.status = 0, 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._inflate: zlib._Decompress | None = None
        self._is_done = self.is_begun = False

    @property
    def lasts_until_end(self) -> bool:
        """Whether the end of the connection is the end of the body."""
        return bool(self.status) and b"content-length" not in self._headers and b"transfer-encoding" not in self._headers

    def header(self, name: str) -> str | None:
        value = self._headers.get(name.lower().encode())
        return None if value is None else value.decode("latin-1")

    async def head(self) -> None:
        """Wait for the head.

        Raises:
            BrokenError: the connection ended before.
        """
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._more()

    async def part(self) -> bytes:
        """What has come of the body and was not read yet; empty at its end.

        Raises:
            BrokenError: the connection ended before the body did.
        """
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self._is_done:
                return b""
            await self._more()
        return self._taken()

    async def body(self, most: int) -> bytes:
        """The whole body.

        Raises:
            BrokenError: the connection ended before the body did.
            TooLargeError: it has more than ``most`` bytes.
        """
        parts, size = [], 0
        while part := await self.part():
            size += len(part)
            if size > most:
                raise TooLargeError
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Nobody reads on: a reply that is not complete is cut off, so that the server stops writing."""
        if not self._is_done:
            self._connection.abort()

    def _taken(self) -> bytes:
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        if self._size > _HIGH_WATER:
            self._connection.read_on()
        self._size = 0
        return data

    async def _more(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def begin(self, status: int, headers: dict[bytes, bytes]) -> None:
        self._headers = headers
        encoding = headers.get(b"content-encoding", b"identity").lower()
        if encoding in (b"gzip", b"x-gzip", b"deflate"):
            self._inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS + 32)
        elif encoding != b"identity":
            raise BrokenError("it is compressed, although the request asked for none")
        self.status = status
        self._wake()

    def add(self, part: bytes) -> bool:
        """Take a part of the body; whether more may come before it is read."""
        if self._inflate is not None:
            part = self._inflate.decompress(part, _MOST_INFLATED)
            if self._inflate.unconsumed_tail:
                raise BrokenError("its compressed body is too large")
        if part:
            self._parts.append(part)
            self._size += len(part)
            self._wake()
        return self._size <= _HIGH_WATER

    def done(self) -> None:
        self._is_done = True
        self._wake()

    def failed(self, error: Exception) -> None:
        if not self._is_done and self._error is None:
            self._error = error
            self._wake()


class Connection(asyncio.Protocol):
    """``release`` gets the connection when its reply is complete and another request may follow; ``forget`` when it has ended."""

    def __init__(self, release: Callable[[Connection], None], forget: Callable[[Connection], None]) -> None:
        self._release, self._forget = release, forget
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None
        self._headers: dict[bytes, bytes] = {}
        self._head_size = 0
        self._is_lost = self._is_paused = False
        self.idle_since = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes) -> Reply:
        assert self._transport is not None and self._reply is None
        reply = self._reply = Reply(self)
        if self._is_lost:
            self._end(BrokenError("it ended at once"))
        else:
            self._transport.write(request)
        return reply

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def read_on(self) -> None:
        if self._is_paused and self.is_open:
            self._is_paused = False
            self._transport.resume_reading()  # type: ignore[union-attr]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._reply is None:
            # Nothing was asked, so it would be taken for the next reply.
            self.abort()
            return
        self._reply.is_begun = True
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            cause = error.__context__ if isinstance(error, HttpParserCallbackError) else error
            self._end(BrokenError(str(cause or error)))
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = True
        self._forget(self)
        if error is None and self._reply is not None and self._reply.lasts_until_end:
            self._reply.done()
        self._end(BrokenError(f"{type(error).__name__}: {error}" if error else "it ended early"))

    def _end(self, error: BrokenError) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.failed(error)

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value)
        if self._head_size > _MOST_HEAD:
            raise BrokenError("its head is too large")
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and self._reply is not None:
            self._reply.begin(status, self._headers)

    def on_body(self, part: bytes) -> None:
        if self._reply is not None and not self._reply.add(part) and not self._is_paused and self.is_open:
            self._is_paused = True
            self._transport.pause_reading()  # type: ignore[union-attr]

    def on_message_complete(self) -> None:
        reply, keep = self._reply, self._parser.should_keep_alive()
        if reply is None or not reply.status:
            # 100 Continue and the like: the reply is still to come.
            self._headers, self._head_size = {}, 0
            return
        self._reply, self._headers, self._head_size = None, {}, 0
        reply.done()
        if keep and self.is_open:
            self.read_on()
            self._release(self)
        else:
            self.abort()
