"""What an engine reports about the tokens that it wrote: the input of every confidence score.

It holds only what an OpenAI-compatible server returns as well (``logprobs`` of the chosen token and of the most likely ones), so that a score means
the same at calibration, in the gate and in production.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from redistill.models.generation import without_end

if TYPE_CHECKING:
    import torch

Spell = Callable[[Sequence[int]], str]
"""Token ids to text."""

TOP = 20
"""Most likely tokens of each position: the largest number that vLLM and OpenAI return by default."""


@dataclass(frozen=True, slots=True)
class TokenTrace:
    """A completion of T tokens, with the end token or the stop sequence if there was one.

    ``ends`` is the number of characters of ``text`` up to and with each token. ``logprobs`` are of the chosen tokens (nats, T = 1). ``top`` lists the
    most likely tokens of each position as (text, logprob), the most likely one first.
    """

    text: str
    ends: tuple[int, ...]
    logprobs: tuple[float, ...]
    top: tuple[tuple[tuple[str, float], ...], ...]

    def __len__(self) -> int:
        return len(self.logprobs)

    @property
    def probability(self) -> float:
        """Of the whole completion."""
        return min(1.0, math.exp(math.fsum(self.logprobs)))

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The characters (begin, end) of each token."""
        return list(zip((0, *self.ends[:-1]), self.ends, strict=True))

    def margin(self, position: int) -> float:
        """How much more likely the chosen token was than the most likely other one, in nats; infinite where no other one is listed."""
        others = [value for _, value in self.top[position][:2]]
        if len(others) < 2:
            return math.inf
        # Greedy decoding chooses the first; of a sampled token the margin is negative.
        chosen = self.logprobs[position]
        return chosen - (others[1] if chosen >= others[0] else others[0])


def most_likely(logits_BV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and logprobs of the ``TOP`` most likely tokens of one step (both [B, K]), the most likely one first."""
    values_BK, ids_BK = logits_BV.float().topk(min(TOP, logits_BV.shape[-1]), dim=-1)
    return ids_BK, values_BK - logits_BV.float().logsumexp(-1, keepdim=True)


def greedy_trace(
    ids: Sequence[int], top_ids: Sequence[Sequence[int]], top_logprobs: Sequence[Sequence[float]], spell: Spell, end_ids: Sequence[int] = ()
) -> TokenTrace:
    """The trace of a greedy completion, whose tokens are the most likely ones. Tokens that structured outputs left out are not listed.

    A token is given the characters by which it makes the text longer: one of several that spell one character may have none, and an end token has none.
    """
    texts = [spell(without_end(ids[: n + 1], end_ids)) for n in range(len(ids))]
    # The bytes of an unfinished character can be shown as more characters than it will have.
    ends = list(accumulate(reversed([len(text) for text in texts]), min))[::-1]
    top = tuple(
        tuple((spell((i,)), value) for i, value in zip(row, values, strict=True) if value > -math.inf)
        for row, values in zip(top_ids, top_logprobs, strict=True)
    )
    return TokenTrace(texts[-1] if texts else "", tuple(ends), tuple(values[0] for values in top_logprobs), top)
