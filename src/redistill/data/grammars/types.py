"""What a completion of a task may contain: one interface for records and JSON. Free text has no grammar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from redistill.errors import DataError

Items = frozenset[tuple[str, str]]
"""(field, value) pairs: what F1 counts."""


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a completion, for engines that can be held to it. ``text`` is a grammar in EBNF or a JSON Schema; ``lead`` stands before a completion."""

    kind: Literal["ebnf", "json_schema"]
    text: str
    lead: str = ""


class Grammar(Protocol):
    """The form of a task's completions. All methods that take a ``line`` raise ``DataError`` if it breaks the form; the message never quotes it whole."""

    def __hash__(self) -> int: ...

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields whose F1 is shown one by one."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels with which a completion may begin; none where completions do not begin with a label."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Decisions that a limit can be set for: labels, flags, and ``PATH=VALUE`` of JSON."""
        ...

    @property
    def decides(self) -> bool:
        """Whether completions decide anything that ``decisions`` could find."""
        ...

    @property
    def form(self) -> Form:
        """What an engine can be held to. A completion of this form may still break rules that no engine knows, such as that values occur in the message."""
        ...

    def items(self, line: str) -> Items: ...

    def item_of(self, name: str) -> tuple[str, str]:
        """The item of one of ``names``."""
        ...

    def decisions(self, line: str) -> Items:
        """What a completion decides, without what it copies or writes."""
        ...

    def labels_in(self, line: str) -> tuple[str, ...]:
        """The decisions by which rows are grouped, in order."""
        ...

    def spelled(self, line: str) -> str:
        """The one spelling of a completion. Two completions that say the same are then the same text."""
        ...

    def label(self, line: str, text: str) -> str:
        """A label as it trains a student, checked against the row's text."""
        ...

    def objection(self, line: str, text: str) -> str | None:
        """Why a completion cannot train a student, without its values; None if it can."""
        ...


def spelled(grammar: Grammar | None, line: str) -> str:
    """The one spelling of a completion; the text as it is where it is free or breaks the grammar."""
    if grammar is None:
        return line
    try:
        return grammar.spelled(line)
    except DataError:
        return line


def labels_in(grammar: Grammar | None, line: str) -> tuple[str, ...]:
    """The decisions in a completion by which rows are grouped; none where it is free text or breaks the grammar."""
    if grammar is None:
        return ()
    try:
        return grammar.labels_in(line)
    except DataError:
        return ()
