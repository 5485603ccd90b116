"""The smallest distance, over all tokens, between the chosen token and the most likely other one, in nats.

Source: UCCI (arXiv 2605.18796) calibrates margins of token probabilities for cascades; here they are of log-probabilities, and the smallest one counts.
"""

from __future__ import annotations

from redistill.data.grammars.types import Grammar
from redistill.models.token_trace import TokenTrace


def score(trace: TokenTrace, grammar: Grammar | None) -> float:
    return min(trace.margin(position) for position in range(len(trace)))
