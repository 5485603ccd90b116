"""Only the locked weights may complete, score or teach, and only rows that they completed."""

from __future__ import annotations

from pathlib import Path

import pytest

from redistill.distillation.types import TrainingRow
from redistill.errors import DataError, TeacherError
from redistill.models.tokenizers import load_tokenizer, tokenizer_digest
from redistill.teacher.fingerprint import fingerprint
from redistill.teacher.types import TeacherCapabilities
from tasks.locking.locked_teacher import LockedTeacher, require_locked_weights, require_same_tokenizer
from tests.tiny import make_tiny_model


@pytest.fixture
def lock(tiny_model_dir: Path) -> LockedTeacher:
    tokenizer = load_tokenizer(tiny_model_dir)
    locked = fingerprint(tiny_model_dir, "teacher")
    capabilities = TeacherCapabilities("score_given_ids", 0, tokenizer_digest(tokenizer))
    return LockedTeacher(locked, {"default": locked.digest}, capabilities, "transformers", tiny_model_dir, tokenizer)


def row(origin: str, teacher: str) -> TrainingRow:
    return TrainingRow("p", 0, (1, 2), (), "t", "", origin, teacher)  # type: ignore[arg-type]


def test_locked_weights_and_their_own_rows_pass(lock: LockedTeacher) -> None:
    assert require_locked_weights(lock, [row("gold", ""), row("teacher", lock.answers["default"])]) == lock.path


def test_other_weights_are_a_teacher_error(lock: LockedTeacher, tmp_path: Path) -> None:
    other = LockedTeacher(
        lock.fingerprint, lock.answers, lock.capabilities, lock.backend, make_tiny_model(tmp_path / "other", seed=9), None
    )
    with pytest.raises(TeacherError, match=rf"has fingerprint \w{{12}}, but .* {lock.answers['default'][:12]}.*dvc checkout"):
        require_locked_weights(other)


def test_rows_of_another_teacher_are_a_data_error(lock: LockedTeacher) -> None:
    with pytest.raises(DataError, match=f"contains teacher {lock.answers['default'][:12]}, but teacher bbbbbbbbbbbb wrote kept rows"):
        require_locked_weights(lock, [row("gold", ""), row("teacher", "b" * 64)])


def test_other_ids_are_refused_and_an_endpoints_unknown_ones_are_not(lock: LockedTeacher, tmp_path: Path) -> None:
    require_same_tokenizer(lock, lock.tokenizer, "logit")
    other = load_tokenizer(make_tiny_model(tmp_path / "other", vocabulary=300))
    with pytest.raises(DataError, match="mean other tokens and method logit cannot compare probabilities"):
        require_same_tokenizer(lock, other, "logit")
    unknown = TeacherCapabilities("none", 0, None)
    require_same_tokenizer(LockedTeacher(lock.fingerprint, lock.answers, unknown, "openai", None, None), other, "logit")
