"""One model's server: asks it within limits, and says in one word what went wrong.

A pooled connection may have been closed by the server just before it is used. Such a request is sent once more on a fresh connection, and that says nothing
about the server. Any other failure is the caller's to handle: nothing else is asked twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
import orjson

from redistill.serving.params import ServeParams
from redistill.serving.router.breaker import Breaker, Ticket
from redistill.serving.router.sse import Event, Events
from redistill.serving.router.types import BadRequestError, Limit, Side, UpstreamError

_MOST_BYTES = 32 << 20
"""The largest reply that is held. A completion with the log-probabilities of 20 tokens at each of 4,000 positions has about 6 MB."""
_BUSY = (408, 429)
_OURS = (401, 402, 403, 404)
"""Statuses that say something about the router's own key, address or model name, and nothing about the caller's request."""
_TRIPS_FROM = 500
Clock = Callable[[], float]
_T = TypeVar("_T")


class Upstream:
    """``url`` ends before ``/chat/completions``. ``key`` is sent as a bearer token; empty for none. ``lost`` counts connections that failed: it may be another server now."""

    def __init__(self, side: Side, url: str, key: str, params: ServeParams, clock: Clock = time.monotonic) -> None:
        self.side, self.url, self.dtype = side, url.rstrip("/"), str(params.student_dtype)
        self.breaker, self._clock, self._params = Breaker(params.breaker_failures, params.breaker_s), clock, params
        self._headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {key}"} if key else {}
        )
        self._sessions: list[aiohttp.ClientSession] = []
        self.lost = 0

    async def __aenter__(self) -> Upstream:
        # No proxy of the environment, no cookies, no redirects: only the configured server is asked.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._params.connect_s)
        for connector in (aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0), aiohttp.TCPConnector(limit=0, force_close=True)):
            jar = aiohttp.DummyCookieJar()
            self._sessions.append(
                aiohttp.ClientSession(
                    connector=connector,
                    timeout=timeout,
                    cookie_jar=jar,
                    headers=self._headers,
                    read_bufsize=1 << 18,
                    trace_configs=[_kept_connections()],
                )
            )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for session in self._sessions:
            await session.close()

    def ticket(self) -> Ticket | None:
        """Permission to ask the server now; None while it is not asked after failures."""
        return self.breaker.ticket(self._clock())

    def retry_after(self) -> float:
        return self.breaker.retry_after(self._clock())

    async def whole(self, path: str, body: dict[str, Any], limit: Limit, read: Callable[[bytes], _T], ticket: Ticket | None = None) -> _T:
        """What ``read`` makes of the body of a reply of status 200. A reply that it cannot read is a failure of the server.

        Without a ticket the attempt does not count, whatever its end.

        Raises:
            UpstreamError: no reply within the limit, one that says the server failed, or one that refuses the request.
        """
        with self._judged(ticket):
            deadline = _Deadline(_now() + limit.seconds, "timeout", f"no completion within {limit.seconds:.3g} s", not limit.callers)
            text = await deadline.within(self._read(path, body))
            try:
                return read(text)
            except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
                raise UpstreamError("malformed", f"the reply cannot be read ({type(error).__name__})") from None

    async def _read(self, path: str, body: dict[str, Any]) -> bytes:
        """The body of a reply of status 200."""
        response = await self._sent(path, body)
        try:
            text = await _bounded(response)
            if response.status != 200:
                raise _unwanted(response, text) or _refused(response.status, text)
            return text
        finally:
            response.close()

    @asynccontextmanager
    async def stream(self, path: str, body: dict[str, Any], limit: Limit, ticket: Ticket) -> AsyncIterator[AsyncIterator[Event]]:
        """The events of a stream. The first one is given only when one with content has come, so it proves that the server writes.

        The stream ends with the event that says so; a server that stops without it has failed.

        Raises:
            UpstreamError: no reply, no content in time, or an error instead of content. In the middle: a stall, an error, or a missing last event.
        """
        with self._judged(ticket):
            first_s, end = min(self._params.first_token_s, limit.seconds), _now() + limit.seconds
            trips = not limit.callers or first_s < limit.seconds
            first = _Deadline(_now() + first_s, "first-token", f"no first token within {first_s:.3g} s", trips)
            async with self._reply(path, body, first) as response:
                await _require_stream(response, first)
                yield self._events(response, first, end)

    async def get(self, path: str, limit_s: float = 5.0, *, of_server: bool = False) -> Any:
        """What the server says of itself, such as ``/models``; None where it does not. ``of_server``: a path beside ``/v1``."""
        deadline = _Deadline(_now() + limit_s, "timeout", "")
        address = (self.url.removesuffix("/v1") if of_server else self.url) + path
        try:
            response = await deadline.within(self._sessions[0].get(address, allow_redirects=False))
            async with response:
                return orjson.loads(await deadline.within(_bounded(response))) if response.status == 200 else None
        except (UpstreamError, ValueError, RecursionError):
            return None

    @asynccontextmanager
    async def _reply(self, path: str, body: dict[str, Any], deadline: _Deadline) -> AsyncIterator[aiohttp.ClientResponse]:
        response = await deadline.within(self._sent(path, body))
        try:
            yield response
        finally:
            # A reply that was not read to its end is cut off, so that the server stops writing.
            response.close()

    async def _sent(self, path: str, body: dict[str, Any]) -> aiohttp.ClientResponse:
        (pooled, fresh), kept = self._sessions, list[bool]()
        try:
            data = orjson.dumps(body)
        except TypeError:
            raise BadRequestError("the body is nested too deeply, or holds numbers that are too large") from None
        try:
            return await pooled.post(self.url + path, data=data, allow_redirects=False, trace_request_ctx=kept)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # Only of a kept connection, which the server may have closed while it was idle. Otherwise it has read the request, and may have failed because of it.
            if not kept:
                raise
            return await fresh.post(self.url + path, data=data, allow_redirects=False)

    async def _events(self, response: aiohttp.ClientResponse, deadline: _Deadline, end: float) -> AsyncIterator[Event]:
        between_s = self._params.between_tokens_s
        events, before, begun = Events(), list[Event](), False
        more = True
        while more:
            part = await deadline.within(response.content.readany())
            more = bool(part)
            for event in events.feed(part) if more else events.end():
                if event.error is not None:
                    raise UpstreamError("error-object", f"an error in the stream: {event.error[:200]}")
                if event.done and not begun:
                    raise UpstreamError("empty", "the stream ended without text", trips=False)
                begun = begun or event.has_content
                before.append(event)
                if begun:
                    for each in before:
                        yield each
                    before.clear()
                if event.has_content:
                    # After the caller took it: a slow caller is no stall.
                    ends = end < _now() + between_s
                    detail = "the stream took too long" if ends else f"no next token within {between_s:g} s"
                    deadline = _Deadline(end if ends else _now() + between_s, "stalled", detail, not ends)
                if event.done:
                    return
        raise UpstreamError("broke-off" if begun else "empty", "the stream ended without its last event")

    def _judged(self, ticket: Ticket | None) -> _Judged:
        return _Judged(self, ticket, self._clock)


class _Judged:
    """Counts how one attempt ended, when it has ended: a stream that stalls in the middle is a failure, although its status was 200."""

    def __init__(self, upstream: Upstream, ticket: Ticket | None, clock: Clock) -> None:
        self._upstream, self._ticket, self._clock = upstream, ticket, clock

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, UpstreamError):
            self._upstream.lost += error.kind in ("unreachable", "broke-off")
        if self._ticket is None:
            return
        breaker = self._upstream.breaker
        if error is None:
            breaker.succeeded(self._ticket)
        elif isinstance(error, UpstreamError) and error.trips:
            breaker.failed(self._ticket, self._clock())
        else:
            breaker.released(self._ticket)


@dataclass(frozen=True, slots=True)
class _Deadline:
    """A point in time until which a server must answer, and the error if it does not. Time that the caller takes does not count."""

    at: float
    kind: str
    detail: str
    trips: bool = True

    async def within(self, reading: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout_at(self.at):
                return await reading
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UpstreamError("unreachable", f"no connection ({type(error).__name__})") from None
        except TimeoutError:
            raise UpstreamError(self.kind, self.detail, trips=self.trips) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UpstreamError("broke-off", f"the connection ended ({type(error).__name__}: {_start(str(error).encode())})") from None


def _kept_connections() -> aiohttp.TraceConfig:
    """Notes in the list that comes with a request whether its connection was a kept one."""

    async def note(session: aiohttp.ClientSession, context: Any, params: aiohttp.TraceConnectionReuseconnParams) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx.append(True)

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(note)
    return trace


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _require_stream(response: aiohttp.ClientResponse, deadline: _Deadline) -> None:
    if response.status == 200 and response.content_type == "text/event-stream":
        return
    text = await deadline.within(_bounded(response))
    if (problem := _unwanted(response, text)) is not None:
        raise problem
    if response.status >= 400:
        raise _refused(response.status, text)
    raise UpstreamError("malformed", f"status {response.status} and no stream: {_start(text)}")


def _unwanted(response: aiohttp.ClientResponse, body: bytes) -> UpstreamError | None:
    """The failure of a server that says itself that it failed, or that has too much to do; None for another status."""
    status = response.status
    if 400 <= status < _TRIPS_FROM and status not in (*_BUSY, *_OURS):
        return None
    kind = "busy" if status in _BUSY else "redirect" if 300 <= status < 400 else "setup" if status in _OURS else "status"
    after = response.headers.get("Retry-After")
    # What a server says of a wrong key may quote a part of it.
    said = "" if status in (401, 403) else f": {_start(body)}"
    return UpstreamError(kind, f"status {status}{said}", status=status, body=body, retry_after=after)


def _refused(status: int, body: bytes) -> UpstreamError:
    """The server works, and does not want this request."""
    return UpstreamError("refused", f"status {status}: {_start(body)}", trips=False, status=status, body=body)


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    while part := await response.content.readany():
        size += len(part)
        if size > _MOST_BYTES:
            raise UpstreamError("malformed", f"the reply is larger than {_MOST_BYTES >> 20} MB")
        parts.append(part)
    return b"".join(parts)


def _start(text: bytes) -> str:
    return " ".join(text[:2000].decode("utf-8", "replace").split())[:200]
