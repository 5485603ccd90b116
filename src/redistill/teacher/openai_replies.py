"""What an OpenAI-compatible endpoint replied, as an answer. Nothing that the store or a later stage could not use passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from redistill.data.stopping import cut
from redistill.teacher.endings import STOP, UNFINISHED_REASONING, broken_off, ending
from redistill.teacher.reasoning import split_reasoning, unfinished
from redistill.teacher.types import TeacherAnswer, TeacherRequest

_LARGEST_ID = 2**31 - 1


def read_choice(request: TeacherRequest, choice: dict[str, Any], *, chat: bool) -> TeacherAnswer:
    """The completion of a choice, without reasoning and up to the task's first stop sequence.

    Raises:
        LookupError, TypeError, ValueError: the choice is not of OpenAI's shape, or the server broke it off.
    """
    answer = _parsed(request, choice)
    if broken_off(answer.finish_reason):
        raise ValueError(f"it ended with finish_reason {answer.finish_reason}")
    return _up_to_stop(_without_reasoning(answer), chat=chat)


def _without_reasoning(answer: TeacherAnswer) -> TeacherAnswer:
    if unfinished(answer.text):
        return replace(answer, finish_reason=UNFINISHED_REASONING)
    reasoning, text = split_reasoning(answer.text)
    if reasoning is None:
        return answer
    # The listed tokens are those of the reasoning too.
    return replace(answer, text=text, reasoning=answer.reasoning or reasoning, token_ids=(), top_ids=(), top_logprobs=(), top_tokens=())


def _up_to_stop(answer: TeacherAnswer, *, chat: bool) -> TeacherAnswer:
    """The completion up to its first stop sequence, also if the endpoint does not support it or went on; its token ids are dropped if it was longer."""
    text = answer.text.strip() if chat or answer.reasoning else answer.text
    if answer.finish_reason == UNFINISHED_REASONING or not any(stop in text for stop in answer.request.stop):
        return replace(answer, text=text)
    text = cut(text, answer.request.stop)
    return replace(answer, text=text, token_ids=(), finish_reason=STOP, top_ids=(), top_logprobs=(), top_tokens=())


def _parsed(request: TeacherRequest, choice: dict[str, Any]) -> TeacherAnswer:
    """Read one choice. A chat lists logprobs as one entry a token, a completion as columns."""
    message, listed = choice.get("message") or choice, choice.get("logprobs") or {}
    if "content" in listed:
        chosen = [(e["token"], e["logprob"]) for e in listed["content"] or ()]
        tops = [[(t["token"], t["logprob"]) for t in e.get("top_logprobs") or ()] for e in listed["content"] or ()]
    else:
        chosen = list(zip(listed.get("tokens") or (), listed.get("token_logprobs") or (), strict=True))
        tops = [list((row or {}).items()) for row in listed.get("top_logprobs") or ()]
    if len(tops) not in (0, len(chosen)) or not all(value is not None and value <= 1e-3 for row in (chosen, *tops) for _, value in row):
        raise ValueError("log-probabilities missing, NaN, null or positive")  # servers spell NaN as null; none may reach a loss
    tops = tops if any(tops) else []
    ids = [tuple(int(t[9:]) for t, _ in row if t.startswith("token_id:")) for row in (chosen, *tops)]  # only vLLM tells them
    all_ids = list(map(len, ids)) == list(map(len, (chosen, *tops))) and all(0 <= i <= _LARGEST_ID for row in ids for i in row)
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    return TeacherAnswer(
        request,
        text=_text((message.get("content") or "") if "message" in choice else choice["text"]),
        reasoning=reasoning if isinstance(reasoning, str) else None,
        token_ids=ids[0] if all_ids else (),
        finish_reason=ending(choice.get("finish_reason")),
        mean_logprob=sum(value for _, value in chosen) / len(chosen) if chosen else None,
        top_ids=tuple(ids[1:]) if all_ids else (),
        top_logprobs=tuple(tuple(value for _, value in row) for row in tops),
        top_tokens=tuple(tuple(token for token, _ in row) for row in tops),
    )


def _text(content: Any) -> str:
    if not isinstance(content, str):
        raise TypeError(f"the completion is {type(content).__name__}, not text")
    return content
