"""What no text may hold that is sent, stored or shown: personal data, secrets, insults."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from redistill.data.normal_form import normalised
from redistill.validation.filters import personal_data, profanity, secrets
from redistill.validation.params import IntakeParams
from redistill.validation.types import Candidate, Drop, Filter, Keep, first_objection


def content_filters(params: IntakeParams) -> Iterator[Filter]:
    """What no text may hold that is sent, stored or shown."""
    if params.secrets:
        yield secrets.judge
    if params.pii:
        yield personal_data.judge
    if params.profanity:
        yield profanity.judge


@lru_cache(maxsize=4096)
def judge_text(text: str, params: IntakeParams) -> Keep | Drop:
    """Judge what is sent or stored besides a row's messages by what it holds: a label, an id, a slice, a text of a counterfactual pair."""
    return first_objection(content_filters(params), Candidate(normalised(text)))
