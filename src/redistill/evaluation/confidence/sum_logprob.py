"""The log-probability of the whole completion: the sum over its tokens and its end."""

from __future__ import annotations

import math

from redistill.data.record_grammar import RecordGrammar
from redistill.models.token_trace import TokenTrace


def score(trace: TokenTrace, grammar: RecordGrammar | None) -> float:
    return math.fsum(trace.logprobs)
