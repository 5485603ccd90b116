"""Spans of calls to models, after OpenTelemetry's GenAI conventions, as OTLP JSON: a line for each export, as the collector's file exporter writes it.

Where a span has its messages depends on the version of the conventions, and all of these are read:

- the attributes ``gen_ai.input.messages`` and ``gen_ai.system_instructions``, of the span, of its event or of a log record
  ``gen_ai.client.inference.operation.details`` (1.37 and later)
- an event for each message, ``gen_ai.user.message`` and others (1.28 to 1.36)
- ``gen_ai.prompt``: an attribute of the event ``gen_ai.content.prompt`` or of the span (before 1.28), or ``gen_ai.prompt.0.role``, ``gen_ai.prompt.0.content`` and so
  on (OpenLLMetry)

Source: OpenTelemetry semantic conventions, gen-ai-spans.md and gen-ai-events.md; "OpenTelemetry Protocol File Exporter".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from redistill.data.readers.files import described
from redistill.data.traffic.formats.messages import TOOLS, as_json, messages_of, plausible, text_of
from redistill.data.traffic.formats.otlp import attributes, nested
from redistill.data.traffic.formats.types import Broken, BrokenError, NotAPromptError, Skipped, Trace, attempted
from redistill.data.types import Message

_ASKS = (None, "", "chat", "text_completion", "generate_content", "completion")
_INPUT, _SYSTEM, _PROMPT = "gen_ai.input.messages", "gen_ai.system_instructions", "gen_ai.prompt"
_OF_TOOLS = ("gen_ai.tool.definitions", "llm.request.functions.0.name", "gen_ai.request.tools.0.name")
_MESSAGE_EVENTS = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}


def read(value: Any) -> Iterator[Trace | Skipped | Broken]:
    """The traces in a JSON value: traces data or logs data."""
    if not isinstance(value, dict) or not ("resourceSpans" in value or "resourceLogs" in value):
        yield Broken(f"{described(value)} is no OTLP JSON: it has neither resourceSpans nor resourceLogs")
        return
    spans = nested(value, "resourceSpans", ("scopeSpans", "instrumentationLibrarySpans"), "spans")
    logs = nested(value, "resourceLogs", ("scopeLogs",), "logRecords")
    for (resource, record), of_span in itertools.chain(zip(spans, itertools.repeat(True)), zip(logs, itertools.repeat(False))):
        read_record: Callable[..., Trace] = _span if of_span else _log_record
        yield attempted(lambda read_record=read_record, resource=resource, record=record: read_record(resource, record))  # type: ignore[misc]


def _span(resource: dict[str, Any], span: dict[str, Any]) -> Trace:
    values = attributes(span.get("attributes"))
    events = [
        (str(event.get("name")), attributes(event.get("attributes"))) for event in span.get("events") or () if isinstance(event, dict)
    ]
    if not any(name.startswith("gen_ai.") for name in (*values, *(name for name, _ in events))):
        raise NotAPromptError("a span that is no call of a model")
    return _trace(span, span.get("startTimeUnixNano"), {**resource, **values}, events)


def _log_record(resource: dict[str, Any], record: dict[str, Any]) -> Trace:
    values = attributes(record.get("attributes"))
    if _INPUT not in values:
        raise NotAPromptError("a log record without gen_ai.input.messages")
    return _trace(record, record.get("timeUnixNano") or record.get("observedTimeUnixNano"), {**resource, **values}, [])


def _trace(record: dict[str, Any], nanoseconds: Any, values: dict[str, Any], events: list[tuple[str, dict[str, Any]]]) -> Trace:
    if values.get("gen_ai.operation.name") not in _ASKS:
        raise NotAPromptError("another operation than chat, text_completion and generate_content")
    if any(values.get(name) not in (None, "", "[]", []) for name in _OF_TOOLS):
        raise NotAPromptError(TOOLS)
    try:
        at = plausible(int(nanoseconds or 0) / 10**9)
    except (TypeError, ValueError, OverflowError):
        raise BrokenError(f"its time is {described(nanoseconds)}, not a number of nanoseconds") from None
    key = "".join(str(record.get(name) or "") for name in ("traceId", "spanId"))
    return Trace(key, at, _messages(values, events), values)


def _messages(values: dict[str, Any], events: list[tuple[str, dict[str, Any]]]) -> tuple[Message, ...]:
    for each in (values, *(attributes_ for _, attributes_ in events)):
        if each.get(_INPUT):
            return _with_parts(as_json(each[_INPUT]), as_json(each.get(_SYSTEM) or values.get(_SYSTEM)))
    if listed := [_event_message(name, each) for name, each in events if name in _MESSAGE_EVENTS]:
        return messages_of(listed)
    if listed := _numbered(values):
        return messages_of(listed)
    for each in (values, *(attributes_ for name, attributes_ in events if name == "gen_ai.content.prompt")):
        if prompt := as_json(each.get(_PROMPT)):
            return (Message("user", prompt),) if isinstance(prompt, str) else messages_of(prompt if isinstance(prompt, list) else [prompt])
    raise NotAPromptError("a call without its messages; turn on the capture of message content")


def _with_parts(listed: Any, system: Any) -> tuple[Message, ...]:
    """Messages whose content is in ``parts``. Older exporters write ``content``."""
    if not isinstance(listed, list) or not all(isinstance(message, dict) for message in listed):
        raise BrokenError(f"{_INPUT} is {described(listed)}, not a list of messages")
    plain = [{"role": each.get("role"), "content": each.get("parts", each.get("content"))} for each in listed]
    first = (Message("system", text_of(system)),) if system else ()
    return (*first, *messages_of(plain))


def _event_message(name: str, values: dict[str, Any]) -> dict[str, Any]:
    role = values.get("role") or _MESSAGE_EVENTS[name]
    parts = as_json(values.get("content"))
    # A caller's own text may be JSON too.
    in_parts = isinstance(parts, list) and all(isinstance(part, dict) and "type" in part for part in parts)
    return {"role": role, "content": parts if in_parts else values.get("content"), "tool_calls": values.get("tool_calls")}


def _numbered(values: dict[str, Any]) -> list[dict[str, Any]]:
    """``gen_ai.prompt.0.role``, ``gen_ai.prompt.0.content`` and so on."""
    listed: list[dict[str, Any]] = []
    for number in itertools.count():
        begin = f"{_PROMPT}.{number}."
        if not (message := {name.removeprefix(begin): value for name, value in values.items() if name.startswith(begin)}):
            return listed
        tools = [name for name in message if name.startswith("tool_call")]
        listed.append({"role": message.get("role", "user"), "content": message.get("content"), "tool_calls": tools})
    raise AssertionError("unreachable")
