"""Sections ``teacher`` and ``generate`` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from redistill.config.base import Positive, Whole, frozen, section

_OURS = ("model", "messages", "prompt", "n", "stream", "stop", "logprobs", "top_logprobs")
"""Keys of a request that follow from other parameters, or from how a reply is read."""


@frozen
class TeacherPromptParams:
    """What only the teacher is shown, before every prompt. The student learns to do without it ([ADR 38](adr/0038-teacher-only-prompt.md))."""

    system: Annotated[str, Field(min_length=1)] | None = None
    """An instruction: the system message of a conversation, or text before a plain prompt."""
    examples: Annotated[int, Field(ge=0, strict=True)] = 0
    """Number of labelled rows of the split `train` that are shown with their labels, spread over the labels."""

    @property
    def shows_anything(self) -> bool:
        return bool(self.system or self.examples)


@section("teacher")
class TeacherParams:
    """The teacher as its owner publishes it."""

    model: str
    """A directory, a hub id, `models:/NAME/VERSION`, `package:NAME/FILE.gguf`, or an endpoint's model."""
    backend: Literal["vllm", "openai", "transformers"] = "vllm"
    """`vllm`, `transformers`, or `openai`: any compatible endpoint, its address in `REDISTILL_TEACHER_URL`, its key in
    `REDISTILL_TEACHER_API_KEY`."""
    revision: str | None = None
    """A hub revision. It is also used for the student's base if that is the teacher's model."""
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """For endpoints: how long a request may take."""
    max_concurrency: Positive = 8
    """For endpoints: requests at once."""
    max_retries: Annotated[int, Field(ge=0)] = 5
    """For endpoints: how often a failed request is retried."""
    canaries_per_slice: Annotated[int, Field(ge=1, le=64)] = 20
    """For endpoints: fixed prompts of each slice, at most 128 together, that are asked again to see whether the endpoint serves another model. Each cycle
    asks them once."""
    canary_hours: Annotated[float, Field(ge=0.0)] = 6.0
    """For endpoints: the watcher asks the canaries again after so many hours."""
    budget_tokens: Positive | None = None
    """Hard limit of the tokens of one run. Left out: none."""
    budget_usd: Annotated[float, Field(gt=0)] | None = None
    """Hard limit of the cost of one run, computed from the two prices. Left out: none."""
    usd_per_million_prompt_tokens: Annotated[float, Field(ge=0)] = 0.0
    """Price of an endpoint's prompt tokens."""
    usd_per_million_completion_tokens: Annotated[float, Field(ge=0)] = 0.0
    """Price of an endpoint's completion tokens."""
    request: dict[str, Any] = Field(default_factory=dict)
    """For endpoints: more keys of each request, such as `{reasoning_effort: low}`. `null` leaves out a key that would be sent, such as `{seed: null}`;
    `{max_completion_tokens: 48, max_tokens: null}` spells the limit as newer models need it."""
    prompt: TeacherPromptParams = Field(default_factory=TeacherPromptParams)
    """What only the teacher is shown ([how](data.md#a-prompt-for-the-teacher-alone)). Another prompt is another teacher."""

    @model_validator(mode="after")
    def _request_leaves_ours_alone(self) -> TeacherParams:
        if taken := sorted(set(self.request) & set(_OURS)):
            raise ValueError(f"request must not set {taken[0]}: redistill decides that; the keys that it keeps are {', '.join(_OURS)}")
        return self


@section("generate")
class GenerateParams:
    """The completions that the teacher writes."""

    samples: Positive = 1
    """Completions of each prompt."""
    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Nucleus sampling: only the most likely tokens with this total probability."""
    max_tokens: Positive = 48
    """The longest completion."""
    top_k: Annotated[int, Field(ge=0, strict=True)] = 0
    """Number of log-probabilities per token that the endpoint returns with the text. 0: none; the stage `score` computes them instead."""
    seed: Whole = 7
    """Seed of the sampling."""
    batch_rows: Positive = 128
    """Number of prompts that vLLM processes at the same time."""
