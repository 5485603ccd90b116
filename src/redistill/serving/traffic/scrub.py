"""Replaces personal data and secrets in a logged request, in every text of it: messages, columns, slice and both completions."""

from __future__ import annotations

from dataclasses import replace

from redistill.data.traffic.types import LoggedRequest
from redistill.data.types import Column, Message, prompt_id
from redistill.validation.traffic.scrub import scrubbed


def scrubbed_row(row: LoggedRequest) -> LoggedRequest:
    """The request as it may be kept. Its ``prompt_id`` is of what is kept, and ``replaced`` counts what was replaced.

    Raises:
        DataError: a text is not valid Unicode.
    """
    count = 0

    def clean(text: str) -> str:
        nonlocal count
        safe, replaced = scrubbed(text)
        count += replaced
        return safe

    messages = tuple(Message(m.role, clean(m.content)) for m in row.messages)
    columns = tuple(Column(c.name, clean(c.value)) for c in row.columns)
    student, teacher = (None if text is None else clean(text) for text in (row.student, row.teacher))
    return replace(
        row,
        messages=messages,
        columns=columns,
        slice=clean(row.slice),
        student=student,
        teacher=teacher,
        prompt_id=prompt_id(messages, columns),
        replaced=count,
    )
