"""What a teacher cannot give is refused when it is locked, in one line, before anything is asked or trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from redistill.errors import ConfigError
from redistill.models.tokenizers import tokenizer_digest_of
from redistill.params import load_params
from redistill.teacher.types import TeacherCapabilities
from tasks.locking.teacher_lock import _check_arms
from tests.tiny import make_tiny_model
from tests.tiny_project import make_tiny_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(make_tiny_project(tmp_path, student__model="student"))
    return tmp_path


def local(path: Path) -> TeacherCapabilities:
    return TeacherCapabilities("score_given_ids", 0, tokenizer_digest_of(path))


def test_teacher_and_student_with_different_tokenizers(project: Path) -> None:
    make_tiny_model(project / "student", vocabulary=300)
    with pytest.raises(ConfigError, match="different tokenizers") as caught:
        _check_arms(load_params(), local(project / "teacher"))
    assert "set alpha to 0" in str(caught.value) and "\n" not in str(caught.value)


def test_the_same_tokenizer_passes(project: Path) -> None:
    make_tiny_model(project / "student", layers=2)
    _check_arms(load_params(), local(project / "teacher"))


@pytest.mark.parametrize(
    ("capabilities", "says"),
    [
        (TeacherCapabilities("none", 0, None), "returns none"),
        (TeacherCapabilities("at_generation", 20, None), "set generate.top_k"),
    ],
)
def test_probabilities_that_are_not_there(project: Path, capabilities: TeacherCapabilities, says: str) -> None:
    make_tiny_model(project / "student", layers=2)
    with pytest.raises(ConfigError, match=says):
        _check_arms(load_params(), capabilities)
