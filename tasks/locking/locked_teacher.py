"""The locked teacher: what ``teacher.lock.json`` names, found again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from redistill.distillation.types import TrainingRow
from redistill.errors import DataError
from redistill.io.json import read_json
from redistill.models.tokenizers import load_tokenizer
from redistill.teacher.types import TeacherCapabilities, TeacherFingerprint
from tasks.paths import ARTIFACTS, LOCK, SOURCES

TEACHER = ARTIFACTS / "teacher"


@dataclass(frozen=True, slots=True)
class LockedTeacher:
    """A teacher as it was locked. ``tokenizer`` is None for an endpoint, whose tokens we cannot see."""

    fingerprint: TeacherFingerprint
    answers: dict[str, str]
    capabilities: TeacherCapabilities
    backend: str
    path: Path | None
    tokenizer: Any

    def answers_from(self, slice: str) -> str:
        """Digest of the teacher version that answers for a slice."""
        return self.answers.get(slice, self.answers["default"])

    @property
    def tokenizer_digest(self) -> str | None:
        return self.capabilities.tokenizer_digest


def refuse_unnamed(lock: LockedTeacher, rows: Iterable[TrainingRow]) -> None:
    """Only a teacher that the lock lets answer may teach its probabilities.

    Raises:
        DataError: a row was completed by another one.
    """
    strange = [r for r in rows if r.teacher is not None and r.teacher != lock.answers_from(r.slice)]
    if strange:
        row = strange[0]
        raise DataError(
            f"teacher {(row.teacher or '')[:12]} completed {len(strange)} kept rows, but the lock lets {lock.answers_from(row.slice)[:12]} answer for them "
            f"(slice {row.slice or 'none'}); run the cycle, or generate, validate and score again"
        )


def template_date(role: Literal["teacher", "student"]) -> dt.date | None:
    """The date that chat templates state, as ``sources.lock.json`` fixed it; None where prompts are plain text or nothing was locked."""
    models = read_json(SOURCES).get("models", {}) if SOURCES.is_file() else {}
    date = models.get(role, {}).get("template_date")
    return None if date is None else dt.date.fromisoformat(date)


def read_lock(path: Path = LOCK) -> LockedTeacher:
    """Read the lock and the tokenizer of the checkpoint that it names.

    Raises:
        DataError: no lock, or not one of ours.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing: no teacher has been locked; run `redistill lock` or a whole cycle")
    tree = read_json(path)
    try:
        current = TeacherFingerprint(**{k: tree["current"][k] for k in ("name", "digest", "parts")})
        capabilities = TeacherCapabilities(**tree["capabilities"])
        backend, answers = tree["source"]["backend"], tree["answers_from"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not a teacher lock ({error}); lock again with `redistill lock`") from None
    local = backend != "openai"
    return LockedTeacher(current, answers, capabilities, backend, TEACHER if local else None, load_tokenizer(TEACHER) if local else None)
