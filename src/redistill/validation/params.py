"""Sections ``intake``, ``validate`` and ``governance`` of params.yaml."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field

from redistill.config.base import Positive, Share, frozen, section


@section("intake")
class IntakeParams:
    """What is judged before any teacher call."""

    max_chars: Positive = 2000
    min_chars: Positive = 2
    languages: tuple[str, ...] = ("en",)
    min_language_confidence: Share = 0.6
    near_duplicate: Share = 0.5
    pii: bool = True
    secrets: bool = True
    profanity: bool = True


@frozen
class LicenceReview:
    """One reviewed licence or set of terms: what was read (its digest), by whom, when, until when."""

    name: str
    covers: Literal["teacher", "outputs", "data"]
    licence: str
    terms_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    terms: str
    reviewer: str
    reviewed: dt.date
    expires: dt.date
    allowed: bool


@section("governance")
class GovernanceParams:
    """``purpose`` is what the student is for, in a sentence or two; it opens the model card."""

    licenses: tuple[LicenceReview, ...]
    purpose: str = "It answers one narrow task in its teacher's stead."


@section("validate")
class ValidateParams:
    min_mean_logprob: Annotated[float, Field(le=0.0)] = -1.0
    min_agreement: Share = 0.5
    max_repetition: Share = 0.6
    heldout_quote_words: Positive = 8
    min_kept_share: Share = 0.5
    min_rows: Positive = 20
