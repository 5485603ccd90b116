"""Was the teacher confident of what it wrote? A completion that it gave little probability to is often wrong."""

from __future__ import annotations

from redistill.validation.types import Candidate, Drop, Keep


class Confidence:
    """Drops completions whose mean log-probability, in nats a token, is below a limit. Where it is not known the completion is kept."""

    def __init__(self, min_mean_logprob: float) -> None:
        self._min_mean_logprob = min_mean_logprob

    def judge(self, candidate: Candidate) -> Keep | Drop:
        too_low = candidate.mean_logprob is not None and candidate.mean_logprob < self._min_mean_logprob
        return Drop("confidence", "mean log-probability too low") if too_low else Keep()
