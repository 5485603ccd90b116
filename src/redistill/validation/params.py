"""Sections ``intake``, ``validate`` and ``governance`` of params.yaml."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field

from redistill.config.base import Positive, Share, frozen, section


@section("intake")
class IntakeParams:
    """Filters of rows before any teacher call. Dropped rows are reported, and the teacher never sees them."""

    max_chars: Positive = 2000
    """Longer texts are dropped."""
    min_chars: Positive = 2
    """Shorter texts are dropped."""
    languages: tuple[str, ...] = ("en",)
    """ISO 639 codes. An empty list keeps every language."""
    min_language_confidence: Share = 0.6
    """A text is dropped only if the detector's confidence in another language is at least this."""
    near_duplicate: Share = 0.5
    """Rows with at least this Jaccard similarity of character 5-grams count as copies; only the first is kept."""
    pii: bool = True
    """Drop texts with personal data."""
    secrets: bool = True
    """Drop texts with keys or passwords."""
    profanity: bool = True
    """Drop texts with profanity."""


@frozen
class LicenceReview:
    """One reviewed licence or set of terms. `teacher`, `outputs` and `data` must all be covered, or the cycle stops before any teacher call."""

    name: str
    """What was reviewed. `name`, `licence` and `reviewer` must be filled in: "unknown" or "nobody yet" is no review."""
    covers: Literal["teacher", "outputs", "data"]
    """`teacher`, `outputs` or `data`."""
    licence: str
    """Name of the licence."""
    terms_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of the reviewed text. If the text changes, the review no longer counts. `redistill lock` prints the digest."""
    terms: str
    """File with the reviewed text, kept with the project."""
    reviewer: str
    """Who read it."""
    reviewed: dt.date
    """When, in UTC, in quotes: "2026-11-22"."""
    expires: dt.date
    """The last day on which the review is valid, in UTC, in quotes."""
    allowed: bool
    """Whether this use is allowed."""
    model: str | None = None
    """For `teacher` and `outputs`: the reviewed model, as in `teacher.model`. Left out: the one with which the lock has this review."""
    revision: str | None = None
    """For `teacher` and `outputs`: the reviewed revision, as in `teacher.revision`."""
    backend: str | None = None
    """For `teacher` and `outputs`: how the model is used, as in `teacher.backend`. Required if `model` is given."""
    sources: tuple[str, ...] | None = None
    """For `data`: the reviewed sources, as in `data.source`. Left out: those with which the lock has this review."""


@section("governance")
class GovernanceParams:
    """The purpose of the student, and the licence reviews that allow its training."""

    licenses: tuple[LicenceReview, ...]
    """The reviews."""
    purpose: str = "It does one narrow task instead of its teacher."
    """What the student is for, in a sentence or two. It opens the model card."""


@section("validate")
class ValidateParams:
    """Filters of the teacher's completions, before the expensive half of a cycle."""

    min_mean_logprob: Annotated[float, Field(le=0.0)] = -1.0
    """Completions with a lower confidence of the teacher are dropped: mean log-probability of their tokens, in nats."""
    min_agreement: Share = 0.5
    """With several samples per prompt: the share of them that must agree."""
    max_repetition: Share = 0.6
    """A completion is dropped if a larger share of it repeats itself."""
    heldout_quote_words: Positive = 8
    """A completion that repeats this many consecutive words of a held-out text is dropped."""
    min_kept_share: Share = 0.5
    """The cycle stops if a smaller share of the completions is kept."""
    min_rows: Positive = 20
    """The cycle stops if fewer rows are kept."""
