"""Writes a completion as the caller's endpoint does: as one JSON object, or as the frames of a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from redistill.serving.router.replies import logprobs_for
from redistill.serving.router.shown import listed_count
from redistill.serving.router.sse import DONE, frame
from redistill.serving.router.types import Asked, Completion


@dataclass(frozen=True, slots=True)
class Written:
    """One response. ``model`` names what answered."""

    asked: Asked
    model: str
    id: str
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def _chat(self) -> bool:
        return self.asked.endpoint == "chat"

    def whole(self, completion: Completion) -> dict[str, Any]:
        finish, listed = _finish(completion.finish), self._logprobs(completion)
        if self._chat:
            message = {"role": "assistant", "content": completion.text, "refusal": None}
            choice = {"index": 0, "message": message, "logprobs": listed, "finish_reason": finish}
        else:
            choice = {"index": 0, "text": completion.text, "logprobs": listed, "finish_reason": finish}
        return {
            **self._head("chat.completion" if self._chat else "text_completion"),
            "choices": [choice],
            "usage": _usage(completion.usage),
        }

    def frames(self, completion: Completion) -> Iterator[bytes]:
        """A whole completion as a stream."""
        yield from self.begin()
        yield self.part(completion.text, self._logprobs(completion))
        yield from self.end(completion.finish, completion.usage)

    def begin(self) -> Iterator[bytes]:
        if self._chat:
            yield self._chunk({"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None})

    def part(self, text: str, listed: dict[str, Any] | None = None) -> bytes:
        return self._chunk({**({"delta": {"content": text}} if self._chat else {"text": text}), "logprobs": listed, "finish_reason": None})

    def end(self, finish: str, usage: dict[str, Any]) -> Iterator[bytes]:
        yield self._chunk({**({"delta": {}} if self._chat else {"text": ""}), "logprobs": None, "finish_reason": _finish(finish)})
        if self.asked.counts_usage:
            yield frame({**self._stream_head(), "choices": [], "usage": _usage(usage)})
        yield DONE

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return frame({**self._stream_head(), "choices": [{"index": 0, **choice}]})

    def _stream_head(self) -> dict[str, Any]:
        return self._head("chat.completion.chunk" if self._chat else "text_completion")

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": f"{'chatcmpl' if self._chat else 'cmpl'}-{self.id}", "object": kind, "created": self.created, "model": self.model}

    def _logprobs(self, completion: Completion) -> dict[str, Any] | None:
        return self.listed(completion.logprobs)

    def listed(self, logprobs: dict[str, Any] | None) -> dict[str, Any] | None:
        """What the caller asked for of the log-probabilities that a server listed."""
        count = listed_count(self.asked.body)
        return None if count is None else logprobs_for(self.asked.endpoint, logprobs, count)


def _finish(reason: str) -> str:
    """The reason as OpenAI's interface knows it."""
    return reason if reason in ("stop", "length", "tool_calls", "content_filter", "function_call") else "stop"


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    prompt, completion = (value if type(value := usage.get(key)) is int else 0 for key in ("prompt_tokens", "completion_tokens"))
    return {**usage, "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def error_body(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's interface spells it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
