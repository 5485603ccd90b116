"""A line of progress is read by people and by the flow: the flow's pattern must find what the stage prints."""

from __future__ import annotations

import re
import sys

import pytest

from redistill.runtime.progress import LINE, Progress

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    "stage", ["generate", "finetune@kd", "benchmark@base", "tune_teacher", "finetune@my-arm_2", "finetune@kd, 6 layers"]
)
def test_the_flow_reads_what_the_stage_prints(stage: str, capsys: Captured) -> None:
    Progress(stage, 3, "steps", every_s=0)(2)
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.endswith("\n")
    found = LINE.match(printed.err)
    assert found is not None and found.groupdict() == {"stage": stage, "done": "2", "total": "3", "rest": found["rest"]}
    assert re.fullmatch(rf"\[{stage}\] 2/3 steps · 67 % · (ETA )?\d+ s\n", printed.err)


def test_a_line_says_how_far_and_how_long_still() -> None:
    progress = Progress("generate", 200, "prompts")
    assert progress.render(50, 10.0) == "[generate] 50/200 prompts · 25 % · ETA 30 s"
    assert progress.render(200, 40.0) == "[generate] 200/200 prompts · 100 % · 40 s"
    assert progress.render(0, 4.0) == "[generate] 0/200 prompts · 0 % · 4 s"


def test_lines_are_spaced_but_the_end_is_always_told(capsys: Captured) -> None:
    progress = Progress("score", 500, "rows", every_s=1000)
    for done in range(1, 501):
        progress(done)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" rows")[0] for line in lines] == ["[score] 1/500", "[score] 500/500"]


def test_a_log_gets_fewer_lines_as_a_stage_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress("finetune@kd", 560, "steps")
    assert [progress.pause_s(seconds) for seconds in (0.0, 60.0, 300.0, 1200.0, 36_000.0)] == [3.0, 3.0, 15.0, 60.0, 60.0]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert Progress("finetune@kd", 560, "steps").pause_s(36_000.0) == 3.0, "a terminal redraws its line"


def test_what_was_in_the_store_does_not_count_as_speed(capsys: Captured) -> None:
    """600 of 1000 lay in the store: the time left is told from what is made now."""
    progress = Progress("generate", 1000, "prompts")
    progress(600)
    assert capsys.readouterr().err.startswith("[generate] 600/1000 prompts · 60 % ·")
    left = re.search(r"ETA (\d+) s", progress.render(700, 50.0))
    assert left is not None and 145 <= int(left[1]) <= 155


def test_the_first_line_promises_nothing(capsys: Captured) -> None:
    """One row in no time at all says nothing about the 99 that are left."""
    Progress("validate", 100, "prompts")(1)
    assert "ETA 0 s" not in capsys.readouterr().err


def test_a_total_that_becomes_known_later_counts(capsys: Captured) -> None:
    progress = Progress("score", 10, "rows", every_s=0)
    progress(5, 40)
    progress(40)
    assert [line.split(" ·")[0] for line in capsys.readouterr().err.splitlines()] == ["[score] 5/40 rows", "[score] 40/40 rows"]


def test_nothing_to_do_is_no_division_by_zero(capsys: Captured) -> None:
    Progress("generate", 0, "prompts")(0)
    assert "[generate] 0/1 prompts · 0 %" in capsys.readouterr().err
