"""The locked teacher: loads what ``teacher.lock.json`` names, and checks it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from redistill.data.teacher_prompt import NO_PROMPT, TeacherPrompt
from redistill.distillation.types import TrainingRow
from redistill.errors import DataError, TeacherError
from redistill.io.json import read_json
from redistill.models.tokenizers import load_tokenizer, tokenizer_digest
from redistill.teacher import fingerprint
from redistill.teacher.prompt_file import read_prompt
from redistill.teacher.types import TeacherCapabilities, TeacherFingerprint
from tasks.paths import ARTIFACTS, LOCK, SOURCES

TEACHER = ARTIFACTS / "teacher"


@dataclass(frozen=True, slots=True)
class LockedTeacher:
    """A teacher as it was locked. ``tokenizer`` is None for an endpoint, whose tokens are not known. ``prompt`` is what only this teacher is shown."""

    fingerprint: TeacherFingerprint
    answers: dict[str, str]
    capabilities: TeacherCapabilities
    backend: str
    path: Path | None
    tokenizer: Any
    prompt: TeacherPrompt = NO_PROMPT

    def answers_from(self, slice: str) -> str:
        """Digest of the teacher version that completes prompts of a slice."""
        return self.answers.get(slice, self.answers["default"])

    @property
    def tokenizer_digest(self) -> str | None:
        return self.capabilities.tokenizer_digest


def refuse_unnamed(lock: LockedTeacher, rows: Iterable[TrainingRow]) -> None:
    """Check that the teacher that the lock names completed these rows, because only its probabilities may be used.

    Raises:
        DataError: another teacher completed a row.
    """
    others = [r for r in rows if r.teacher and r.teacher not in (lock.answers_from(r.slice), lock.answers["default"])]
    if others:
        row = others[0]
        raise DataError(
            f"teacher {row.teacher[:12]} wrote {len(others)} kept rows, but teacher.lock.json names teacher {lock.answers_from(row.slice)[:12]} for them "
            f"(slice {row.slice or 'none'}); run the cycle, or the stages generate, validate and score again"
        )


def require_locked_weights(lock: LockedTeacher, rows: Iterable[TrainingRow] = ()) -> Path:
    """The directory of the teacher's weights, after a check that they are the locked ones and that they completed ``rows``.

    Raises:
        TeacherError: the directory has other weights. Their completions and probabilities would be stored under the locked teacher's name.
        DataError: another teacher completed some of the rows.
    """
    assert lock.path is not None
    digest = fingerprint.as_locked(fingerprint.fingerprint(lock.path, lock.fingerprint.name), lock.fingerprint).digest
    if digest not in lock.answers.values():
        raise TeacherError(
            f"{lock.path} has fingerprint {digest[:12]}, but {LOCK.name} names teacher {lock.answers['default'][:12]}; "
            "lock again with `redistill lock`, or restore the locked checkpoint with `dvc checkout`"
        )
    if others := {r.teacher for r in rows if r.origin == "teacher"} - {digest}:
        raise DataError(
            f"{lock.path} contains teacher {digest[:12]}, but teacher {min(others)[:12]} wrote kept rows; restore it with `dvc checkout`, or ask the present teacher everything with `redistill lock --ask-again` and run the cycle"
        )
    return lock.path


def require_same_tokenizer(lock: LockedTeacher, tokenizer: Any, method: str) -> None:
    """Probabilities belong to token ids, so they can be compared only if both models have the same tokenizer.

    Raises:
        DataError: the student's tokenizer is not the teacher's.
    """
    if lock.tokenizer_digest is not None and lock.tokenizer_digest != tokenizer_digest(tokenizer):
        raise DataError(
            f"the student's tokenizer is not the teacher's, so the same ids mean other tokens and method {method} cannot compare probabilities; "
            "use a student with the teacher's tokenizer, or set alpha to 0 to learn from text only"
        )


def template_date(role: Literal["teacher", "student"]) -> dt.date | None:
    """The date that chat templates state, as ``sources.lock.json`` fixed it; None where prompts are plain text or nothing was locked."""
    models = read_json(SOURCES).get("models", {}) if SOURCES.is_file() else {}
    date = models.get(role, {}).get("template_date")
    return None if date is None else dt.date.fromisoformat(date)


def read_lock(path: Path = LOCK) -> LockedTeacher:
    """Read the lock and the tokenizer of the checkpoint that it names.

    Raises:
        DataError: no lock, or not one of ours; or the teacher's folder has another prompt than the locked one.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing: no teacher has been locked; run `redistill lock`, or a whole cycle")
    tree = read_json(path)
    try:
        current = TeacherFingerprint(**{k: tree["current"][k] for k in ("name", "digest", "parts")})
        capabilities = TeacherCapabilities(**tree["capabilities"])
        backend, answers = tree["source"]["backend"], tree["answers_from"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not a teacher lock ({error}); lock again with `redistill lock`") from None
    local, prompt = backend != "openai", read_prompt(TEACHER)
    if prompt.digest != current.parts.get(fingerprint.PROMPT, ""):
        raise DataError(
            f"{TEACHER} has another prompt for the teacher than {path} names; lock again with `redistill lock`, or restore the folder with `dvc checkout`"
        )
    tokenizer = load_tokenizer(TEACHER) if local else None
    return LockedTeacher(current, answers, capabilities, backend, TEACHER if local else None, tokenizer, prompt)
