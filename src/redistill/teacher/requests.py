"""From prompts to what a teacher is asked: one place, so that generation, benchmark, timings and canaries ask alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from redistill.data.params import DataParams
from redistill.data.templates import earlier_messages, last_content, render
from redistill.data.types import Message, Prompt
from redistill.teacher.types import TeacherRequest


def requests_for(prompts: Sequence[Prompt], data: DataParams, tokenizer: Any, samples: int = 1) -> list[TeacherRequest]:
    """The requests of each prompt, one a sample.

    ``tokenizer`` is the teacher's, None for an endpoint: it applies a chat template of its own, so it is sent the plain text of ours.
    """
    return [_request(prompt, index, data, tokenizer) for prompt in prompts for index in range(samples)]


def _request(prompt: Prompt, index: int, data: DataParams, tokenizer: Any) -> TeacherRequest:
    text = last_content(prompt, data) if tokenizer is None else render(prompt, data, tokenizer)
    last = prompt.messages[-1]
    # The digest of a request covers its messages, so those of rows without control tokens are as they were.
    messages = (*earlier_messages(prompt, tokenizer), Message(last.role, last.content))
    # An endpoint starts a message of its own, so nothing stands before its completion.
    form = data.form if data.form is None or tokenizer is not None else replace(data.form, lead="")
    return TeacherRequest(prompt.id, index, messages, text, prompt.slice, data.stops, form)
