"""Canaries: fixed prompts whose completions show whether an endpoint still serves the same model.

What an endpoint says of itself is no evidence: some services change ``system_fingerprint`` between equal models, others change the model without a word.
So its completions are compared with those of a baseline. An endpoint may answer equal requests in different ways, by batching or by sampling, and
the baseline measures how often: each prompt is asked several times. A change is a set of prompts that differ from all of their baseline replies in two
probes, one after the other, and that is too large to come from that variance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redistill.statistics.shares import share_interval, share_test

REPEATS = 3
LEVEL = 0.01
"""The chance to call an unchanged endpoint changed, for each pair of probes."""
_LOGPROB_SLACK = 0.05
"""Nats a token, beyond what the repeats differ: equal texts with other probabilities are another model."""


@dataclass(frozen=True, slots=True)
class CanaryReply:
    """A completion, and the mean log-probability of its tokens if the endpoint returns it."""

    text: str
    mean_logprob: float | None = None


@dataclass(frozen=True, slots=True)
class Canary:
    """A prompt of the baseline, with its replies to equal requests."""

    prompt_id: str
    slice: str
    replies: tuple[CanaryReply, ...]


def differs(canary: Canary, reply: CanaryReply) -> bool:
    """Whether a reply is none of the baseline's: another text, or the same text with another probability."""
    same = [r.mean_logprob for r in canary.replies if r.text == reply.text]
    if not same:
        return True
    known = [value for value in same if value is not None]
    if reply.mean_logprob is None or not known:
        return False
    slack = _LOGPROB_SLACK + max(known) - min(known)
    return not min(known) - slack <= reply.mean_logprob <= max(known) + slack


def repeat_rate(baseline: Sequence[Canary]) -> float:
    """An upper limit (97.5 %) of how often an equal request gets a reply that the other ones did not: each reply against the others of its prompt."""
    tried = [
        differs(Canary(c.prompt_id, c.slice, (*c.replies[:i], *c.replies[i + 1 :])), reply)
        for c in baseline
        if len(c.replies) > 1
        for i, reply in enumerate(c.replies)
    ]
    return share_interval(sum(tried), len(tried), 0.05).high if tried else 1.0


def differing(baseline: Sequence[Canary], probe: Mapping[str, CanaryReply]) -> frozenset[str]:
    """The prompts whose reply in a probe differs. A prompt without a reply does not count."""
    return frozenset(c.prompt_id for c in baseline if c.prompt_id in probe and differs(c, probe[c.prompt_id]))


def changed(baseline: Sequence[Canary], first: Mapping[str, CanaryReply], second: Mapping[str, CanaryReply]) -> frozenset[str]:
    """The prompts that show a change; empty if what differs in both probes can come from the repeat variance."""
    both = differing(baseline, first) & differing(baseline, second)
    # Two replies to one prompt are independent where nothing changed, so both differ with the square of the rate.
    chance = repeat_rate(baseline) ** 2
    return both if both and share_test(len(both), len(baseline), chance) < LEVEL else frozenset()
