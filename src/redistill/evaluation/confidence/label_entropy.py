"""Minus the entropy over labels along the label that was written, in nats; for tasks whose completions begin with labels.

At each token of a label, only the listed tokens that lead to some label count. Their entropies add up along the label (the chain rule), and of several
labels the one with the largest entropy counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from redistill.data.grammars.types import Grammar
from redistill.models.token_trace import TokenTrace


def score(trace: TokenTrace, grammar: Grammar | None) -> float | None:
    """None where completions do not begin with labels; minus infinity for a completion without a label."""
    if grammar is None or not grammar.labels:
        return None
    entropies = [_entropy_along(trace, positions, grammar.labels) for positions in _labels(trace)]
    return -max(entropies) if entropies else -math.inf


def _labels(trace: TokenTrace) -> Iterator[list[int]]:
    """The token positions of each label: between the start of the line, each ``+``, and the first ``; ``."""
    begin = 0
    for label in trace.text.split("\n", 1)[0].split("; ", 1)[0].split("+"):
        first, last = begin + len(label) - len(label.lstrip()), begin + len(label.rstrip())
        positions = [t for t, (start, end) in enumerate(trace.spans) if start < last and first < end]
        if positions:
            yield positions
        begin += len(label) + 1


def _entropy_along(trace: TokenTrace, positions: list[int], labels: tuple[str, ...]) -> float:
    written, total = "", 0.0
    for t in positions:
        total += _entropy([value for text, value in trace.top[t] if _leads(written + text.lstrip(), labels)])
        start, end = trace.spans[t]
        written += trace.text[start:end].lstrip()
    return total


def _leads(text: str, labels: tuple[str, ...]) -> bool:
    return bool(text) and any(label.startswith(text) for label in labels)


def _entropy(logprobs: list[float]) -> float:
    weights = [math.exp(value) for value in logprobs]
    total = math.fsum(weights)
    return -math.fsum(w / total * math.log(w / total) for w in weights if w > 0) if total > 0 else 0.0
