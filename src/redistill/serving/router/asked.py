"""Reads a caller's request: as a prompt of the task, or with the reason why it is none.

The student was trained on one kind of request. Whatever is of another kind goes to the teacher as it is: tools, images, several completions, another system
message, a longer text. What changes nothing for the student passes, also fields that are not known here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from redistill.data.params import DataParams
from redistill.data.types import Column, Message, Prompt
from redistill.errors import DataError
from redistill.serving.router.types import Asked, BadRequestError, Endpoint

OURS = "redistill"
"""The key of a body that is meant for the router alone: ``{"slice": …, "columns": {…}, "key": …}``."""
ROUTE_HEADER, DEADLINE_HEADER = "X-Redistill-Route", "X-Redistill-Deadline-S"
_CLIENTS_TIMEOUT = "X-Stainless-Read-Timeout"
"""How long OpenAI's own client waits, as it says itself."""
_KEYS = ("prompt_cache_key", "safety_identifier", "user")
"""Fields of OpenAI's interface that name a caller, in the order in which they are used."""
_UNLIKE = {
    "tools": "it has tools",
    "functions": "it has tools",
    "tool_choice": "it has tools",
    "function_call": "it has tools",
    "response_format": "it asks for a format",
    "structured_outputs": "it asks for a format",
    "guided_json": "it asks for a format",
    "audio": "it asks for audio",
    "prediction": "it has a prediction",
    "reasoning_effort": "it asks for reasoning",
    "logit_bias": "it changes probabilities",
    "suffix": "it has a suffix",
    "echo": "it asks for its prompt",
    "web_search_options": "it asks for a search",
    "chat_template": "it has a template",
    "chat_template_kwargs": "it has settings of a template",
    "prompt_logprobs": "it asks for probabilities of its prompt",
    "use_beam_search": "it asks for beam search",
}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tool_choice": ("none",),
    "response_format": ({"type": "text"},),
    "n": (1,),
    "best_of": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
}
"""Values with which a field changes nothing."""
_MANY = {"n": "it asks for several completions", "best_of": "it asks for several completions"}
_PENALTIES = ("presence_penalty", "frequency_penalty", "repetition_penalty")
_SLICE = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


@dataclass(frozen=True, slots=True)
class Trained:
    """On which requests the student was trained.

    ``max_chars`` is the longest text; ``systems`` are digests of the system messages that rows had; ``turns`` is the largest number of other messages.
    """

    data: DataParams
    max_chars: int
    systems: frozenset[str] = frozenset()
    turns: int = 1


def system_digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read_asked(endpoint: Endpoint, raw: bytes, headers: Mapping[str, str], trained: Trained) -> Asked:
    """The request in a body.

    Raises:
        BadRequestError: it is no JSON object, or has no messages and no prompt.
    """
    body = _object(raw)
    extra = body.pop(OURS, None) or {}
    if not isinstance(extra, dict):
        raise BadRequestError(f"{OURS} must be an object with slice, columns and key")
    messages, why_not = _messages(endpoint, body)
    why_not = why_not or _unlike(body) or _untrained(messages, trained)
    prompt = None
    if not why_not:
        prompt, why_not = _prompt(messages, extra, trained.data)
    key = next((str(value) for value in (extra.get("key"), *(body.get(name) for name in _KEYS)) if value), "")
    return Asked(
        endpoint,
        body,
        prompt,
        why_not,
        key or (prompt.id if prompt else hashlib.sha256(raw).hexdigest()),
        _demands_teacher(headers),
        _deadline(headers),
    )


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise BadRequestError("the body is not JSON; send a JSON object as OpenAI's interface describes it") from None
    if not isinstance(body, dict):
        raise BadRequestError("the body must be a JSON object")
    return body


def _messages(endpoint: Endpoint, body: dict[str, Any]) -> tuple[tuple[Message, ...], str]:
    """The messages of a request; or why they are not text."""
    if endpoint == "completions":
        prompt = body.get("prompt")
        if prompt is None:
            raise BadRequestError("the body has no prompt")
        if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
            prompt = prompt[0]
        return ((Message("user", prompt),), "") if isinstance(prompt, str) else ((), "it has several prompts, or token ids")
    listed = body.get("messages")
    if not isinstance(listed, list) or not listed:
        raise BadRequestError("the body has no messages")
    messages = []
    for message in listed:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequestError("each message must be an object with a role and a content")
        text = _text(message.get("content"))
        if text is None or message.get("tool_calls") or message["role"] not in ("system", "developer", "user", "assistant"):
            return (), "a message holds more than text"
        messages.append(Message("system" if message["role"] == "developer" else message["role"], text))
    return tuple(messages), ""


def _text(content: Any) -> str | None:
    """The text of a message: a string, or parts that are all text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        return "\n".join(part["text"] for part in content)
    return None


def _unlike(body: dict[str, Any]) -> str:
    """Which field asks for something else than the student's completion; empty if none does."""
    for name, value in body.items():
        if value is None or value in _NEUTRAL.get(name, ()) or value is False or value in ({}, []):
            continue
        if name in _UNLIKE:
            return _UNLIKE[name]
        if name in _MANY:
            return _MANY[name]
        if name in _PENALTIES:
            return "it changes probabilities"
    return ""


def _untrained(messages: tuple[Message, ...], trained: Trained) -> str:
    systems = [m for m in messages if m.role == "system"]
    turns = [m for m in messages if m.role != "system"]
    if not turns or turns[-1].role != "user":
        return "its last message is not the user's"
    if len(systems) > 1 or (systems and messages[0].role != "system"):
        return "it has several system messages"
    if systems and system_digest(systems[0].content) not in trained.systems:
        return "it has another system message than the training rows"
    if not systems and trained.systems and system_digest("") not in trained.systems:
        return "it has no system message, and all training rows have one"
    if len(turns) > trained.turns:
        return f"it has {len(turns)} messages, and training rows have at most {trained.turns}"
    if len(turns[-1].content) > trained.max_chars:
        return f"it is longer than {trained.max_chars} characters"
    return ""


def _prompt(messages: tuple[Message, ...], extra: dict[str, Any], data: DataParams) -> tuple[Prompt | None, str]:
    """The request as a prompt of the task, or why it cannot be one."""
    given = extra.get("columns") or {}
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise BadRequestError(f"{OURS}.columns must be an object of texts")
    if missing := [name for name in data.shown_columns if name not in given]:
        return None, f"the template shows the column {missing[0]!r}, which the request does not have in {OURS}.columns"
    slice_name = extra.get("slice", "")
    if slice_name and not (isinstance(slice_name, str) and _SLICE.fullmatch(slice_name)):
        raise BadRequestError(f"{OURS}.slice must be a short text")
    columns = tuple(Column(name, given[name]) for name in data.shown_columns)
    try:
        return Prompt.of(messages, "", slice_name, None, "", None, columns), ""
    except DataError:
        return None, "it is not valid Unicode"


def _demands_teacher(headers: Mapping[str, str]) -> bool:
    route = headers.get(ROUTE_HEADER, "").strip().lower()
    if route not in ("", "auto", "teacher"):
        raise BadRequestError(f"{ROUTE_HEADER} can only demand the teacher")
    return route == "teacher"


def _deadline(headers: Mapping[str, str]) -> float | None:
    """The caller's own limit, in seconds."""
    values = []
    for name in (DEADLINE_HEADER, _CLIENTS_TIMEOUT):
        try:
            values.append(float(headers.get(name, "")))
        except ValueError:
            continue
    return min((v for v in values if v > 0), default=None)
