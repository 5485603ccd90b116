"""The log-probability of the least likely token: one wrong value makes a record wrong, however sure the others are."""

from __future__ import annotations

from redistill.data.grammars.types import Grammar
from redistill.models.token_trace import TokenTrace


def score(trace: TokenTrace, grammar: Grammar | None) -> float:
    return min(trace.logprobs)
