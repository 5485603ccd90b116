"""A logged request of production: what was asked, and what each model wrote for it."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.data.types import Column, Message


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request and its completions, without personal data and secrets: each was replaced before the row was written.

    ``id`` is the ``X-Request-Id`` of its response, ``at`` its time in seconds since 1970. ``prompt_id`` is ``Prompt.id`` of what is written here. ``replaced``
    counts what was replaced; a row with any is not what the caller sent. ``route`` is who answered (``student``, ``teacher``), and ``student`` and
    ``teacher`` are the completions as far as each was asked, before the answer or beside it; None where it was not. ``version`` is the student's version
    that was live, and ``score`` the cascade's score of its completion. ``source`` is ``router``, or the name of an import. ``consent`` and ``licence`` are
    what the project says of its traffic (section ``traffic``) at that time.
    """

    id: str
    at: float
    prompt_id: str
    messages: tuple[Message, ...]
    columns: tuple[Column, ...]
    slice: str
    mode: str
    route: str
    reason: str
    version: str
    score: float | None
    student: str | None
    teacher: str | None
    replaced: int
    source: str
    consent: str
    licence: str
