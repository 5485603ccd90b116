"""From prompts to what a teacher is asked: one place, so that generation, benchmark, timings and canaries ask alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from redistill.data.params import DataParams
from redistill.data.teacher_prompt import NO_PROMPT, TeacherPrompt
from redistill.data.templates import earlier_messages, last_content, render
from redistill.data.types import Message, Prompt
from redistill.teacher.types import TeacherRequest


def requests_for(
    prompts: Sequence[Prompt], data: DataParams, tokenizer: Any, samples: int = 1, teacher_prompt: TeacherPrompt = NO_PROMPT
) -> list[TeacherRequest]:
    """The requests of each prompt, one a sample, with what only the teacher is shown before it.

    ``tokenizer`` is the teacher's, None for an endpoint: it applies a chat template of its own, so it is sent the messages, or the plain text of ours.
    """
    return [_request(prompt, index, data, tokenizer, teacher_prompt) for prompt in prompts for index in range(samples)]


def _request(prompt: Prompt, index: int, data: DataParams, tokenizer: Any, teacher_prompt: TeacherPrompt) -> TeacherRequest:
    conversation = tokenizer is None and data.format == "chat"
    text = last_content(prompt, data) if conversation else render(prompt, data, tokenizer, teacher_prompt)
    last = prompt.messages[-1]
    # The digest of a request covers its messages, so those of rows without control tokens are as they were.
    earlier = earlier_messages(prompt, tokenizer, data, teacher_prompt if conversation else NO_PROMPT)
    # In a conversation the completion is a message of its own, so nothing stands before it.
    form = data.form if data.form is None or not conversation else replace(data.form, lead="")
    return TeacherRequest(prompt.id, index, (*earlier, Message(last.role, last.content)), text, prompt.slice, data.stops, form)
