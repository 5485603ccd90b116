"""Sections ``teacher`` and ``generate`` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from redistill.config.base import Positive, Whole, section


@section("teacher")
class TeacherParams:
    """The raw teacher: a local directory, a hub id, ``package:NAME/FILE.gguf``, ``models:/…``, or an endpoint's model."""

    model: str
    backend: Literal["vllm", "openai", "transformers"] = "vllm"
    revision: str | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    max_concurrency: Positive = 8
    max_retries: Annotated[int, Field(ge=0)] = 5
    budget_tokens: Positive | None = None
    budget_usd: Annotated[float, Field(gt=0)] | None = None
    usd_per_million_prompt_tokens: Annotated[float, Field(ge=0)] = 0.0
    usd_per_million_completion_tokens: Annotated[float, Field(ge=0)] = 0.0


@section("generate")
class GenerateParams:
    samples: Positive = 1
    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    max_tokens: Positive = 48
    top_k: Annotated[int, Field(ge=0, strict=True)] = 0
    seed: Whole = 7
    batch_rows: Positive = 128
