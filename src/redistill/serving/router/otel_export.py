"""Sends spans to a collector, in a thread of its own. A collector that is slow or down costs spans and one line on standard error, never a request.

The exporter and its limits are OpenTelemetry's, so its variables (``OTEL_EXPORTER_OTLP_*``, ``OTEL_TRACES_SAMPLER``, ``OTEL_BSP_*``) hold here too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from redistill.serving.router.otel_spans import OtelRequest
from redistill.serving.router.saying import say
from redistill.serving.router.trace_context import CURRENT
from redistill.serving.router.types import Endpoint
from redistill.version import __version__

_CLOSE_S = 3.0
"""How long the end of the router waits for spans that were not sent yet."""


class OtelTraces:
    """Makes spans, and sends them in batches. What waits is bounded (``OTEL_BSP_MAX_QUEUE_SIZE``); more is lost."""

    def __init__(self) -> None:
        # Its own lines would be several for each batch, and the exporter below says what matters once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        resource = Resource({SERVICE_NAME: "redistill", "service.version": __version__}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_Told(OTLPSpanExporter())))
        self._tracer = self._provider.get_tracer("redistill.router", __version__)

    def request(self, endpoint: Endpoint, headers: Mapping[str, str]) -> OtelRequest:
        trace = OtelRequest(self._tracer, endpoint, headers)
        CURRENT.set(trace)
        return trace

    def close(self) -> None:
        # OpenTelemetry would wait half a minute for a collector that does not answer.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_S)
        if closing.is_alive():
            say(f"warning: the collector of traces did not answer within {_CLOSE_S:g} s, so the last spans were not sent")


class _Told(SpanExporter):
    """Says once that spans are lost, and again when it happens again after a success."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter, self._warned = exporter, False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # such as an address that is none
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS and not self._warned:
            say("warning: the collector of traces does not take spans (OTEL_EXPORTER_OTLP_ENDPOINT); requests are answered, and not traced")
        self._warned = result is not SpanExportResult.SUCCESS
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)
