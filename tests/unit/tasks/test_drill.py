"""The drill finds a reader that trusts a flag which it should not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from redistill.serving.route_flag import write_route
from tasks.operations import drill as module
from tasks.operations.drill import _STUDENT, READERS, drill


def test_every_reader_gets_the_teacher_when_it_should(tmp_path: Path) -> None:
    flags = tmp_path / "flags.json"
    write_route(flags, replace(_STUDENT, model_version="7"))
    before = flags.read_bytes()
    checks = drill(flags)
    assert all(check.passed for check in checks), [c for c in checks if not c.passed]
    assert len(checks) == 11 * len(READERS) and {c.got for c in checks} == {"student", "cascade", "teacher"}
    assert flags.read_bytes() == before, "the live flag is only read"


def test_a_reader_that_always_answers_student_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.READERS, "careless", lambda _: "student")
    failed = [check for check in drill(tmp_path / "flags.json") if not check.passed]
    assert {check.reader for check in failed} == {"careless"} and len(failed) == 10
