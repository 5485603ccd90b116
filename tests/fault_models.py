"""A models' server with faults: the name of the model chooses what goes wrong. ``python -m tests.fault_models PORT`` serves it.

``ok``, or ``ok:TEXT:LOGPROB``, answers as vLLM does. ``closes-second`` closes the connection of the second request, as a server does with an idle one. In streams, a fault that ends in ``-late`` comes after the first text.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiohttp import web

TOKENS = 3
_HANG_S = 30.0
FAULTS = (
    "slow-headers",
    "slow-first",
    "role-only",
    "stall-late",
    "reset",
    "reset-late",
    "ends-early",
    "ends-early-late",
    "wrong-length",
    "long-line",
    "error-200",
    "error-200-late",
    "not-json",
    "empty",
    "status-500",
    "status-429",
    "redirect",
)
"""Each of them leaves a caller without a completion."""


class FaultModels:
    """``asked`` counts requests by model, ``bodies`` keeps the last one, ``cancelled`` counts those that the caller closed."""

    def __init__(self, listed: tuple[str, ...] = ("ok",)) -> None:
        self.listed = listed
        self.asked: Counter[str] = Counter()
        self.bodies: dict[str, dict[str, Any]] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.cancelled = 0
        self.open = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/chat/completions", self._handler(chat=True))
        app.router.add_post("/v1/completions", self._handler(chat=False))
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/version", self._version)
        return app

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model", "owned_by": "vllm"} for name in self.listed]})

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "0.32.0"})

    def _handler(self, *, chat: bool) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            tree = json.loads(body)
            name = tree["model"]
            self.asked[name] += 1
            self.bodies[name], self.headers[name] = tree, dict(request.headers)
            self.open += 1
            try:
                return await _Reply(request, tree, chat=chat, count=self.asked[name]).sent()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            finally:
                self.open -= 1

        return handle


class _Reply:
    def __init__(self, request: web.Request, body: dict[str, Any], *, chat: bool, count: int) -> None:
        self._request, self._body, self._chat, self._count = request, body, chat, count
        self._fault, _, rest = str(body["model"]).partition(":")
        text, _, logprob = rest.partition(":")
        self._text, self._logprob = text or "card", float(logprob or -0.01)
        if self._fault.startswith("flaky-"):
            self._fault = "ok" if count % int(self._fault.removeprefix("flaky-")) == 0 else "status-500"

    async def sent(self) -> web.StreamResponse:
        fault = self._fault
        if fault == "closes-second" and self._count == 2:
            self._abort()
        if fault == "slow-headers":
            await asyncio.sleep(_HANG_S)
        if fault.startswith("status-"):
            status = int(fault.removeprefix("status-"))
            headers = {"Retry-After": "7"} if status == 429 else {}
            return web.json_response({"error": {"message": f"status {status}", "code": status}}, status=status, headers=headers)
        if fault == "redirect":
            return web.Response(status=307, headers={"Location": "http://127.0.0.1:1/v1/completions"})
        return await (self._stream() if self._body.get("stream") else self._whole())

    async def _whole(self) -> web.StreamResponse:
        fault = self._fault
        if fault in ("slow-first", "role-only", "stall-late"):
            await asyncio.sleep(_HANG_S)
        if fault in ("reset", "reset-late", "ends-early", "ends-early-late"):
            self._abort()
        if fault == "not-json":
            return web.Response(text="<html>it works</html>", content_type="text/html")
        if fault.startswith("error-200"):
            return web.json_response({"error": {"message": "out of memory", "type": "server_error"}})
        if fault == "wrong-length":
            response = web.StreamResponse(headers={"Content-Length": "100000", "Content-Type": "application/json"})
            await response.prepare(self._request)
            await response.write(b'{"choices": [')
            self._abort()
        text = "" if fault == "empty" else self._text
        if fault == "long-line":
            return web.Response(body=b'{"choices": [{"text": "' + b"x" * (40 << 20) + b'"}]}', content_type="application/json")
        response = web.json_response(self._tree(text))
        if fault == "gzip":
            response.enable_compression(web.ContentCoding.gzip)
        return response

    def _tree(self, text: str) -> dict[str, Any]:
        lead = "" if self._chat or not text else " "
        listed = self._listed(lead + text) if self._body.get("logprobs") is not None else None
        if self._chat:
            choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        else:
            choice = {"index": 0, "text": lead + text, "finish_reason": "stop"}
        choice["logprobs"] = listed
        usage = {"prompt_tokens": 9, "completion_tokens": TOKENS, "total_tokens": 9 + TOKENS}
        kind = "chat.completion" if self._chat else "text_completion"
        return {"id": "1", "object": kind, "created": 1, "model": self._body["model"], "choices": [choice], "usage": usage}

    def _listed(self, text: str) -> dict[str, Any]:
        value: Any = None if self._fault == "null-logprobs" else self._logprob
        if self._chat:
            entry = {"token": text, "logprob": value, "bytes": None}
            return {"content": [{**entry, "top_logprobs": [entry, {**entry, "token": "other", "logprob": -4.0}]}]}
        tops = None if self._fault == "no-top-logprobs" else [{text: value, " other": -4.0}, {"<|end|>": value, "\n": -4.0}]
        return {"tokens": [text, "<|end|>"], "token_logprobs": [value, value], "top_logprobs": tops, "text_offset": [0, len(text)]}

    async def _stream(self) -> web.StreamResponse:
        fault = self._fault
        response = web.StreamResponse(headers={"Content-Type": "text/html" if fault == "not-json" else "text/event-stream"})
        await response.prepare(self._request)
        with suppress(ConnectionResetError):
            await self._events(response)
        return response

    async def _events(self, response: web.StreamResponse) -> None:
        fault, text = self._fault, "" if self._fault == "empty" else self._text
        if fault == "slow-first":
            await asyncio.sleep(_HANG_S)
        await response.write(b": keep-alive\n\n")
        if self._chat:
            await response.write(self._event({"delta": {"role": "assistant", "content": ""}}))
        if fault == "role-only":
            for _ in range(200):
                await response.write(b": keep-alive\n\n")
                await asyncio.sleep(0.05)
        if fault == "long-line":
            await response.write(b"data: " + b"x" * (10 << 20))
        await self._break(response, "")
        if fault == "tools":
            deltas = [{"index": 0, "id": "a", "function": {"name": "f"}}, {"index": 0, "function": {"arguments": "{}"}}]
            await response.write(self._event({"delta": {"tool_calls": deltas}}))
        for n, piece in enumerate([text[: len(text) // 2], text[len(text) // 2 :]]):
            if piece:
                lead = " " if n == 0 and not self._chat else ""
                listed = self._listed(lead + piece) if self._body.get("logprobs") is not None else None
                choice = {"delta": {"content": piece}} if self._chat else {"text": lead + piece}
                await response.write(self._event({**choice, "logprobs": listed}))
            if n == 0:
                if fault == "bad-event":
                    await response.write(b"data: {broken\n\n")
                await self._break(response, "-late")
        await response.write(self._event({**({"delta": {}} if self._chat else {"text": ""}), "finish_reason": "stop"}))
        if self._body.get("stream_options"):
            usage = {"prompt_tokens": 9, "completion_tokens": TOKENS, "total_tokens": 9 + TOKENS}
            await response.write(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")

    async def _break(self, response: web.StreamResponse, when: str) -> None:
        fault = self._fault
        if fault == f"stall{when}":
            await asyncio.sleep(_HANG_S)
        if fault == f"reset{when}" or (fault == "wrong-length" and not when):
            self._abort()
        if fault == f"ends-early{when}":
            await response.write_eof()
            raise ConnectionResetError
        if fault == f"error-200{when}":
            await response.write(b'data: {"error": {"message": "out of memory"}}\n\n')
            await response.write_eof()
            raise ConnectionResetError

    def _event(self, choice: dict[str, Any]) -> bytes:
        tree = {"id": "1", "object": "chunk", "created": 1, "model": self._body["model"]}
        return b"data: " + json.dumps({**tree, "choices": [{"index": 0, "finish_reason": None, **choice}]}).encode() + b"\n\n"

    def _abort(self) -> None:
        transport = self._request.transport
        assert transport is not None
        transport.abort()  # type: ignore[attr-defined]
        raise ConnectionResetError


if __name__ == "__main__":
    names = tuple(sys.argv[2:]) or ("ok",)
    web.run_app(FaultModels(names).app(), host="127.0.0.1", port=int(sys.argv[1]), handler_cancellation=True, print=None, access_log=None)
