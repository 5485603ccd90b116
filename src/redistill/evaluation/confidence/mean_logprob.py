"""The mean log-probability of the tokens: how likely the completion was, whatever its length.

Source: Malinin & Gales 2021, Uncertainty estimation in autoregressive structured prediction (length-normalised likelihood).
"""

from __future__ import annotations

import math

from redistill.data.grammars.types import Grammar
from redistill.models.token_trace import TokenTrace


def score(trace: TokenTrace, grammar: Grammar | None) -> float:
    return math.fsum(trace.logprobs) / len(trace)
