"""Every confidence score by name: the ``score`` of each file of this folder."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable

from redistill.data.grammars.types import Grammar
from redistill.evaluation import confidence
from redistill.evaluation.types import Confidence, Sureness
from redistill.models.token_trace import TokenTrace

Score = Callable[[TokenTrace, Grammar | None], float | None]


def all_scores() -> dict[str, Score]:
    names = sorted(info.name for info in pkgutil.iter_modules(confidence.__path__) if info.name != __name__.rpartition(".")[2])
    return {name: importlib.import_module(f"{confidence.__name__}.{name}").score for name in names}


SCORES = all_scores()


def sureness(trace: TokenTrace, grammar: Grammar | None) -> Sureness:
    return Sureness(trace.probability, confidences(trace, grammar))


def confidences(trace: TokenTrace | None, grammar: Grammar | None) -> tuple[Confidence, ...]:
    """Every score of one completion that the task has; NaN, which always defers, for a completion without tokens or logprobs.

    Args:
        trace: None where the engine reported no logprobs.
        grammar: None for free text.
    """
    return tuple(each for name in SCORES if (each := confidence_of(name, trace, grammar)) is not None)


def confidence_of(name: str, trace: TokenTrace | None, grammar: Grammar | None) -> Confidence | None:
    """One score of one completion; None if the task does not have it."""
    if name not in SCORES:
        return None
    if trace is None or not len(trace):
        return Confidence(name, math.nan)
    value = SCORES[name](trace, grammar)
    return None if value is None else Confidence(name, value)
