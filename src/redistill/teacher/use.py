"""What a stage asked the teacher, and what it found in the completion store: a line that people and the flow read.

It is no part of a stage's files: these are the same, whatever was in the store.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(r"\[[^\]]+\] asked the teacher (\d+) rows \((\d+) tokens\); (\d+) rows \((\d+) tokens\) were in the store")


@dataclass(frozen=True, slots=True)
class TeacherUse:
    """Completions that a stage needed: what it asked the teacher, and what an earlier run had asked and stored. Tokens are those of the completions."""

    asked_rows: int = 0
    asked_tokens: int = 0
    stored_rows: int = 0
    stored_tokens: int = 0

    def __add__(self, other: TeacherUse) -> TeacherUse:
        return TeacherUse(
            self.asked_rows + other.asked_rows,
            self.asked_tokens + other.asked_tokens,
            self.stored_rows + other.stored_rows,
            self.stored_tokens + other.stored_tokens,
        )

    def then(self, retry: TeacherUse) -> TeacherUse:
        """This use and that of a retry, which finds in the store what was asked before."""
        return TeacherUse(
            self.asked_rows + retry.asked_rows,
            self.asked_tokens + retry.asked_tokens,
            max(0, retry.stored_rows - self.asked_rows),
            max(0, retry.stored_tokens - self.asked_tokens),
        )


def report_teacher_use(stage: str, use: TeacherUse) -> None:
    print(
        f"[{stage}] asked the teacher {use.asked_rows} rows ({use.asked_tokens} tokens); "
        f"{use.stored_rows} rows ({use.stored_tokens} tokens) were in the store",
        flush=True,
    )


def read_teacher_use(line: str) -> TeacherUse | None:
    """What ``report_teacher_use`` printed; None for any other line."""
    found = _LINE.match(line)
    return None if found is None else TeacherUse(*map(int, found.groups()))
