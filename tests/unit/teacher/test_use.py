"""What a stage prints about the teacher is what the flow reads."""

from __future__ import annotations

import pytest

from redistill.teacher.use import TeacherUse, read_teacher_use, report_teacher_use


def test_the_flow_reads_what_the_stage_prints(capsys: pytest.CaptureFixture[str]) -> None:
    use = TeacherUse(32, 410, 133, 1800)
    report_teacher_use("generate", use)
    assert read_teacher_use(capsys.readouterr().out) == use


@pytest.mark.parametrize("line", ["", "[generate] 3/4 prompts · 75 %", "[generate] continues: 3 of 4 completions are in the store"])
def test_other_lines_are_none(line: str) -> None:
    assert read_teacher_use(line) is None


def test_a_retry_finds_what_was_asked_before() -> None:
    assert TeacherUse(600, 6000, 100, 1000).then(TeacherUse(30, 300, 700, 7000)) == TeacherUse(630, 6300, 100, 1000)
    assert TeacherUse().then(TeacherUse(1, 2, 3, 4)) == TeacherUse(1, 2, 3, 4)


def test_uses_add_up() -> None:
    assert TeacherUse(1, 2, 3, 4) + TeacherUse(10, 20, 30, 40) == TeacherUse(11, 22, 33, 44)
