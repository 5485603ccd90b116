"""Whether requests are traced: where the environment names a collector, with the variables that every program with OpenTelemetry reads."""

from __future__ import annotations

from collections.abc import Mapping

from redistill.errors import ConfigError
from redistill.serving.router.trace_context import Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"


def traces_of(environment: Mapping[str, str]) -> Tracer | None:
    """What makes and exports traces; None where no exporter is configured.

    Raises:
        ConfigError: an exporter or a protocol that the router does not have, or OpenTelemetry is not installed.
    """
    if not _is_on(environment):
        return None
    name, protocol = next(((n, value) for n in _PROTOCOLS if (value := environment.get(n, "").strip())), ("", _PROTOCOL))
    if protocol != _PROTOCOL:
        raise ConfigError(
            f"{name} is {protocol[:60]!r}, and the router sends spans by {_PROTOCOL} only; set it to that, and the endpoint to the collector's port for HTTP, such as http://127.0.0.1:4318"
        )
    try:
        from redistill.serving.router.otel_export import OtelTraces
    except ImportError as error:
        raise ConfigError(
            f"an exporter of traces is configured, and OpenTelemetry cannot be imported ({error}); install redistill[serve], or set OTEL_TRACES_EXPORTER=none"
        ) from None
    return OtelTraces()


def _is_on(environment: Mapping[str, str]) -> bool:
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return False
    if exporter not in ("", "otlp"):
        raise ConfigError(f"OTEL_TRACES_EXPORTER is {exporter[:60]!r}; the router knows `otlp` and `none`")
    return exporter == "otlp" or any(environment.get(name, "").strip() for name in _ENDPOINTS)
