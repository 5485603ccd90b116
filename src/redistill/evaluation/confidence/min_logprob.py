"""The log-probability of the least likely token: one wrong value makes a record wrong, however sure the others are."""

from __future__ import annotations

from redistill.data.record_grammar import RecordGrammar
from redistill.models.token_trace import TokenTrace


def score(trace: TokenTrace, grammar: RecordGrammar | None) -> float:
    return min(trace.logprobs)
