"""The mean log-probability of the tokens: how likely the completion was, whatever its length.

Source: Malinin & Gales 2021, Uncertainty estimation in autoregressive structured prediction (length-normalised likelihood).
"""

from __future__ import annotations

import math

from redistill.data.record_grammar import RecordGrammar
from redistill.models.token_trace import TokenTrace


def score(trace: TokenTrace, grammar: RecordGrammar | None) -> float:
    return math.fsum(trace.logprobs) / len(trace)
