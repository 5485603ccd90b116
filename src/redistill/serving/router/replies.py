"""Reads what a model's server answers: a whole completion, or one part of a stream."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter
from typing import Any

import orjson

from redistill.models.token_trace import TokenTrace
from redistill.serving.router.types import Completion, UpstreamError
from redistill.teacher.endings import broken_off, ending

_NUMBERS, _INFINITE, _value = (float, int), math.inf, itemgetter(1)
_FLOAT, _LARGEST = frozenset((float,)), 1e-3
_WRONG = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


def read_completion(body: bytes) -> Completion:
    """The completion in a reply of status 200.

    Raises:
        UpstreamError: it is an error, no JSON, no text, or empty.
    """
    try:
        tree = orjson.loads(body)
        if tree.get("error") is not None:
            raise UpstreamError("error-object", f"status 200 with an error: {_short(tree['error'])}")
        choice = tree["choices"][0]
        message = choice.get("message")
        text = choice["text"] if message is None else message.get("content")
        if text is None and message is not None and (message.get("refusal") or choice.get("finish_reason") == "content_filter"):
            raise UpstreamError("empty", "the model refuses to complete it", trips=False)
        if not isinstance(text, str):
            raise TypeError("the completion is not text")
        usage, listed = tree.get("usage"), choice.get("logprobs")
        completion = Completion(
            text,
            str(choice.get("finish_reason")),
            usage if isinstance(usage, dict) else {},
            trace_of(text, listed),
            listed if isinstance(listed, dict) else None,
        )
    except _WRONG as error:
        raise UpstreamError("malformed", f"no completion in the reply ({type(error).__name__}: {_short(error)})") from None
    if not text.strip():
        # It may be what the request asks for, so it says nothing about the server.
        raise UpstreamError("empty", "an empty completion", trips=False)
    if broken_off(ending(completion.finish)):
        raise UpstreamError("error-object", f"the completion ended with {_short(completion.finish)}")
    return completion


def trace_of(text: str, listed: Any) -> TokenTrace | None:
    """What a completion's scores are computed from; None where the server listed no logprobs, or listed nonsense.

    A value that is no number, or not finite, makes the whole trace unusable: a server that cannot say how sure it was says nothing.
    """
    if not isinstance(listed, dict):
        return None
    try:
        tokens, chosen, tops = _columns(listed)
    except _WRONG:
        return None
    if not tokens or not len(tokens) == len(chosen) == len(tops) or not all(map(_is_logprob, chosen)):
        return None
    top = tuple(tuple(sorted(_usable(row), key=_value, reverse=True)) for row in tops)
    if not all(top):
        return None
    # An end token is listed by its name, and has no characters in the text.
    ends = tuple(min(end, len(text)) for end in accumulate(map(len, tokens)))
    return TokenTrace(text, ends, tuple(chosen), top)


def _columns(listed: dict[str, Any]) -> tuple[list[str], list[float], list[list[tuple[str, float]]]]:
    """Tokens, logprobs, and the listed ones of each position. A chat lists one entry a token, a completion columns."""
    if "content" in listed:
        entries = listed["content"] or []
        tops = [[(t["token"], t["logprob"]) for t in entry.get("top_logprobs") or ()] for entry in entries]
        return [entry["token"] for entry in entries], [entry["logprob"] for entry in entries], tops
    tops = [list((row or {}).items()) for row in listed.get("top_logprobs") or ()]
    return list(listed["tokens"]), list(listed["token_logprobs"]), tops


def _usable(row: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The pairs whose value is a log-probability. Almost always all are, which a look at their sum and their largest shows at once."""
    values = [value for _, value in row]
    if _FLOAT.issuperset(map(type, values)) and math.isfinite(sum(values)) and max(values, default=0.0) <= _LARGEST:
        return row
    return [pair for pair in row if _is_logprob(pair[1])]


def _is_logprob(value: Any) -> bool:
    # By type, since a boolean is an int too. Of a reply with 20 tokens at each position this is asked hundreds of times.
    return type(value) in _NUMBERS and -_INFINITE < value <= _LARGEST


def logprobs_for(endpoint: str, listed: dict[str, Any] | None, count: int) -> dict[str, Any] | None:
    """Listed logprobs as the caller's endpoint spells them, with ``count`` of the most likely tokens."""
    if listed is None:
        return None
    try:
        tokens, chosen, tops = _columns(listed)
    except _WRONG:
        return None
    tops = [row for row in tops if all(_is_logprob(value) for _, value in row)]
    if not all(map(_is_logprob, chosen)) or len(chosen) != len(tokens) or len(tops) not in (0, len(tokens)):
        return None
    tops = [sorted(row, key=_value, reverse=True)[:count] for row in tops] or [[] for _ in tokens]
    if endpoint == "completions":
        offsets = [0, *accumulate(map(len, tokens))][:-1]
        return {"tokens": tokens, "token_logprobs": chosen, "top_logprobs": [dict(row) for row in tops], "text_offset": offsets}
    return {
        "content": [
            {**_entry(token, value), "top_logprobs": [_entry(*pair) for pair in row]}
            for token, value, row in zip(tokens, chosen, tops, strict=True)
        ]
    }


def _entry(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "replace"))}


@dataclass(frozen=True, slots=True)
class Part:
    """What one event of a stream adds."""

    text: str = ""
    finish: str = ""
    usage: dict[str, Any] | None = None
    logprobs: dict[str, Any] | None = None


def read_part(data: dict[str, Any]) -> Part:
    """What one event of a stream says; a count of tokens may come in an event without choices."""
    usage = data.get("usage") if isinstance(data.get("usage"), dict) else None
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return Part(usage=usage)
    choice = choices[0]
    inner = choice.get("delta")
    delta = inner if isinstance(inner, dict) else choice
    text = delta.get("content") or delta.get("text") or ""
    listed = choice.get("logprobs")
    return Part(
        text if isinstance(text, str) else "", str(choice.get("finish_reason") or ""), usage, listed if isinstance(listed, dict) else None
    )


def _short(what: Any) -> str:
    return " ".join(str(what).split())[:200]
