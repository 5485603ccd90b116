"""The formats of traces, by name."""

from __future__ import annotations

from redistill.data.traffic.formats import langfuse, openai, otel
from redistill.data.traffic.formats.types import Read

FORMATS: dict[str, Read] = {"openai": openai.read, "langfuse": langfuse.read, "otel": otel.read}
