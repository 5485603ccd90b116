"""Spans of requests and of attempts at the models' servers, with OpenTelemetry. They hold names, numbers and reasons, and never a text.

One server span a request, below the caller's span where it sends ``traceparent``; below it one client span an attempt, which the model's server can continue.

Source: OpenTelemetry's semantic conventions for generative AI (client inference spans), for HTTP servers and for errors; W3C Trace Context.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from redistill.serving.router.decision import Decision
from redistill.serving.router.types import PATHS, Asked, Completion, Endpoint, UpstreamError

_W3C = TraceContextTextMapPropagator()
"""Not the propagators of the environment: baggage may hold anything, and would be sent to an endpoint that is not ours."""
_OPERATIONS = {"/chat/completions": "chat", "/completions": "text_completion"}
_NAME = re.compile(r"[\w.@:/+-]{1,100}")
_PORTS = {"http": 80, "https": 443}
_COUNTS = (("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens"))
_Attributes = dict[str, str | int | float | bool | list[str]]


class OtelRequest:
    """The server span of one request."""

    def __init__(self, tracer: Tracer, endpoint: Endpoint, headers: Mapping[str, str]) -> None:
        path = PATHS[endpoint]
        attributes: _Attributes = {
            "http.request.method": "POST",
            "url.scheme": "http",
            "url.path": f"/v1{path}",
            "http.route": f"/v1{path}",
            "gen_ai.operation.name": _OPERATIONS[path],
        }
        parent = _W3C.extract(headers, Context())
        self._tracer, self._attempts = tracer, dict[str, OtelAttempt]()
        self._span = tracer.start_span(f"POST /v1{path}", parent, SpanKind.SERVER, attributes)
        self._context = set_span_in_context(self._span, parent)

    def attempt(self, side: str, url: str, path: str, body: Mapping[str, Any]) -> OtelAttempt:
        operation, model = _OPERATIONS[path], body.get("model", "")
        server = urlsplit(url)
        attributes: _Attributes = {
            "gen_ai.operation.name": operation,
            # Which flavour of the conventions holds: that of the interface that the server speaks.
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": model,
            "gen_ai.request.stream": bool(body.get("stream")),
            "server.address": server.hostname or "",
            "server.port": server.port or _PORTS[server.scheme],
            "redistill.upstream": side,
        }
        span = self._tracer.start_span(f"{operation} {model}", self._context, SpanKind.CLIENT, attributes)
        attempt = self._attempts[side] = OtelAttempt(span, model)
        return attempt

    def end(self, decision: Decision, asked: Asked | None) -> None:
        attributes: _Attributes = {
            "redistill.route": decision.route or "none",
            # The word, and not the rest of the sentence: that may quote the request.
            "redistill.reason": decision.reason,
            "redistill.mode": decision.mode,
            "redistill.request_id": decision.id,
        }
        # The field is the caller's, and may hold anything.
        if asked is not None and isinstance(model := asked.body.get("model"), str) and _NAME.fullmatch(model):
            attributes["gen_ai.request.model"] = model
        if decision.status:
            attributes["http.response.status_code"] = decision.status
        if decision.version:
            attributes["redistill.model_version"] = decision.version
        if decision.score is not None:
            attributes["redistill.score"] = decision.score
        if (answered := self._attempts.get(decision.route or "")) is not None:
            attributes |= {"gen_ai.response.model": answered.model, **answered.usage}
        if decision.status >= 500 or decision.ended not in ("done", "error"):
            attributes["error.type"] = str(decision.status) if decision.ended == "error" else decision.ended or "unknown"
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.set_attributes(attributes)
        self._span.end()


class OtelAttempt:
    """The client span of one attempt."""

    def __init__(self, span: Span, model: str) -> None:
        self._span, self.model = span, model
        self.usage: dict[str, int] = {}
        self.headers: dict[str, str] = {}
        _W3C.inject(self.headers, set_span_in_context(span, Context()))

    def replied(self, reply: object) -> None:
        if isinstance(reply, Completion):
            self._count(reply.usage)
            if _NAME.fullmatch(reply.finish):
                self._span.set_attribute("gen_ai.response.finish_reasons", [reply.finish])

    def event(self, data: Mapping[str, Any]) -> None:
        if isinstance(usage := data.get("usage"), dict):
            self._count(usage)

    def end(self, error: BaseException | None) -> None:
        attributes: _Attributes = dict(self.usage)
        if error is not None:
            attributes["error.type"] = error.kind if isinstance(error, UpstreamError) else type(error).__name__
            if isinstance(error, UpstreamError) and error.status:
                attributes["http.response.status_code"] = error.status
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.set_attributes(attributes)
        self._span.end()

    def _count(self, usage: Mapping[str, Any]) -> None:
        counts = {f"gen_ai.usage.{ours}": usage.get(theirs) for ours, theirs in _COUNTS}
        self.usage |= {name: count for name, count in counts.items() if type(count) is int}
