"""Shared by local engines: where a completion begins and ends, in its text and in its token ids, and which prompts fit the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from redistill.data.stopping import cut, tokens_before_stop, tokens_until_stop
from redistill.teacher.endings import STOP, TOO_LONG, UNFINISHED_REASONING
from redistill.teacher.reasoning import split_reasoning, unfinished
from redistill.teacher.types import TeacherAnswer, TeacherRequest


def does_not_fit(request: TeacherRequest, tokens: int, max_tokens: int, context: int) -> TeacherAnswer:
    """The answer to a prompt of so many tokens that no whole completion fits behind it."""
    detail = f"{tokens} tokens and {max_tokens} of generate.max_tokens, but the model reads {context}"
    return TeacherAnswer(request, "", None, (), TOO_LONG, None, detail=detail)


def finished(answer: TeacherAnswer, chosen: Sequence[float], tokenizer: Any) -> TeacherAnswer:
    """The completion without the reasoning in front of it, up to its first stop sequence; ``chosen`` are the log-probabilities of its tokens."""
    if unfinished(answer.text):
        return replace(answer, finish_reason=UNFINISHED_REASONING)
    reasoning, text = split_reasoning(answer.text)
    if reasoning is None:
        return ended_at_stop(answer, chosen, tokenizer)
    # The ids are those of the reasoning too.
    stopped = any(stop in text.strip() for stop in answer.request.stop)
    return replace(
        answer,
        text=cut(text.strip(), answer.request.stop).strip(),
        reasoning=reasoning,
        finish_reason=STOP if stopped else answer.finish_reason,
        token_ids=(),
        top_ids=(),
        top_logprobs=(),
    )


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
        finish_reason=STOP,
        mean_logprob=sum(chosen[:until]) / until,
        top_ids=(),
        top_logprobs=(),
    )
