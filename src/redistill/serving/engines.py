"""The engines for which a cascade's threshold holds: the one that calibrates, and those whose scores were compared with it.

Source: ``python -m tests.bench.cascade_engines`` (docs/cascade.md).
"""

from __future__ import annotations

from importlib.metadata import version

from redistill.promotion.cascade import Engine

COMPARED = (Engine("vllm", "0.32.0", "bfloat16"), Engine("vllm", "0.32.0", "float32"))
"""Without quantisation. An engine that was not compared gets no traffic of a cascade: its requests go to the teacher."""


def engines(dtype: str) -> tuple[Engine, ...]:
    """transformers as it is installed here, and what was compared with it in the number format ``dtype``."""
    return (Engine("transformers", version("transformers"), dtype), *(engine for engine in COMPARED if engine.dtype == dtype))
