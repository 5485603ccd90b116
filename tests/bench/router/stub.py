"""The models' server of the benchmarks, in a process of its own: answers at once, with what vLLM would send for a record of eight tokens.

``python -m tests.bench.router.stub PORT``
"""

from __future__ import annotations

import json
import sys

from aiohttp import web

_WORDS = (" card", ";", " urgent", ";", " amount", "=", "650", "<|im_end|>")
_TEXT = " card; urgent; amount=650"


def _reply(*, logprobs: bool) -> bytes:
    listed = None
    if logprobs:
        values = [-0.01 - 0.001 * n for n in range(len(_WORDS))]
        tops = [{word: value, **{f" other{n}": -4.0 - 0.37 * n for n in range(19)}} for word, value in zip(_WORDS, values, strict=True)]
        offsets = [sum(map(len, _WORDS[:n])) for n in range(len(_WORDS))]
        listed = {"tokens": _WORDS, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}
    choice = {"index": 0, "text": _TEXT, "finish_reason": "stop", "stop_reason": None, "logprobs": listed}
    usage = {"prompt_tokens": 32, "completion_tokens": 8, "total_tokens": 40}
    return json.dumps(
        {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    ).encode()


def _chat() -> bytes:
    """For proxies that pass a chat on as it is."""
    message = {"role": "assistant", "content": _TEXT}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 32, "completion_tokens": 8, "total_tokens": 40}
    return json.dumps(
        {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    ).encode()


REPLIES = {flag: _reply(logprobs=flag) for flag in (False, True)}
CHAT = _chat()


async def answer(request: web.Request) -> web.Response:
    body = await request.read()
    if request.path.endswith("/chat/completions"):
        return web.Response(body=CHAT, content_type="application/json")
    return web.Response(body=REPLIES[b'"logprobs":20' in body.replace(b" ", b"")], content_type="application/json")


async def take(request: web.Request) -> web.Response:
    """A collector of traces that takes everything."""
    await request.read()
    return web.Response()


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post("/v1/completions", answer)
    app.router.add_post("/v1/chat/completions", answer)
    app.router.add_post("/v1/traces", take)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
