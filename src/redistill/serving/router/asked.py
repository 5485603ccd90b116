"""Reads a caller's request: as a prompt of the task, or with the reason why it cannot be one.

The student was trained on one kind of request. Any other goes to the teacher as it is: tools, images, several completions, another system message, a longer text,
and every field that is not known here, because it may change the completion.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from redistill.data.params import DataParams
from redistill.data.types import Column, Message, Prompt
from redistill.errors import DataError
from redistill.serving.router.types import Asked, BadRequestError, Endpoint
from redistill.validation.filters.personal_data import redact

OURS = "redistill"
"""The key of a body that is meant for the router alone: ``{"slice": …, "columns": {…}, "key": …}``."""
ROUTE_HEADER, DEADLINE_HEADER = "X-Redistill-Route", "X-Redistill-Deadline-S"
_CLIENTS_TIMEOUT = "X-Stainless-Read-Timeout"
"""How long OpenAI's own client waits, as it says itself."""
_KEYS = ("prompt_cache_key", "safety_identifier", "user")
"""Fields of OpenAI's interface that name a caller, in the order in which they are used."""
_CHANGES_NOTHING = frozenset(
    [
        "model",
        "messages",
        "prompt",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "logprobs",
        "top_logprobs",
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "metadata",
        "store",
        "service_tier",
        "priority",
        "cache_salt",
        "request_id",
    ]
)
"""Fields with which the student's completion is the one that was measured. Any other field sends a request to the teacher: a new one may mean anything."""
_WITH_SAMPLING = frozenset(("top_p", "top_k", "min_p", "seed"))
"""Fields that change nothing for the most likely completion."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none",),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "stop": ([], ""),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "length_penalty": (1,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "ignore_eos": (False,),
    "skip_special_tokens": (True,),
    "min_tokens": (0,),
    "use_beam_search": (False,),
    "modalities": (["text"],),
}
"""Values with which a field changes nothing."""
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
        prompt, why_not = _prompt(messages, extra, trained)
    names = (extra.get("key"), *(body.get(name) for name in _KEYS))
    key = next((str(value) for value in names if value is not None and str(value)), "")
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
    if not isinstance(body.get("stream", False), bool | None):
        raise BadRequestError("stream must be true or false")
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
        more = [key for key, value in message.items() if key not in ("role", "content") and value not in (None, [], "")]
        if text is None or more or message["role"] not in ("system", "developer", "user", "assistant"):
            return (), "a message holds more than text"
        messages.append(Message("system" if message["role"] == "developer" else message["role"], text))
    return tuple(messages), ""


def _text(content: Any) -> str | None:
    """The text of a message: a string, or parts that are all text."""
    if isinstance(content, str):
        return content
    if (
        isinstance(content, list)
        and content
        and all(
            isinstance(p, dict) and p.keys() == {"type", "text"} and p["type"] == "text" and isinstance(p["text"], str) for p in content
        )
    ):
        return "\n".join(part["text"] for part in content)
    return None


def _unlike(body: dict[str, Any]) -> str:
    """Which field may change the completion; empty if none does."""
    for name, value in body.items():
        if value is None or name in _CHANGES_NOTHING or any(value == each and type(value) is type(each) for each in _NEUTRAL.get(name, ())):
            continue
        if isinstance(value, float) and value in _NEUTRAL.get(name, ()):
            continue
        if name not in _WITH_SAMPLING:
            return f"it has {name[:40]!r}"
    if body.get("temperature") not in (None, 0):
        return "it asks for sampling, and the most likely completion was measured"
    return ""


def _untrained(messages: tuple[Message, ...], trained: Trained) -> str:
    systems = [m for m in messages if m.role == "system"]
    turns = [m for m in messages if m.role != "system"]
    if [m.role for m in turns] != [("user", "assistant")[n % 2] for n in range(len(turns))] or len(turns) % 2 == 0:
        return "its messages do not alternate between user and assistant, or the last is not the user's"
    if len(systems) > 1 or (systems and messages[0].role != "system"):
        return "it has several system messages"
    if systems and system_digest(systems[0].content) not in trained.systems:
        return "it has another system message than the training rows"
    if not systems and trained.systems and system_digest("") not in trained.systems:
        return "it has no system message, and all training rows have one"
    if len(turns) > trained.turns:
        return f"it has {len(turns)} messages, and training rows have at most {trained.turns}"
    if any(len(m.content) > trained.max_chars for m in turns):
        return f"it is longer than {trained.max_chars} characters"
    return ""


def _prompt(messages: tuple[Message, ...], extra: dict[str, Any], trained: Trained) -> tuple[Prompt | None, str]:
    """The request as a prompt of the task, or why it cannot be one."""
    data, values = trained.data, extra.get("columns") or {}
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise BadRequestError(f"{OURS}.columns must be an object of texts")
    if missing := [name for name in data.shown_columns if name not in values]:
        return None, f"the template shows the column {missing[0]!r}, which the request does not have in {OURS}.columns"
    slice_name = extra.get("slice", "")
    if slice_name and not (isinstance(slice_name, str) and _SLICE.fullmatch(slice_name)):
        raise BadRequestError(f"{OURS}.slice must be a short text")
    columns = tuple(Column(name, values[name]) for name in data.shown_columns)
    try:
        prompt = Prompt.of(messages, "", _safe(slice_name), None, "", None, columns)
    except DataError:
        return None, "it is not valid Unicode"
    # With its columns, as intake counts.
    too_long = len(prompt.text) > trained.max_chars
    return (None, f"it is longer than {trained.max_chars} characters") if too_long else (prompt, "")


@lru_cache(maxsize=4096)
def _safe(slice_name: str) -> str:
    """The name of a slice as it may be logged and counted: callers may write anything there, such as an address."""
    return redact(slice_name)


def _demands_teacher(headers: Mapping[str, str]) -> bool:
    route = headers.get(ROUTE_HEADER, "").strip().lower()
    if route not in ("", "auto", "teacher"):
        raise BadRequestError(f"{ROUTE_HEADER} can only demand the teacher")
    return route == "teacher"


def _deadline(headers: Mapping[str, str]) -> float | None:
    """The caller's own limit, in seconds."""
    values = []
    for name in (DEADLINE_HEADER, _CLIENTS_TIMEOUT):
        if (text := headers.get(name)) is None:
            continue
        try:
            values.append(float(text))
        except ValueError:
            continue
    return min((v for v in values if v > 0), default=None)
