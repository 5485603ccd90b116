"""The log-probability of the whole completion: the sum over its tokens and its end."""

from __future__ import annotations

import math

from redistill.data.grammars.types import Grammar
from redistill.models.token_trace import TokenTrace


def score(trace: TokenTrace, grammar: Grammar | None) -> float:
    return math.fsum(trace.logprobs)
