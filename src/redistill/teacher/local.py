"""Shared by local engines: a completion ends at its first stop sequence, in its text and in its token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from redistill.data.stopping import cut, tokens_before_stop, tokens_until_stop
from redistill.teacher.types import TeacherAnswer


def ended_at_stop(answer: TeacherAnswer, chosen: Sequence[float], tokenizer: Any) -> TeacherAnswer:
    """The completion up to its first stop sequence; ``chosen`` are the log-probabilities of its tokens.

    Its ids are those of the remaining text, or none if a token contains text before and after the end. The listed probabilities are dropped: a training
    row ends with an end token that was not listed, and the stage ``score`` computes its probabilities.
    """
    stops, ids = answer.request.stop, answer.token_ids
    if (until := tokens_until_stop(ids, tokenizer, stops)) is None:
        return answer
    before = tokens_before_stop(ids, tokenizer, stops, until)
    return replace(
        answer,
        text=cut(tokenizer.decode(ids[:until], skip_special_tokens=True), stops).strip(),
        token_ids=() if before is None else ids[:before],
        finish_reason="stop",
        mean_logprob=sum(chosen[:until]) / until,
        top_ids=(),
        top_logprobs=(),
    )
