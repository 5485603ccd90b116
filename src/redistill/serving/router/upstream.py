"""One model's server: asks it within limits, and says in one word what went wrong. A failure is the caller's to handle: nothing is asked twice."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, TypeVar

import orjson

from redistill.serving.params import ServeParams
from redistill.serving.router.breaker import Breaker, Ticket
from redistill.serving.router.deadline import Deadline, now
from redistill.serving.router.http_client import Client
from redistill.serving.router.http_reply import Reply
from redistill.serving.router.refusals import bounded, refused, start_of, unwanted
from redistill.serving.router.sse import Event, Events
from redistill.serving.router.trace_context import CURRENT, AttemptTrace
from redistill.serving.router.types import BadRequestError, Limit, Side, UpstreamError

Clock = Callable[[], float]
_T = TypeVar("_T")


class Upstream:
    """``url`` ends before ``/chat/completions``. ``key`` is sent as a bearer token; empty for none. ``lost`` counts connections that failed: it may be another server now."""

    def __init__(self, side: Side, url: str, key: str, params: ServeParams, clock: Clock = time.monotonic) -> None:
        self.side, self.url, self.dtype = side, url.rstrip("/"), str(params.student_dtype)
        self.breaker, self._clock, self._params = Breaker(params.breaker_failures, params.breaker_s), clock, params
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self.client = Client(self.url, headers, params.connect_s)
        self.lost = 0

    async def __aenter__(self) -> Upstream:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.client.close()

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
        with self._judged(ticket, path, body) as attempt:
            deadline = Deadline(now() + limit.seconds, "timeout", f"no completion within {limit.seconds:.3g} s", not limit.callers)
            text = await deadline.within(self._read(path, body, attempt))
            try:
                reply = read(text)
            except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
                raise UpstreamError("malformed", f"the reply cannot be read ({type(error).__name__})") from None
            if attempt is not None:
                attempt.replied(reply)
            return reply

    async def _read(self, path: str, body: dict[str, Any], attempt: AttemptTrace | None) -> bytes:
        """The body of a reply of status 200."""
        response = await self._sent(path, body, attempt)
        try:
            text = await bounded(response)
            if response.status != 200:
                raise unwanted(response, text) or refused(response.status, text)
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
        with self._judged(ticket, path, body) as attempt:
            first_s, end = min(self._params.first_token_s, limit.seconds), now() + limit.seconds
            trips = not limit.callers or first_s < limit.seconds
            first = Deadline(now() + first_s, "first-token", f"no first token within {first_s:.3g} s", trips)
            async with self._reply(path, body, first, attempt) as response:
                await _require_stream(response, first)
                yield self._events(response, first, end, attempt)

    async def get(self, path: str, limit_s: float = 5.0, *, of_server: bool = False) -> Any:
        """What the server says of itself, such as ``/models``; None where it does not. ``of_server``: a path beside ``/v1``."""
        deadline = Deadline(now() + limit_s, "timeout", "")
        try:
            response = await deadline.within(self.client.send("GET", path, beside=of_server))
            try:
                return orjson.loads(await deadline.within(bounded(response))) if response.status == 200 else None
            finally:
                response.close()
        except (UpstreamError, ValueError, RecursionError):
            return None

    @asynccontextmanager
    async def _reply(self, path: str, body: dict[str, Any], deadline: Deadline, attempt: AttemptTrace | None) -> AsyncIterator[Reply]:
        response = await deadline.within(self._sent(path, body, attempt))
        try:
            yield response
        finally:
            # A reply that was not read to its end is cut off, so that the server stops writing.
            response.close()

    async def _sent(self, path: str, body: dict[str, Any], attempt: AttemptTrace | None) -> Reply:
        try:
            data = orjson.dumps(body)
        except TypeError:
            raise BadRequestError("the body is nested too deeply, or holds numbers that are too large") from None
        return await self.client.send("POST", path, data, attempt.headers if attempt is not None else None)

    async def _events(self, response: Reply, deadline: Deadline, end: float, attempt: AttemptTrace | None) -> AsyncIterator[Event]:
        between_s = self._params.between_tokens_s
        events, before, begun = Events(), list[Event](), False
        more = True
        while more:
            part = await deadline.within(response.part())
            more = bool(part)
            for event in events.feed(part) if more else events.end():
                if event.error is not None:
                    raise UpstreamError("error-object", f"an error in the stream: {event.error[:200]}")
                if attempt is not None and event.data is not None:
                    attempt.event(event.data)
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
                    ends = end < now() + between_s
                    detail = "the stream took too long" if ends else f"no next token within {between_s:g} s"
                    deadline = Deadline(end if ends else now() + between_s, "stalled", detail, not ends)
                if event.done:
                    return
        raise UpstreamError("broke-off" if begun else "empty", "the stream ended without its last event")

    def _judged(self, ticket: Ticket | None, path: str, body: dict[str, Any]) -> _Judged:
        trace = CURRENT.get()
        attempt = trace.attempt(self.side, self.url, path, body) if trace is not None else None
        return _Judged(self, ticket, self._clock, attempt)


class _Judged:
    """Counts how one attempt ended, when it has ended: a stream that stalls in the middle is a failure, although its status was 200."""

    def __init__(self, upstream: Upstream, ticket: Ticket | None, clock: Clock, attempt: AttemptTrace | None) -> None:
        self._upstream, self._ticket, self._clock, self._attempt = upstream, ticket, clock, attempt

    def __enter__(self) -> AttemptTrace | None:
        return self._attempt

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._attempt is not None:
            self._attempt.end(error)
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


async def _require_stream(response: Reply, deadline: Deadline) -> None:
    if response.status == 200 and (response.header("Content-Type") or "").partition(";")[0].strip().lower() == "text/event-stream":
        return
    text = await deadline.within(bounded(response))
    if (problem := unwanted(response, text)) is not None:
        raise problem
    if response.status >= 400:
        raise refused(response.status, text)
    raise UpstreamError("malformed", f"status {response.status} and no stream: {start_of(text)}")
