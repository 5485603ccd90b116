"""Sends one response. Until the first byte has gone out, another model can still answer; after it, a failure is told inside the stream."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from redistill.serving.router.decision import Decision
from redistill.serving.router.sse import frame
from redistill.serving.router.types import Asked, Completion, UpstreamError
from redistill.serving.router.written import Written, error_body

WARNING_HEADER = "X-Redistill-Warning"


class Sending:
    """``response`` is None until the first byte goes out."""

    def __init__(self, request: web.Request, asked: Asked, decision: Decision) -> None:
        self._request, self._asked, self.decision = request, asked, decision
        self.response: web.StreamResponse | None = None
        self.warning = ""

    @property
    def begun(self) -> bool:
        return self.response is not None

    async def completion(self, completion: Completion, model: str) -> web.StreamResponse:
        """A whole completion: as JSON, or as the stream that the caller asked for."""
        written = Written(self._asked, model, self.decision.id)
        tokens = completion.usage.get("completion_tokens")
        self.decision.tokens = tokens if type(tokens) is int else None
        if not self._asked.stream:
            return self.body(orjson.dumps(written.whole(completion)), 200)
        response = await self.begin()
        await response.write(b"".join(written.frames(completion)))
        return await self.end()

    def body(self, content: bytes, status: int, headers: dict[str, str] | None = None) -> web.Response:
        """A response in one piece, of JSON."""
        self.decision.sent(status)
        self.decision.ended = "done" if status == 200 else "error"
        response = web.Response(
            body=content, status=status, content_type="application/json", headers={**self._headers(), **(headers or {})}
        )
        self.response = response
        return response

    def error(self, status: int, message: str, kind: str, headers: dict[str, str] | None = None) -> web.Response:
        return self.body(orjson.dumps(error_body(message, kind)), status, headers)

    async def begin(self) -> web.StreamResponse:
        """Send the head of a stream."""
        self.decision.sent(200)
        headers = {**self._headers(), "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        self.response = web.StreamResponse(status=200, headers=headers)
        await self.response.prepare(self._request)
        return self.response

    async def broken(self, message: str, ended: str) -> None:
        """Say in the stream that it ends here. It has no last event, so no client takes it for whole."""
        assert self.response is not None
        self.decision.ended = ended
        await self.response.write(frame(error_body(message, "upstream_error", "stream_broken")))
        await self.response.write_eof()

    async def end(self) -> web.StreamResponse:
        assert self.response is not None
        self.decision.ended = "done"
        await self.response.write_eof()
        return self.response

    def _headers(self) -> dict[str, str]:
        return {**self.decision.headers, **({WARNING_HEADER: self.warning} if self.warning else {})}


def read_raw(body: bytes) -> bytes:
    """A reply that is passed on as it is, after a look that it is no error in disguise.

    Raises:
        UpstreamError: it is.
    """
    try:
        tree: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UpstreamError("malformed", "the reply is not JSON") from None
    if not isinstance(tree, dict) or tree.get("error") is not None or not tree.get("choices"):
        raise UpstreamError("error-object", "status 200 with an error, or without choices")
    return body
