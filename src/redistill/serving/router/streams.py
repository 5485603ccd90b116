"""Passes a stream on while a model writes it: rewritten for the caller's endpoint, or as it came.

An error after the first text is told inside the stream, and raised again, so that it counts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from redistill.serving.router.replies import read_part
from redistill.serving.router.sending import Sending
from redistill.serving.router.sse import Event
from redistill.serving.router.types import Completion, UpstreamError
from redistill.serving.router.written import Written
from redistill.teacher.reasoning import may_be_reasoning, split_reasoning


async def rewritten(events: AsyncIterator[Event], written: Written, sending: Sending, model: str) -> tuple[web.StreamResponse, Completion]:
    """Write a stream as the caller's endpoint does, without reasoning at its start; returns the response, and the whole completion.

    Raises:
        UpstreamError: the model failed; the caller knows if anything had been sent.
    """
    finish, usage, texts, lead, response = "stop", dict[str, Any](), list[str](), "", None
    try:
        async for event in events:
            part = read_part(event.data or {})
            usage, finish = part.usage or usage, part.finish or finish
            text = part.text
            if not texts:
                lead += text
                if lead.strip() == "" or may_be_reasoning(lead):
                    continue
                text = split_reasoning(lead)[1].lstrip()
            if not text:
                continue
            if response is None:
                response = await sending.begin()
                await response.write(b"".join(written.begin()))
            texts.append(text)
            await response.write(written.part(text, written.listed(part.logprobs)))
    except UpstreamError as error:
        await _tell(sending, error, model)
        raise
    if response is None:
        raise UpstreamError("empty", "the stream has no text", trips=False)
    tokens = usage.get("completion_tokens")
    sending.decision.tokens = tokens if type(tokens) is int else None
    await response.write(b"".join(written.end(finish, usage)))
    return await sending.end(), Completion("".join(texts).strip(), finish, usage)


async def passed_on(events: AsyncIterator[Event], sending: Sending, model: str) -> web.StreamResponse:
    """Send the events of a stream as they came. Comments and events that are not JSON are left out, because clients fail on them.

    Raises:
        UpstreamError: as ``rewritten``.
    """
    response = None
    try:
        async for event in events:
            if event.data is None and not event.done:
                continue
            response = response or await sending.begin()
            await response.write(event.raw)
    except UpstreamError as error:
        await _tell(sending, error, model)
        raise
    return await sending.end()


async def _tell(sending: Sending, error: UpstreamError, model: str) -> None:
    if sending.begun:
        await sending.broken(f"the {model} stopped in the middle: {error.detail}", error.kind)
